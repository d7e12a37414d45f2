"""Guidance is a denoiser made of denoisers.

    guided = negative + scale * (positive - negative)

It goes wherever a denoiser goes, and a sampler cannot tell. Scale 1 is no guidance: one call, and bit for bit
what the denoiser alone would say; 0 is the negative. (Some papers write 1 + w for the scale.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.schedule import Schedule, spread
from mutoscope.video import Refusal


@dataclass(frozen=True, eq=False)
class ClassifierFree:
    """Away from the negative condition, towards the one asked for (Ho & Salimans 2022, 2207.12598).

    scale: one number, or one for every frame. negative: a condition that means "anything", or what not to
    show. band: guide only frames with lo < t <= hi (Kynkäänniemi et al. 2024, 2404.07724, gated on t itself
    so that a sampler's intermediate looks obey it too); steps with no frame in it make one call. rescale: phi
    in [0, 1], how far each sample's standard deviation is drawn back to that of the unguided guess
    (2305.08891, section 3.4).
    """

    denoiser: Denoiser
    scale: int | float | Sequence[float]
    negative: Any = None
    band: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    def __post_init__(self):
        lo, hi = self.band
        if not 0 <= lo <= hi <= 1:
            raise Refusal(f"guidance band {self.band}: it must be (lo, hi) with 0 <= lo <= hi <= 1")
        if not 0 <= self.rescale <= 1:
            raise Refusal(f"guidance rescale {self.rescale}: it must be in [0, 1]; 0 is none, 0.7 is usual")

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(
        self, noisy: Float[Tensor, "b c f h w"], t: Float[Tensor, "b f"], condition: Any
    ) -> Float[Tensor, "b c f h w"]:
        positive = self.denoiser(noisy, t, condition)
        scale = self._scale(t)
        if bool((scale == 1).all()):
            return positive
        negative = self.denoiser(noisy, t, self.negative)
        # lerp, because it is exact at both ends: frames of scale 1 are the positive's, bit for bit.
        guided = torch.lerp(negative, positive, spread(scale, positive).to(positive))
        return _rescaled(guided, positive, phi=self.rescale) if self.rescale else guided

    def _scale(self, t: Tensor) -> Tensor:
        scale = torch.as_tensor(self.scale, dtype=t.dtype, device=t.device)
        if scale.ndim and scale.shape != t.shape[1:]:
            raise Refusal(
                f"{len(scale)} guidance scales for {t.shape[1]} frames: give one number, or one a frame"
            )
        lo, hi = self.band
        return torch.where((lo < t) & (t <= hi), scale, 1.0)


def _rescaled(guided: Tensor, positive: Tensor, *, phi: float) -> Tensor:
    """phi * guided * std(positive) / std(guided) + (1 - phi) * guided, the deviations per sample."""
    ratio = _deviation(positive) / _deviation(guided)
    return guided * (phi * ratio + (1 - phi))


def _deviation(film: Tensor) -> Tensor:
    return reduce(film.double(), "b c f h w -> b 1 1 1 1", torch.std).to(film)
