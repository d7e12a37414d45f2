"""E9: two Gaussians in one dimension, 0.3 N(-2, 0.5^2) + 0.7 N(2, 0.25^2), by Heun with the exact score.

Instead of 200,000 random samples, 10,000 quantiles of the starting distribution, so that nothing is left to
chance: the flow is a rising map, and the films' moments are integrals over it. Starting from N(0, 80^2), as
is usual, and from the mixture itself at sigma 80.
"""

import math
from dataclasses import dataclass, field

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import Edm, Schedule, spread

__all__ = ["MIXTURE", "Mixture", "MixtureDenoiser", "Moments", "moments", "rows"]

POINTS = 10_000


@dataclass(frozen=True)
class Mixture:
    """shares of Gaussians with these means and deviations; independent at every pixel."""

    shares: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-2.0, 2.0)
    stds: tuple[float, ...] = (0.5, 0.25)

    def quantiles(self, count: int, *, sigma: float) -> Tensor:
        """`count` equally likely values of the mixture with noise added, by bisection of its distribution."""
        level = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        low, high = torch.full_like(level, -10 - 10 * sigma), torch.full_like(level, 10 + 10 * sigma)
        for _ in range(60):
            middle = (low + high) / 2
            below = sum(
                share * torch.special.ndtr((middle - mean) / math.hypot(std, sigma))
                for share, mean, std in zip(self.shares, self.means, self.stds, strict=True)
            )
            low, high = torch.where(below < level, middle, low), torch.where(below < level, high, middle)
        return (low + high) / 2


MIXTURE = Mixture()


@dataclass(frozen=True, eq=False)
class MixtureDenoiser:
    """The exact denoiser of a mixture: every component's guess by how likely it is to have been the one."""

    mixture: Mixture = MIXTURE
    schedule: Schedule = field(default_factory=Edm)

    def __call__(self, noisy: Tensor, t: Tensor, condition: object) -> Tensor:
        alpha, sigma = (spread(part(t), noisy) for part in (self.schedule.alpha, self.schedule.sigma))
        likely, guesses = [], []
        parts = zip(self.mixture.shares, self.mixture.means, self.mixture.stds, strict=True)
        for share, mean, std in parts:
            total = (alpha * std) ** 2 + sigma**2
            residue = noisy - alpha * mean
            likely.append(math.log(share) - total.log() / 2 - residue**2 / (2 * total))
            guesses.append(mean + alpha * std**2 / total * residue)
        return (torch.stack(likely).softmax(dim=0) * torch.stack(guesses)).sum(dim=0)


@dataclass(frozen=True)
class Moments:
    """Of a set of values; `left` is the share of those below 0."""

    mean: float
    var: float
    left: float

    @classmethod
    def of(cls, values: Tensor) -> "Moments":
        return cls(values.mean().item(), values.var().item(), (values < 0).double().mean().item())


def moments(steps: int, *, from_mixture: bool, points: int = POINTS) -> Moments:
    """Of what Heun makes, from the mixture at sigma 80 or from N(0, 80^2)."""
    top = Edm().sigma_max
    origin = MIXTURE if from_mixture else Mixture((1.0,), (0.0,), (0.0,))
    start = origin.quantiles(points, sigma=top).reshape(-1, 1, 1, 1, 1)
    *_, last = sample(MixtureDenoiser(schedule=Edm()), start, plan=full_sequence(steps, 1), sampler=Heun())
    return Moments.of(last.noisy)


def rows() -> list[Row]:
    """The reference's two rows, and the truth beside what starting rightly gives."""
    stated = {32: Moments(0.781, 3.537, 0.3039), 64: Moments(0.784, 3.512, 0.3035)}
    made = []
    for steps, known in stated.items():
        made += _rows(f"{steps} steps from N(0, 80^2)", known, moments(steps, from_mixture=False))
    truth = Moments(0.8, 3.479, 0.3)
    return made + _rows("64 steps from the mixture at 80", truth, moments(64, from_mixture=True))


def _rows(name: str, stated: Moments, measured: Moments) -> list[Row]:
    return [
        Row("E9", f"Heun, {name}: mean", stated.mean, measured.mean),
        Row("E9", f"Heun, {name}: variance", stated.var, measured.var),
        Row("E9", f"Heun, {name}: share below 0", stated.left, measured.left),
    ]
