"""A figure as characters, for a terminal.

Curves are marks on a canvas, one mark a colour, dashes in every second column; tables are shades, those of a
plan's own `str`. Plain ASCII, so that it can be piped, and put into a picture as its words.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure, Heat, Panel, palette
from mutoscope.diffusion.plan import SHADES

WIDE, HIGH = 60, 16
MARKS = "ox+*#@%&"
MARGIN = 9


def text(figure: Figure) -> str:
    """The whole figure, panel under panel."""
    return "\n\n".join([figure.title, *("\n".join(_panel(panel)) for panel in figure.panels)])


def _panel(panel: Panel) -> Iterator[str]:
    yield panel.title
    yield from _curves(panel) if isinstance(panel, Curves) else _heat(panel)


def _heat(panel: Heat) -> Iterator[str]:
    rows, columns = panel.values.shape
    seen = panel.values[_picked(rows, HIGH * 2)][:, _picked(columns, WIDE)]
    share = ((seen - panel.low) / (panel.high - panel.low)).clamp(0, 1)
    wide = max(WIDE // 2 // seen.shape[1], 1)  # small tables are drawn larger
    # Halves go up, also those that rounding left a little below, or machines would draw apart.
    shades = (share * (len(SHADES) - 1) + 0.5 + 1e-6).floor()
    for row in shades.int().tolist():
        yield f"{'':{MARGIN}}|{''.join(SHADES[shade] * wide for shade in row)}|"
    ends = f"{_short(panel.low)} is blank, {_short(panel.high)} is {SHADES[-1]}"
    yield f"{'':{MARGIN}} across: {panel.x}; down: {panel.y}; {ends}"


def _picked(count: int, most: int) -> Tensor:
    """Evenly spread places, all of them if they are few enough."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _curves(panel: Curves) -> Iterator[str]:
    x, y = _span([curve.x for curve in panel.curves], panel.log_x), _ordinates(panel)
    canvas = [[" "] * WIDE for _ in range(HIGH)]
    colours = palette(panel.curves)
    for curve, colour in zip(panel.curves, colours, strict=True):
        across, up = _scaled(curve.x, x, panel.log_x), _scaled(curve.y, y, panel.log_y)
        for column, row in _cells(curve, across, up):
            canvas[HIGH - 1 - row][column] = MARKS[colour % len(MARKS)]
    for number, line in enumerate(canvas):
        edge = {0: y[1], HIGH - 1: y[0]}.get(number)
        yield f"{'' if edge is None else _short(edge):>{MARGIN - 1}} |{''.join(line).rstrip()}"
    yield f"{'':{MARGIN}}+{'-' * WIDE}"
    yield f"{'':{MARGIN}} {_short(x[0])}{panel.x:^{WIDE - 12}}{_short(x[1]):>6}".rstrip()
    yield f"{'':{MARGIN}} y: {panel.y}" + "".join(f"; {row}: {name}" for row, name in enumerate(panel.rows))
    named = zip(panel.curves, colours, strict=True)
    marks = [f"{MARKS[colour % len(MARKS)]} {curve.name}" for curve, colour in named if curve.name]
    if marks:
        yield f"{'':{MARGIN}} {'   '.join(marks)}"


def _cells(curve: Curve, across: Tensor, up: Tensor) -> Iterator[tuple[int, int]]:
    """The columns and rows of the canvas that a curve goes through."""
    known = across.isfinite() & up.isfinite()
    across, up = across[known] * (WIDE - 1), up[known] * (HIGH - 1)
    if curve.stroke != "dots" and len(across) > 1:
        every = 2 if curve.stroke == "dashes" else 1
        columns = torch.arange(math.ceil(across.min()), float(across.max()) + 1e-9, every, dtype=across.dtype)
        across, up = columns, _between(across, up, columns)
    yield from zip(across.round().int().tolist(), up.round().int().tolist(), strict=True)


def _between(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The heights of straight lines between points, x in any order."""
    order = x.argsort()
    x, y = x[order].contiguous(), y[order]
    above = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    gap = (x[above] - x[above - 1]).clamp(min=1e-12)
    return torch.lerp(y[above - 1], y[above], ((at - x[above - 1]) / gap).clamp(0, 1))


def _ordinates(panel: Curves) -> tuple[float, float]:
    if panel.rows:
        return -0.5, len(panel.rows) - 0.5
    return _span([curve.y for curve in panel.curves], panel.log_y)


def _span(values: Sequence[Tensor], log: bool) -> tuple[float, float]:
    """The least and the greatest of what can be drawn."""
    flat = torch.cat([value.double() for value in values])
    flat = flat[flat.isfinite() & (flat > 0)] if log else flat[flat.isfinite()]
    return float(flat.min()), float(flat.max())


def _scaled(values: Tensor, span: tuple[float, float], log: bool) -> Tensor:
    """From the span to [0, 1]."""
    values, ends = values.double(), torch.tensor(span, dtype=torch.float64)
    if log:
        values, ends = torch.where(values > 0, values, torch.nan).log(), ends.log()
    return (values - ends[0]) / (ends[1] - ends[0]).clamp(min=1e-12)


def _short(value: float) -> str:
    return f"{value:.3g}"
