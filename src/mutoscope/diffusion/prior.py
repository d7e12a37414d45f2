"""How the noise of one frame is related to that of the others.

A prior is a filter over white frames: noise_n = shared * (what came before) + new * white_n, of variance 1.
It is causal, so frames are the same whether they are taken all at once, in chunks or without end; and it does
the same to every sample and pixel, so no sample's noise depends on its batch. Training targets (`mix`),
starting noise (`draw`) and every later draw of a sampler (`Fresh`) go through it, and so have one covariance.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import NormalDist
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from mutoscope.diffusion import noise
from mutoscope.diffusion.schedule import precise
from mutoscope.video import Refusal

Film = Float[Tensor, "b c f h w"]
Frame = Float[Tensor, "b c h w"]
Shape = tuple[int, int, int, int]


class Prior(ABC):
    """Gaussian noise that is white over pixels, channels and samples, but not over frames."""

    @abstractmethod
    def walk(self, white: Iterable[Frame]) -> Iterator[Frame]:
        """Gives white frames this covariance, one at a time; keeps no more of the past than it needs."""

    def mix(self, white: Film) -> Film:
        """Gives a white film this covariance, in float32 or better, on its device."""
        frames = precise(white).movedim(2, 0).contiguous()  # faster to walk over than scattered ones
        return torch.stack(list(self.walk(frames)), dim=2)

    def covariance(self, frames: int) -> Float[Tensor, "f f"]:
        """Of any pixel's noise over the frames, float64: what `mix` does to the unit films."""
        units = torch.eye(frames, dtype=torch.float64)
        mixed = rearrange(self.mix(rearrange(units, "b f -> b 1 f 1 1")), "b 1 f 1 1 -> b f")
        return mixed.T @ mixed

    def draw(
        self, seeds: Sequence[int], shape: Shape, *, device: torch.device | str = "cpu", dtype=torch.float32
    ) -> Film:
        """`noise.draw` with this covariance; mixed on the host too, so no device changes the film."""
        return self.mix(noise.draw(seeds, shape)).to(device, dtype, non_blocking=True)

    def endless(self, seeds: Sequence[int], shape: tuple[int, int, int]) -> Iterator[Frame]:
        """`noise.endless` with this covariance: frame after frame, for films of no set length."""
        return self.walk(noise.endless(seeds, shape))


@dataclass(frozen=True)
class Independent(Prior):
    """Every frame has noise of its own."""

    def walk(self, white: Iterable[Frame]) -> Iterator[Frame]:
        yield from white


@dataclass(frozen=True)
class _Shared(Prior):
    """a: how much is shared, from 0 (nothing: the white noise, bit for bit) to math.inf (one frame)."""

    a: float

    def __post_init__(self):
        if not self.a >= 0:
            raise Refusal(f"noise prior of a = {self.a}: it must be at least 0; 0 is independent frames")


@dataclass(frozen=True)
class Mixed(_Shared):
    """Any two frames correlate by a^2 / (1 + a^2) (PYoCo, Ge et al. 2023, 2305.10474, whose a is 1)."""

    a: float = 1.0

    def walk(self, white: Iterable[Frame]) -> Iterator[Frame]:
        mean, r = None, 1 - 1 / (1 + self.a * self.a)
        for number, own in enumerate(white):
            if mean is None:
                mean = own
                yield own
                continue
            # Of the frames before, the mean is all that matters to this one.
            pull = number * r / (1 + (number - 1) * r)
            frame = torch.add(math.sqrt(max(1 - pull * r, 0)) * own, mean, alpha=pull)
            # A mean that moves by what is new stays, bit for bit, where all frames are alike.
            mean = torch.lerp(mean, frame, 1 / (number + 1))
            yield frame


@dataclass(frozen=True)
class Progressive(_Shared):
    """Frames d apart correlate by r^d, r = a / sqrt(1 + a^2) (PYoCo, 2305.10474, whose a is 2)."""

    a: float = 2.0

    def walk(self, white: Iterable[Frame]) -> Iterator[Frame]:
        last, r = None, math.sin(math.atan(self.a))
        for own in white:
            last = own if last is None else r * last + own / math.hypot(1, self.a)
            yield last


@dataclass(frozen=True)
class Reuse(Prior):
    """The first window's noise again and again, for films longer than a model knows (FreeNoise, 2310.15169).

    Every later `stride` frames are those a `window` before, in another order, so every aligned window holds
    the same noises. The order is drawn from the white noise that is not used otherwise, so it is the seed's
    too. Over seeds, the covariance is 1 / stride between frames whose groups share noises. Raises Refusal
    unless window is a multiple of stride.
    """

    window: int = 16
    stride: int = 4

    def __post_init__(self):
        if not 1 <= self.stride <= self.window or self.window % self.stride:
            raise Refusal(f"noise window {self.window}, stride {self.stride}: it must be some whole strides")

    def covariance(self, frames: int) -> Float[Tensor, "f f"]:
        group = torch.arange(frames) // self.stride
        apart = group[:, None] - group
        shared = (apart % (self.window // self.stride) == 0) & (apart != 0)
        return shared.double() / self.stride + torch.eye(frames, dtype=torch.float64)

    def walk(self, white: Iterable[Frame]) -> Iterator[Frame]:
        past, bags = deque(maxlen=self.window), []
        for number, frame in enumerate(white):
            if number >= self.window:
                if number % self.stride == 0:
                    bags = [list(bag) for bag in torch.stack(list(islice(past, self.stride)), dim=1)]
                keys = frame[:, 0, 0, 0].tolist()
                frame = torch.stack([_taken(bag, key) for bag, key in zip(bags, keys, strict=True)])
            past.append(frame)
            yield frame


def _taken(bag: list[Tensor], key: float) -> Tensor:
    """One of the bag, each equally likely for a standard normal key."""
    return bag.pop(min(int(NormalDist().cdf(key) * len(bag)), len(bag) - 1))


class PriorSettings(BaseModel):
    """A prior by its name. a: of mixed (1 if None) and progressive (2 if None); refused for others.

    `reuse` is for sampling films longer than `window`, which is then as many whole strides as fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["independent", "mixed", "progressive", "reuse"] = "independent"
    a: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _shares(self) -> "PriorSettings":
        if self.a is not None and self.name not in ("mixed", "progressive"):
            raise Refusal(f"noise {self.name}:{self.a:g}: only mixed and progressive noise take a number")
        return self

    def prior(self, *, window: int = 16) -> Prior:
        stride = min(4, window)
        match self.name:
            case "mixed":
                return Mixed() if self.a is None else Mixed(self.a)
            case "progressive":
                return Progressive() if self.a is None else Progressive(self.a)
            case "reuse":
                return Reuse(window - window % stride, stride)
        return Independent()


@dataclass(frozen=True, eq=False)
class Fresh:
    """The noise that a sampler asks for on its way: of each sample, a function of (seed, step, purpose)."""

    seeds: Sequence[int]
    shape: Shape
    prior: Prior = Independent()
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32

    def __call__(self, step: int, purpose: str) -> Film:
        seeds = [noise.stream(seed, f"{purpose} {step}") for seed in self.seeds]
        return self.prior.draw(seeds, self.shape, device=self.device, dtype=self.dtype)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, frames

    draw(frames.prior)
