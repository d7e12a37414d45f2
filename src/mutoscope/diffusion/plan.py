"""The plan of noise levels: one row a step, one column a frame.

    frame     0    1    2
    row 0    1.0  1.0  1.0
    row 1    0.5  1.0  1.0
    row 2    0.0  0.5  1.0
    ...

No column ever rises, and the last row is 0. A column may start anywhere: at 1 for a frame to be dreamed up,
at 0 for one that is known, between for one to be reworked. Full-sequence, autoregressive and pyramid
sampling, first and last frames are all plans, and the sampler that walks them knows none of their names
(Diffusion Forcing, Chen et al. 2024, 2407.01392).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.schedule import shift as shifted
from mutoscope.video import Refusal


@dataclass(frozen=True, eq=False)
class Plan:
    """times: "steps+1 f" in [0, 1], no column ever rising, the last row 0. Raises Refusal otherwise."""

    times: Float[Tensor, "rows f"]

    def __post_init__(self):
        object.__setattr__(self, "times", self.times.detach().to("cpu", torch.float64))
        if self.times.ndim != 2 or len(self.times) < 2 or not self.frames:
            raise Refusal(
                f"a plan of shape {tuple(self.times.shape)}: it needs 2 rows or more and a frame or more"
            )
        if not bool(((self.times >= 0) & (self.times <= 1)).all()):
            raise Refusal("a plan's times must all be in [0, 1]: 0 is clean, 1 is noise")
        if bool((self.times.diff(dim=0) > 0).any()) or bool(self.times[-1].any()):
            raise Refusal("a plan's times must never rise from row to row, and must end at 0 in every frame")

    @property
    def steps(self) -> int:
        """How many moves from row to row."""
        return len(self.times) - 1

    @property
    def frames(self) -> int:
        return self.times.shape[1]

    def knowing(self, frames: Sequence[int]) -> "Plan":
        """The same plan with these frames known: held at 0 throughout; steps that move nothing go.

        Frames count from 0, or from the end below 0: [0] animates a picture, [0, -1] fills in between two.
        Raises Refusal for a frame outside the film, or if none is left to make.
        """
        wrong = [frame for frame in frames if not -self.frames <= frame < self.frames]
        if wrong:
            raise Refusal(f"known frame {wrong[0]}: this plan has frames 0 to {self.frames - 1}")
        times = self.times.clone()
        times[:, list(frames)] = 0
        if not bool(times[0].any()):
            raise Refusal(f"all {self.frames} frames are known: leave one to make")
        moved = (times.diff(dim=0) != 0).any(dim=1)
        return Plan(times[torch.cat([torch.tensor([True]), moved])])


def full_sequence(steps: int, frames: int, *, shift: float = 1.0) -> Plan:
    """All frames together, as ordinary video diffusion does."""
    return staggered(uniform(steps, shift=shift), frames, lag=0)


def autoregressive(steps: int, frames: int, *, shift: float = 1.0) -> Plan:
    """Every frame after the one before it is done: steps * frames steps."""
    return staggered(uniform(steps, shift=shift), frames, lag=steps)


def pyramid(steps: int, frames: int, *, lag: int | float = 1, shift: float = 1.0) -> Plan:
    """Every frame `lag` steps behind the one before it: the near future clears first."""
    return staggered(uniform(steps, shift=shift), frames, lag=lag)


def flow_match(steps: int, frames: int, *, shift: float = 1.0) -> Plan:
    """All frames together on the grid of diffusers' FlowMatchEulerDiscreteScheduler, to the last bit.

    That grid runs evenly between the shifts of 1 and of 1/1000 and is then shifted again, so the shift of its
    low end counts twice; a model sampled there with it is sampled here alike.
    """
    _need(steps, 1, "steps")
    high, low = _as_diffusers(torch.tensor([1.0, 1e-3]), shift).double()
    stride = (1000 * low - 1000 * high) / max(steps - 1, 1)
    even = torch.arange(steps, dtype=torch.float64) * stride + 1000 * high
    if steps > 1:
        even[-1] = 1000 * low
    grid = _as_diffusers(even / 1000, shift).float().clamp(max=1)
    return staggered(torch.cat([grid, torch.zeros(1)]), frames, lag=0)


def uniform(steps: int, *, shift: float = 1.0) -> Float[Tensor, " levels"]:
    """steps + 1 levels from 1 to 0, evenly spread and then shifted."""
    _need(steps, 1, "steps")
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)


def staggered(grid: Float[Tensor, " levels"], frames: int, *, lag: int | float) -> Plan:
    """Every frame walks down the same grid of N + 1 levels, frame f starting int(f * lag) steps late.

    The level still to go of frame f in row m is clip(N + int(f lag) - m, 0, N) (2407.01392, appendix D): lag
    0 moves all frames together, lag N one after another.
    """
    _need(frames, 1, "frames")
    _need(lag, 0, "lag")
    steps = len(grid) - 1
    late = torch.tensor([int(frame * lag) for frame in range(frames)])
    rows = torch.arange(steps + int(late[-1]) + 1)
    return Plan(grid.double()[(rows[:, None] - late).clamp(0, steps)])


def _as_diffusers(t: Tensor, shift: float) -> Tensor:
    # The same map as `shifted`, with the operations in the order whose rounding diffusers has.
    return shift * t / (1 + (shift - 1) * t)


def _need(value: int | float, least: int, name: str) -> None:
    if not value >= least:
        raise Refusal(f"{name} is {value}: it must be at least {least}")
