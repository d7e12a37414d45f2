"""Moving MNIST (Srivastava et al. 2015, 1502.04681): handwritten digits that bounce around in the dark.

Clips without end from an archive `mnist.npz` (Keras's: `x_train` "n 28 28" uint8, `y_train`), drawn as they
are asked for: each digit flies straight and is thrown back by the edges, and where two meet the brighter
shows. The next frame follows from the last two alone, which makes it a plain test of whether a model has
learnt to move things.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mutoscope.data.loader import Batch
from mutoscope.video import Refusal

__all__ = ["ARCHIVE", "DigitSource"]

ARCHIVE = "mnist.npz"
CANVAS = 64
"""The side of the original's pictures, in which digits are 28 pixels and fly about 3 a frame."""


@dataclass(frozen=True)
class DigitSource:
    """Clips of `digits` digits each, as large on the frame as in the original."""

    pictures: UInt8[Tensor, "n 28 28"] = field(repr=False)
    names: list[int] = field(repr=False)
    frames: int = 20
    size: tuple[int, int] = (64, 64)
    fps: float = 10.0
    seed: int = 0
    digits: int = 2

    @classmethod
    def read(cls, archive: str | Path, **settings) -> "DigitSource":
        """The source of an archive. Raises Refusal if it is none."""
        try:
            with np.load(archive, allow_pickle=False) as found:
                pictures, names = torch.from_numpy(found["x_train"]), found["y_train"].tolist()
        except (OSError, ValueError, KeyError) as error:
            raise Refusal(f"{archive}: no archive of digits with x_train and y_train ({error})") from None
        return cls(pictures, names, **settings)

    @property
    def words(self) -> list[str]:
        """All that captions may say."""
        return [self._caption(pair) for pair in ([a, b] for a in range(10) for b in range(10))]

    def batch(self, step: int, count: int) -> Batch:
        drawn = [self._clip(step * count + number) for number in range(count)]
        light = torch.stack([film for film, _ in drawn])
        video = repeat(2 * light - 1, "b f h w -> b c f h w", c=3)
        return Batch(video.contiguous(), [caption for _, caption in drawn], light)

    def _clip(self, number: int) -> tuple[Float[Tensor, "f h w"], str]:
        random = np.random.default_rng([self.seed, number, 3])
        chosen = random.integers(len(self.names), size=self.digits)
        side = max(1, round(min(self.size) * 28 / CANVAS))
        film = torch.zeros(self.frames, self.size[1], self.size[0])
        for index in chosen.tolist():
            digit = self._digit(index, side)
            for frame, (x, y) in zip(film, self._path(random, side), strict=True):
                part = frame[y : y + side, x : x + side]
                torch.maximum(part, digit, out=part)
        return film, self._caption([self.names[index] for index in chosen.tolist()])

    def _digit(self, index: int, side: int) -> Float[Tensor, "side side"]:
        picture = self.pictures[index][None, None].float() / 255
        return functional.interpolate(picture, (side, side), mode="bilinear", antialias=True)[0, 0]

    def _path(self, random: np.random.Generator, side: int) -> list[tuple[int, int]]:
        """Upper left corners: a straight flight, folded where it meets an edge."""
        room = np.array(self.size) - side
        angle = random.uniform(0, 2 * np.pi)
        speed = min(self.size) / CANVAS * random.uniform(2, 5)
        way = np.outer(np.arange(self.frames), speed * np.array([np.cos(angle), np.sin(angle)]))
        unfolded = random.uniform(0, 1, size=2) * room + way
        folded = room - np.abs(unfolded % (2 * room + 1e-9) - room)
        return [(int(x), int(y)) for x, y in np.rint(folded)]

    def _caption(self, names: list[int]) -> str:
        if len(names) == 1:
            return f"the digit {names[0]} bounces around"
        first, last = sorted(names)[:-1], max(names)
        return f"the digits {', '.join(map(str, first))} and {last} bounce around"
