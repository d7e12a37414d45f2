"""What is drawn, before anybody decides how.

A figure is a row or more of panels; a panel is curves on a pair of axes, or a table of numbers as shades. All
of it is numbers, so that `terminal` can draw it with characters, `picture` with colours, and a test can ask
whether they are right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Stroke = Literal["line", "dashes", "dots", "marked"]


@dataclass(frozen=True, eq=False)
class Curve:
    """y over x. colour: a number of the house's palette, or None for the next; so pairs can share one.

    marked is a line with a dot at every point. A curve without a name is left out of the legend; what is not
    finite is left out of the drawing.
    """

    name: str
    x: Float[Tensor, " points"]
    y: Float[Tensor, " points"]
    stroke: Stroke = "line"
    colour: int | None = None


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves on one pair of axes. rows: names for y = 0, 1, 2 ... instead of a scale."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = False
    log_y: bool = False
    rows: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Heat:
    """A table as shades from `low` (blank) to `high`; the first row is on top. Below 0 another hue begins.

    square: cells are as high as wide, as in a matrix or a picture. tile: so many rows and columns of cells
    belong together and are counted as one.
    """

    title: str
    x: str
    y: str
    values: Float[Tensor, "rows columns"]
    low: float = 0.0
    high: float = 1.0
    square: bool = False
    tile: int = 1


Panel = Curves | Heat


@dataclass(frozen=True, eq=False)
class Figure:
    """title: one line that says what is to be seen. across: panels in a row."""

    title: str
    panels: Sequence[Panel]
    across: int = 3


def palette(curves: Sequence[Curve]) -> list[int]:
    """Every curve's colour: its own, or the next that no curve before it has."""
    chosen: list[int] = []
    for curve in curves:
        chosen.append(curve.colour if curve.colour is not None else max(chosen, default=-1) + 1)
    return chosen
