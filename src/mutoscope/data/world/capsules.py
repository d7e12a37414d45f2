"""Pictures from tapered capsules: a body is a list of them, painted in order with soft edges and a little
volume.

A capsule's distance is that to its axis minus a radius that changes linearly along it. Only the few pixels
around a capsule are computed: for every part, boxes of one size are cut from all pictures of the batch at
their own places, painted, and put back, so the work is that of the bodies and not of the pictures, and it is
one batched formula a part on any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["Part", "Parts", "Stage", "paint"]


@dataclass(frozen=True)
class Part:
    """A capsule from `a` to `b` ("n 2", body heights), the radii at its ends, and its colour."""

    a: Float[Tensor, "n 2"]
    b: Float[Tensor, "n 2"]
    radii: tuple[float, float]
    colour: Float[Tensor, "n 3"] | Float[Tensor, "3"]


@dataclass(frozen=True)
class Parts:
    """Parts of n bodies, painted in order, "part n ..."; a part with negative radii covers nothing."""

    a: Float[Tensor, "k n 2"]
    b: Float[Tensor, "k n 2"]
    radius: Float[Tensor, "k n 2"]
    colour: Float[Tensor, "k n 3"]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "Parts":
        a, b = torch.stack([part.a for part in parts]), torch.stack([part.b for part in parts])
        radius = torch.tensor([part.radii for part in parts])[:, None].expand(-1, a.shape[1], -1)
        return cls(a, b, radius, torch.stack([part.colour.expand(a.shape[1], 3) for part in parts]))

    @classmethod
    def gathered(cls, groups: Sequence["Parts"], *, order: Sequence[int]) -> "Parts":
        """Bodies with different numbers of parts as one batch; body i of the result is body order[i] of the
        groups.
        """
        most = max(len(group.a) for group in groups)

        def together(name: str, blank: float) -> Tensor:
            each = [getattr(group, name) for group in groups]
            padded = [F.pad(one, (0, 0, 0, 0, 0, most - len(one)), value=blank) for one in each]
            return torch.cat(padded, 1)[:, torch.tensor(order)]

        return cls(together("a", 0.0), together("b", 0.0), together("radius", -1.0), together("colour", 0.0))

    def to(self, device: torch.device | str) -> "Parts":
        return Parts(*(part.to(device) for part in (self.a, self.b, self.radius, self.colour)))


@dataclass(frozen=True)
class Stage:
    """Where n bodies stand in their pictures, and their light, "n" each.

    `height` of a body, `x` of its middle from the picture's middle and `feet` from its top, all in picture
    heights; `facing` 1 to the right, -1 to the left; `light` "n 3" is a direction in x (the way the body
    faces) and y, and a strength: it brightens the side of every capsule that it falls on, which gives the
    flat shapes their volume.
    """

    height: Float[Tensor, "n"]
    x: Float[Tensor, "n"]
    feet: Float[Tensor, "n"]
    facing: Float[Tensor, "n"]
    light: Float[Tensor, "n 3"]

    def to(self, device: torch.device | str) -> "Stage":
        fields = (self.height, self.x, self.feet, self.facing, self.light)
        return Stage(*(field.to(device) for field in fields))


def paint(
    parts: Parts, stage: Stage, *, size: tuple[int, int], device: torch.device | str = "cpu"
) -> Float[Tensor, "n 4 h w"]:
    """All bodies on transparent pictures of `size` = (width, height): premultiplied RGBA in [0, 1]."""
    width, height = size
    boxes = _boxes(parts, stage, size=size)
    places = boxes.places.to(device)
    parts, stage = parts.to(device), stage.to(device)
    n = parts.a.shape[1]
    canvas = torch.zeros(4, n * height * width, device=device)
    pictures = torch.arange(n, device=device)[:, None, None] * (height * width)
    for k, (box_h, box_w) in enumerate(boxes.sizes):
        if box_h == 0:
            continue
        rows = places[k, :, :1] + torch.arange(box_h, device=device)
        columns = places[k, :, 1:] + torch.arange(box_w, device=device)
        y = (stage.feet[:, None] - (rows + 0.5) / height) / stage.height[:, None]
        x = ((columns + 0.5 - width / 2) / height - stage.x[:, None]) / stage.height[:, None]
        cover, colour = _shaded(parts, k, x * stage.facing[:, None], y, stage=stage, height=height)
        pixels = (pictures + rows[:, :, None] * width + columns[:, None, :]).flatten()
        under = canvas.index_select(1, pixels)
        layer = F.pad(colour.reshape(3, -1), (0, 0, 0, 1), value=1.0)
        canvas.index_copy_(1, pixels, under.lerp_(layer, cover.flatten().expand(4, -1)))
    return canvas.reshape(4, n, height, width).transpose(0, 1)


@dataclass(frozen=True)
class _Boxes:
    """For every part one size (rows, columns) and top left pixels ("part n 2"), all inside the picture."""

    sizes: list[tuple[int, int]]
    places: Tensor


def _boxes(parts: Parts, stage: Stage, *, size: tuple[int, int]) -> _Boxes:
    width, height = size
    limit = torch.tensor([height, width])
    ends = torch.stack([parts.a, parts.b], 2)  # part n end 2
    scale = (stage.height * height)[:, None]
    row = (stage.feet * height)[:, None] - ends[..., 1] * scale
    column = stage.x[:, None] * height + width / 2 + ends[..., 0] * stage.facing[:, None] * scale
    middle = torch.stack([row, column], -1) - 0.5
    extent = (parts.radius * scale + 1.5)[..., None]
    first, last = (middle - extent).amin(2).floor(), (middle + extent).amax(2).ceil()
    used = (parts.radius > 0).all(-1, keepdim=True)
    sizes = torch.where(used, last - first + 1, 0).amax(1).minimum(limit).long()
    places = torch.minimum(first.clamp(min=0), (limit - sizes)[:, None]).long()
    return _Boxes([(int(rows), int(columns)) for rows, columns in sizes.tolist()], places)


def _shaded(
    parts: Parts, k: int, x: Tensor, y: Tensor, *, stage: Stage, height: int
) -> tuple[Tensor, Tensor]:
    """Part k's coverage ("n h w") and lit colour ("3 n h w") at columns x ("n w") and rows y ("n h")."""
    ax, ay, bx, by = (end[:, axis, None, None] for end in (parts.a[k], parts.b[k]) for axis in (0, 1))
    near, far = parts.radius[k, :, 0, None, None], parts.radius[k, :, 1, None, None]
    edge = (height * stage.height)[:, None, None]
    push = (stage.light[:, :2] * stage.light[:, 2:])[:, :, None, None]
    dx, dy, ex, ey = x[:, None, :] - ax, y[:, :, None] - ay, bx - ax, by - ay
    along = ((dx * ex + dy * ey) / (ex * ex + ey * ey + 1e-6)).clamp_(0, 1)
    dx, dy, radius = dx - along * ex, dy - along * ey, torch.lerp(near, far, along)
    cover = ((radius - torch.hypot(dx, dy)) * edge).add_(0.5).clamp_(0, 1)
    shade = ((dx * push[:, 0] + dy * push[:, 1]) / radius.clamp(min=1e-3)).clamp_(-0.35, 0.6).add_(1.0)
    colour = parts.colour[k].T[:, :, None, None]
    return cover, (shade * colour).clamp_(0, 1)
