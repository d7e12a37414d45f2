"""E6: a schedule that never reaches pure noise loses brightness, and a film loses more than a picture.

Films of one brightness b ~ N(0, sb^2) over N values, each with its own N(0, s^2) on top. Their mean over the
film, times sqrt(N), is one number of variance v = N sb^2 + s^2. Sampling starts it at variance 1, where the
films at t = 1 have abar v + 1 - abar. The ODE is linear, so what comes out is short by the root of the ratio:

    generated / true deviation of the brightness = 1 / sqrt(1 + abar_T (N sb^2 + s^2 - 1))

Measured: our Heun with the exact denoiser, walked more finely near noise, where so large a number is decided.
"""

from dataclasses import dataclass
from math import prod, sqrt

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.betas import linear_betas, scaled_linear_betas, zero_terminal
from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.plan import staggered, uniform
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import Cosine, Schedule

__all__ = ["SIZES", "closed_form", "generated", "rows", "schedules"]

SIZES = ((1, 64, 64), (16, 64, 64), (16, 32, 32))
DEVIATION = 0.3  # of the brightness, and of every value around it


@dataclass(frozen=True)
class _Named:
    name: str
    schedule: Schedule


def schedules() -> list[_Named]:
    """As in the reference, and the two that end in pure noise."""
    return [
        _Named("Stable Diffusion's betas", scaled_linear_betas()),
        _Named("LVDM's betas", scaled_linear_betas(start=0.0015, end=0.0155)),
        _Named("DDPM's betas", linear_betas()),
        _Named("Stable Diffusion's, zero-terminal", zero_terminal(scaled_linear_betas())),
        _Named("cosine", Cosine()),
    ]


def closed_form(schedule: Schedule, size: tuple[int, int, int]) -> float:
    """Generated over true deviation of the brightness."""
    left = float(schedule.alpha(torch.ones(1, dtype=torch.float64))) ** 2
    return 1 / sqrt(1 + left * (_variance(size) - 1))


def generated(schedule: Schedule, *, steps: int = 200, shift: float = 10.0) -> Tensor:
    """The same by sampling, one number a size: independent modes can stand as frames of one film."""
    variance = torch.tensor([_variance(size) for size in SIZES], dtype=torch.float64)
    denoiser = GaussianDenoiser(torch.zeros_like(variance), torch.diag(variance), schedule)
    plan = staggered(uniform(steps, shift=shift), len(SIZES), lag=0)
    one = torch.ones(1, 1, len(SIZES), 1, 1, dtype=torch.float64)  # linear: a deviation goes in and comes out
    *_, last = sample(denoiser, one, plan=plan, sampler=Heun())
    return last.clean.flatten() / variance.sqrt()


def rows() -> list[Row]:
    return [
        Row("E6", f"brightness kept, {named.name}, {'x'.join(map(str, size))}", stated, float(measured))
        for named in schedules()
        for size, measured in zip(SIZES, generated(named.schedule), strict=True)
        for stated in [closed_form(named.schedule, size)]
    ]


def _variance(size: tuple[int, int, int]) -> float:
    return (prod(size) + 1) * DEVIATION**2
