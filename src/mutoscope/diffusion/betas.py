"""Schedules that were made as tables: so much of the film's variance is left after each of T small steps.

    alpha_bar[k] = (1 - beta[0]) ... (1 - beta[k]),        alpha^2 = alpha_bar,  sigma^2 = 1 - alpha_bar

Step k = 0 ... T - 1 is time (k + 1) / T, where alpha and sigma are the table's own; time 0 is the clean film.
Between two steps the log-SNR runs straight; alpha_bar does, where the log-SNR is infinite at one end. So a
network trained on such a table can be sampled by any sampler here, at its own steps or between them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mutoscope.diffusion.schedule import Schedule
from mutoscope.video import Refusal

Spacing = Literal["trailing", "leading", "linspace"]


@dataclass(frozen=True, eq=False)
class Betas(Schedule):
    """alpha_bar: "steps" in [0, 1), falling; kept in float64 on the host. Raises Refusal otherwise."""

    alpha_bar: Float[Tensor, " steps"]

    def __post_init__(self):
        table = self.alpha_bar.detach().to("cpu", torch.float64)
        object.__setattr__(self, "alpha_bar", table)
        if table.ndim != 1 or not len(table) or not bool((self._knots.diff() < 0).all() and table[-1] >= 0):
            raise Refusal("a table of alpha_bar must fall from step to step, from below 1 to 0 or above")

    @property
    def steps(self) -> int:
        return len(self.alpha_bar)

    @property
    def betas(self) -> Float[Tensor, " steps"]:
        """The share of noise that each step adds: 1 - alpha_bar[k] / alpha_bar[k - 1]."""
        return 1 - self.alpha_bar / self._knots[:-1]

    def alpha(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self._at(t).sqrt().to(t.dtype)

    def sigma(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (1 - self._at(t)).sqrt().to(t.dtype)

    @cached_property
    def _knots(self) -> Tensor:
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar])

    def _at(self, t: Tensor) -> Tensor:
        place = t.double() * self.steps
        step = place.round()  # (k + 1) / T * T need not come back as k + 1
        place = torch.where((place - step).abs() < 1e-9, step, place)
        below = place.long().clamp(0, self.steps - 1)
        knots, along = self._knots.to(t.device), place - below
        high, low = knots[below], knots[below + 1]
        between = torch.sigmoid(torch.logit(high) * (1 - along) + torch.logit(low) * along)
        straight = high * (1 - along) + low * along  # also exactly the table's value at both ends
        ends = (along == 0) | (along == 1) | (high == 1) | (low == 0)
        return torch.where(ends, straight, between)


def from_betas(betas: Float[Tensor, " steps"]) -> Betas:
    """The schedule that adds these shares of noise, in (0, 1]; only the last may be 1."""
    return Betas(torch.cumprod(1 - betas.double(), dim=0))


def linear_betas(steps: int = 1000, *, start: float = 1e-4, end: float = 0.02) -> Betas:
    """Betas on a straight line (DDPM, 2006.11239)."""
    return from_betas(torch.linspace(start, end, steps, dtype=torch.float64))


def scaled_linear_betas(steps: int = 1000, *, start: float = 0.00085, end: float = 0.012) -> Betas:
    """Their square roots on a straight line. The default is Stable Diffusion's; LVDM's (2211.13221) runs from
    0.0015 to 0.0155."""
    return from_betas(torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2)


def zero_terminal(schedule: Betas) -> Betas:
    """Stretched so that nothing is clean after the last step (2305.08891, Algorithm 1).

    sqrt(alpha_bar) is moved and scaled: its first value stays, its last becomes exactly 0.
    """
    root = schedule.alpha_bar.sqrt()
    return Betas(((root - root[-1]) / (root[0] - root[-1]) * root[0]) ** 2)


def spaced(steps: int, of: int = 1000, *, spacing: Spacing = "trailing") -> Float[Tensor, " levels"]:
    """steps + 1 levels from noise to 0 that are steps of a table of `of`; `staggered` makes a plan of them.

    trailing starts at the last step, as a table that ends in pure noise needs; leading ends at the first;
    linspace does both (2305.08891, Table 2). Raises Refusal unless 1 <= steps <= of.
    """
    if not 1 <= steps <= of:
        raise Refusal(f"{steps} steps of a table of {of}: it must be from 1 to {of}")
    taken = torch.cat([_taken(steps, of, spacing) + 1, torch.zeros(1)])
    return taken.double() / of


def _taken(steps: int, of: int, spacing: Spacing) -> Int[Tensor, " steps"]:
    """Which steps of the table, counted from 0, from noise to clean."""
    count = torch.arange(steps, dtype=torch.float64)
    match spacing:
        case "trailing":
            return (of - count * (of / steps)).round().long() - 1
        case "leading":
            return (count.flip(0) * (of // steps)).long()
        case "linspace":
            return torch.linspace(of - 1, 0, steps, dtype=torch.float64).round().long()
    raise Refusal(f"spacing {spacing!r}: it must be trailing, leading or linspace")


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, levels

    draw(levels.betas)
