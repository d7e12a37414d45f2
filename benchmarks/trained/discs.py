"""Films of one coloured disc that flies in a box and bounces: the state of the world is known.

    place(f) = reflected(start + velocity f)        pixel = edge (disc) + (1 - edge) (background)

Colours never change within a film, a disc never vanishes, and the walls hold it for ever; so what a
roll-out loses can be measured in films of any length. The background is dark and plain, the disc of full
saturation.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["KINDS", "Discs", "Sample", "hues"]

KINDS = 4
"""Kinds of discs, by the middle of their hue: red, yellow-green, cyan, violet."""


@dataclass(frozen=True, eq=False)
class Sample:
    """video: "b 3 f h w" in [-1, 1]. kind: which hue, from 0. speed: pixels a frame. place: of the middle."""

    video: Float[Tensor, "b 3 f h w"]
    kind: Int[Tensor, " b"]
    speed: Float[Tensor, " b"]
    place: Float[Tensor, "b f 2"]


@dataclass(frozen=True)
class Discs:
    """How the films are drawn.

    size: pixels of a side. frames: of a film. speed: pixels a frame, from and to; 0 and 0 stand still.
    spread: of the hue around its kind's, in parts of the way to the next kind; 0.5 and more overlaps.
    """

    size: int = 16
    frames: int = 8
    speed: tuple[float, float] = (0.5, 2.0)
    spread: float = 0.3

    @property
    def radius(self) -> float:
        """To the middle of the edge, which is `edge` wide: soft, so that a small network can draw it."""
        return self.size * 7 / 32

    @property
    def edge(self) -> float:
        return self.size * 3 / 16

    @property
    def amount(self) -> float:
        """Pixels that a disc covers, those of the edge counted by their share."""
        return torch.pi * (self.radius**2 + self.edge**2 / 12)

    def draw(self, seed: int, count: int, *, device: torch.device | str = "cpu") -> Sample:
        """`count` films, a function of the seed alone."""
        generator = torch.Generator().manual_seed(seed)
        number = torch.rand(count, 8, generator=generator)
        normal = torch.randn(count, generator=generator)
        kind = (number[:, 0] * KINDS).long()
        disc = hues((kind + self.spread * normal) / KINDS)
        ground = 0.8 * number[:, 1:4] - 0.8
        speed = self.speed[0] + (self.speed[1] - self.speed[0]) * number[:, 4]
        place = self._path(number[:, 5:7], speed, angle=2 * torch.pi * number[:, 7])
        video = self._painted(place.to(device), disc.to(device), ground.to(device))
        return Sample(video, kind, speed, place)

    def _path(self, start: Tensor, speed: Tensor, *, angle: Tensor) -> Float[Tensor, "b f 2"]:
        """Where the middle is, frame by frame: a straight line folded at the walls."""
        room = self.size - 2 * self.radius
        velocity = speed[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
        frame = torch.arange(self.frames, dtype=torch.float32)
        straight = room * start[:, None] + frame[:, None] * velocity[:, None]
        folded = straight % (2 * room)
        return self.radius + torch.minimum(folded, 2 * room - folded)

    def _painted(self, place: Tensor, disc: Tensor, ground: Tensor) -> Float[Tensor, "b 3 f h w"]:
        pixel = torch.arange(self.size, device=place.device) + 0.5
        x, y = rearrange(place, "b f two -> two b f 1 1")
        distance = torch.hypot(pixel - x, pixel[:, None] - y)
        edge = ((self.radius - distance) / self.edge + 0.5).clamp(0, 1)[:, None]
        disc, ground = (rearrange(colour, "b c -> b c 1 1 1") for colour in (disc, ground))
        return ground + edge * (disc - ground)


def hues(turn: Float[Tensor, " b"]) -> Float[Tensor, "b 3"]:
    """Fully saturated colours in [-1, 1] for hues in turns."""
    offset = torch.tensor([0.0, 4.0, 2.0])
    wave = (6 * turn[:, None] + offset) % 6
    return (2 * ((wave - 3).abs() - 1).clamp(0, 1) - 1).float()
