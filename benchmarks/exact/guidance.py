"""E7: what guidance does to the spread of samples.

Guided from N(0, 2^2) towards N(0, 1) at scale w, exact sampling ends in a Gaussian of deviation

    sc^w su^(1-w),    with a band (lo, hi] of sigma / alpha:
    sc [(sc^2 + lo^2) (su^2 + hi^2) / ((sc^2 + hi^2) (su^2 + lo^2))]^((w-1)/2)

so high scales contract by powers, and a band keeps some of the spread. A weaker model that is N(0, 2^2) under
every condition does the same by autoguidance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.contrast import Autoguidance
from mutoscope.diffusion.denoiser import Denoiser, GaussianDenoiser
from mutoscope.diffusion.guidance import ClassifierFree, band_of
from mutoscope.diffusion.plan import Plan
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import STRAIGHT, Schedule

ASKED, ANYTHING = 1.0, 2.0
BAND = (0.3, 3.0)
NOISIEST, STEPS = 1000.0, 400


@dataclass(frozen=True)
class Normal:
    """N(0, 1) if asked for, N(0, 2^2) for the condition None."""

    schedule: Schedule = STRAIGHT

    def __call__(self, noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        deviation = ANYTHING if condition is None else ASKED
        return normal(deviation)(noisy, t, None)


def normal(deviation: float) -> GaussianDenoiser:
    return GaussianDenoiser(torch.zeros(1), torch.tensor([[deviation**2]], dtype=torch.float64))


def closed_form(scale: float, band: tuple[float, float] | None = None) -> float:
    if band is None:
        return ASKED**scale * ANYTHING ** (1 - scale)
    lo, hi = band
    inside = (ASKED**2 + lo**2) * (ANYTHING**2 + hi**2) / ((ASKED**2 + hi**2) * (ANYTHING**2 + lo**2))
    return ASKED * inside ** ((scale - 1) / 2)


def deviation(denoiser: Denoiser, steps: int = STEPS) -> float:
    """Of samples: where one deviation of noise ends, since all is linear with mean 0."""
    levels = NOISIEST * (1e-4 / NOISIEST) ** torch.linspace(0, 1, steps, dtype=torch.float64)
    times = torch.cat([levels / (1 + levels), torch.zeros(1, dtype=torch.float64)])
    start = torch.full((1, 1, 1, 1, 1), NOISIEST / (1 + NOISIEST), dtype=torch.float64)
    walk = sample(denoiser, start, plan=Plan(times[:, None]), condition="asked", sampler=Heun())
    return [*walk][-1].clean.item()


def rows() -> list[Row]:
    guides: dict[str, Callable[[float], Denoiser]] = {
        "classifier-free": lambda scale: ClassifierFree(Normal(), scale),
        "autoguidance": lambda scale: Autoguidance(normal(ASKED), normal(ANYTHING), scale),
    }
    table = [
        Row("E7", f"deviation, {name}, scale {scale:g}", closed_form(scale), deviation(guide(scale)))
        for name, guide in guides.items()
        for scale in (2.0, 4.0, 8.0)
    ]
    banded = ClassifierFree(Normal(), 4.0, band=band_of(STRAIGHT, lo=BAND[0], hi=BAND[1]))
    table.append(
        Row("E7", "deviation, scale 4 in the band (0.3, 3]", closed_form(4.0, BAND), deviation(banded))
    )
    return table
