"""A strip of scenery being painted: shapes from signed distances, with soft edges, on a canvas that repeats.

The canvas is `PERIOD` picture heights wide and its ends meet, so a window may move over it forever. Shapes
are painted one over the other as premultiplied RGBA, each only into the rows and columns that it can cover.
Light without matter is colour with alpha 0. Lengths are in picture heights, y points down.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PERIOD", "Canvas", "Rgb"]

PERIOD = 4.0

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Canvas:
    """A strip or a part of one: its pixels, where they are, and how many of them make a picture height."""

    rgba: Float[Tensor, "4 h w"]
    x: Float[Tensor, "1 w"]
    y: Float[Tensor, "h 1"]
    height: int

    @classmethod
    def blank(cls, height: int) -> "Canvas":
        """A whole strip, transparent."""
        width = round(PERIOD * height)
        x = (torch.arange(width) + 0.5) / height
        y = (torch.arange(height) + 0.5) / height
        return cls(torch.zeros(4, height, width), x[None, :], y[:, None], height)

    def around(self, x: float, *, reach: float, top: float = 0.0, bottom: float = 1.0) -> Iterator["Canvas"]:
        """The parts of a whole strip within `reach` of column x, the way round included: one or two."""
        first = floor((x - reach) * self.height) - 1
        last = ceil((x + reach) * self.height) + 1
        width = self.x.shape[1]
        if last - first >= width:
            first, last = 0, width
        start, stop = first % width, first % width + last - first
        rows = slice(max(0, floor(top * self.height) - 1), max(0, ceil(bottom * self.height) + 1))
        for columns in (slice(start, min(stop, width)), slice(0, max(0, stop - width))):
            if columns.stop > columns.start:
                yield Canvas(self.rgba[:, rows, columns], self.x[:, columns], self.y[rows], self.height)

    def from_x(self, x: float) -> Float[Tensor, "1 w"]:
        """Signed distance from column x, the short way round the strip."""
        return (self.x - x + PERIOD / 2) % PERIOD - PERIOD / 2

    def soft(self, distance: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
        """Coverage of a shape from its signed distance (negative inside): one pixel of soft edge."""
        return (0.5 - distance * self.height).clamp_(0, 1)

    def paint(self, cover: Float[Tensor, "#h #w"], colour: Rgb) -> None:
        """Lay a colour over what is there."""
        layer = torch.tensor((*colour, 1.0))[:, None, None]
        self.rgba.add_(cover * (layer - self.rgba))

    def shine(self, strength: Float[Tensor, "#h #w"], colour: Rgb) -> None:
        """Add light without matter."""
        self.rgba[:3].add_(strength * torch.tensor(colour)[:, None, None])

    def box(self, x: float, top: float, *, width: float, bottom: float, colour: Rgb) -> None:
        """A rectangle around column x."""
        for part in self.around(x, reach=width / 2, top=top, bottom=bottom):
            across = part.soft(part.from_x(x).abs() - width / 2)
            down = part.soft(torch.maximum(top - part.y, part.y - bottom))
            part.paint(torch.minimum(across, down), colour)

    def boxes(
        self,
        x: float,
        rows: Sequence[tuple[float, float, Sequence[float]]],
        *,
        width: float,
        colour: Rgb,
    ) -> None:
        """Rows of rectangles that do not touch: their top, bottom, and offsets from column x."""
        reach = width / 2 + max((abs(offset) for row in rows for offset in row[2]), default=0.0)
        top, bottom = min(row[0] for row in rows), max(row[1] for row in rows)
        for part in self.around(x, reach=reach, top=top, bottom=bottom):
            cover = torch.zeros(1, 1)
            for above, below, offsets in rows:
                if offsets:
                    middles = torch.stack([part.from_x(x + offset) for offset in offsets])
                    across = part.soft(middles.abs() - width / 2).amax(0)
                    down = part.soft(torch.maximum(above - part.y, part.y - below))
                    cover = torch.maximum(cover, torch.minimum(across, down))
            part.paint(cover, colour)

    def disc(self, x: float, y: float, *, radius: float, colour: Rgb, stretch: float = 1.0) -> None:
        """A disc, or an ellipse `stretch` times as wide as high."""
        for part in self.around(x, reach=radius * stretch, top=y - radius, bottom=y + radius):
            part.paint(part.soft(torch.hypot(part.from_x(x) / stretch, part.y - y) - radius), colour)

    def below(self, line: Float[Tensor, "1 w"] | float, colour: Rgb) -> None:
        """Everything under a height profile."""
        top = float(line.min()) if isinstance(line, Tensor) else line
        for part in self.around(0.0, reach=PERIOD, top=top):
            part.paint(part.soft(line - part.y), colour)

    def glow(self, x: float, y: float, *, radius: float, strength: float, colour: Rgb) -> None:
        """Light that fades with the distance from a lamp."""
        distance = torch.hypot(self.from_x(x), self.y - y) / radius
        self.shine(strength * torch.exp(-3.0 * distance), colour)
