"""Guidance is a denoiser made of denoisers.

    guided = negative + scale * (positive - negative)

It goes wherever a denoiser goes, and a sampler cannot tell. Scale 1 is no guidance: one call, and bit for bit
what the denoiser alone would say; 0 is the negative. (Some papers write 1 + w for the scale.) Here are
classifier-free guidance and what was made of it; guidance between two models is in `contrast`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.schedule import Schedule, precise, spread
from mutoscope.video import Refusal

Film = Float[Tensor, "b c f h w"]
Times = Float[Tensor, "b f"]
Scale = int | float | Sequence[float]
Band = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Guided(Denoiser):
    """A denoiser made of another, on the same schedule."""

    denoiser: Denoiser

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule


@dataclass(frozen=True, eq=False)
class Conditional(Guided, ABC):
    """Away from the negative condition, towards the one asked for.

    scale: one number, or one for every frame. negative: a condition that means "anything", or what not to
    show. band: guide only frames with lo < t <= hi (Kynkäänniemi et al. 2024, 2404.07724, gated on t itself
    so that a sampler's intermediate looks obey it too; `band_of` makes one of noise levels); steps with no
    frame in it make one call. rescale: phi in [0, 1], how far each sample's standard deviation is drawn back
    to that of the unguided guess (2305.08891, section 3.4).
    """

    scale: Scale
    negative: Any = None
    band: Band = (0.0, 1.0)
    rescale: float = 0.0

    def __post_init__(self):
        check_band(self.band)
        if not 0 <= self.rescale <= 1:
            raise Refusal(f"guidance rescale {self.rescale}: it must be in [0, 1]; 0 is none, 0.7 is usual")

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        positive = self.denoiser(noisy, t, condition)
        scale = scales(self.scale, t=t, band=self.band)
        if bool((scale == 1).all()):
            return positive
        negative = self.denoiser(noisy, t, self.negative)
        guided = self._apart(negative, positive, scale=spread(scale, positive).to(positive), noisy=noisy, t=t)
        return _rescaled(guided, positive, phi=self.rescale) if self.rescale else guided

    @abstractmethod
    def _apart(self, negative: Film, positive: Film, *, scale: Tensor, noisy: Film, t: Times) -> Film:
        """Frames of scale 1 are the positive's."""


@dataclass(frozen=True, eq=False)
class ClassifierFree(Conditional):
    """negative + scale (positive - negative) (Ho & Salimans 2022, 2207.12598)."""

    def _apart(self, negative: Film, positive: Film, *, scale: Tensor, noisy: Film, t: Times) -> Film:
        # lerp, because it is exact at both ends: frames of scale 1 are the positive's, bit for bit.
        return torch.lerp(negative, positive, scale)


@dataclass(frozen=True, eq=False)
class Projected(Conditional):
    """Adaptive projected guidance (APG; Sadat et al. 2024, 2410.02416): high scales without burnt colours.

    Each sample's change, positive - negative, is shortened to the norm `longest` if it is longer; then its
    part along the positive guess, which mostly saturates, counts `parallel` times (eta: 1 is plain). The
    paper's negative momentum is left out: it remembers the call before, which a denoiser cannot.
    """

    parallel: float = 0.0
    longest: float = torch.inf

    def _apart(self, negative: Film, positive: Film, *, scale: Tensor, noisy: Film, t: Times) -> Film:
        change = positive - negative
        if self.longest < torch.inf:
            change = change * (self.longest / _dot(change, change).sqrt()).clamp(max=1)
        along = (1 - self.parallel) * _ratio(_dot(change, positive), _dot(positive, positive))
        return torch.addcmul(positive, scale - 1, torch.addcmul(change, along, positive, value=-1))


@dataclass(frozen=True, eq=False)
class ZeroStar(Conditional):
    """CFG-Zero* (Fan et al. 2025, 2503.18886), for flow models, least to be trusted near noise.

    The negative's flow (noise - clean) is first multiplied by what brings it closest to the positive's,
    s = <positive, negative> / |negative|^2, one number a sample; frames without noise do not count in it.
    Frames with t >= rest_from have no flow: by default in a frame's first step from pure noise, which then
    leaves it as it is (on RectifiedFlow) and costs no call if all do; infinity is never.
    """

    rest_from: float = 1.0

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        rests = t >= self.rest_from
        if bool(rests.all()):
            return self._still(noisy, t)
        guided = super().__call__(noisy, t, condition)
        if not bool(rests.any()):
            return guided
        return torch.where(spread(rests.double(), noisy) > 0, self._still(noisy, t), guided)

    def _apart(self, negative: Film, positive: Film, *, scale: Tensor, noisy: Film, t: Times) -> Film:
        still, level = self._still(noisy, t), self.schedule.level(t)
        # A flow is (still - clean) (alpha + sigma) / sigma, so all of this can be said of clean films.
        length = torch.where(level.sigma > 0, (level.alpha + level.sigma) / level.sigma, 0.0)
        yes, no = (spread(length, noisy) * (still - clean) for clean in (positive, negative))
        return torch.lerp(torch.lerp(still, negative, _ratio(_dot(yes, no), _dot(no, no))), positive, scale)

    def _still(self, noisy: Film, t: Times) -> Film:
        """The clean film that, said of `noisy`, means no flow."""
        level = self.schedule.level(t)
        return precise(noisy) / spread(level.alpha + level.sigma, noisy)


def band_of(schedule: Schedule, *, lo: float, hi: float) -> Band:
    """The times with lo < sigma / alpha <= hi: EDM's sigma, in which papers state their bands."""
    ends = torch.zeros(2, dtype=torch.float64)
    for bit in range(1, 53):  # the latest time that is still at most so noisy, bit by bit
        later = ends + 2.0**-bit
        quiet = schedule.sigma(later) <= torch.tensor([lo, hi]) * schedule.alpha(later)
        ends = torch.where(quiet, later, ends)
    return ends[0].item(), ends[1].item()


def check_band(band: Band) -> None:
    """Raises Refusal unless 0 <= lo <= hi <= 1."""
    if not 0 <= band[0] <= band[1] <= 1:
        raise Refusal(f"guidance band {band}: it must be (lo, hi) with 0 <= lo <= hi <= 1")


def scales(scale: Scale, *, t: Times, band: Band) -> Times:
    """Every frame's scale: as given inside the band, 1 outside. Raises Refusal for another number of them."""
    given = torch.as_tensor(scale, dtype=t.dtype, device=t.device)
    if given.ndim and given.shape != t.shape[1:]:
        raise Refusal(
            f"{len(given)} guidance scales for {t.shape[1]} frames: give one number, or one a frame"
        )
    return torch.where((band[0] < t) & (t <= band[1]), given, 1.0)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2, 3, 4), keepdim=True, dtype=torch.float64).to(one)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, 1.0)


def _rescaled(guided: Tensor, positive: Tensor, *, phi: float) -> Tensor:
    """phi * guided * std(positive) / std(guided) + (1 - phi) * guided, the deviations per sample."""
    ratio = _deviation(positive) / _deviation(guided)
    return guided * (phi * ratio + (1 - phi))


def _deviation(film: Tensor) -> Tensor:
    """Of each sample, but for a factor that all have; summed in float64."""
    apart = film - film.mean(dim=(1, 2, 3, 4), keepdim=True, dtype=torch.float64).to(film)
    return _dot(apart, apart).sqrt()


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import denoisers, draw

    draw(denoisers.guidance)
