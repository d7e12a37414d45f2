"""The plan of noise levels: one row a step, one column a frame.

    frame     0    1    2
    row 0    1.0  1.0  1.0
    row 1    0.5  1.0  1.0
    row 2    0.0  0.5  1.0
    ...

No column ever rises, and the last row is 0. A column may start anywhere: at 1 for a frame to be dreamed up,
at 0 for one that is known, between for one to be reworked. Full-sequence, autoregressive and pyramid
sampling, blocks, key frames, first and last frames are all plans, and the sampler that walks them knows none
of their names (Diffusion Forcing, Chen et al. 2024, 2407.01392). `python -m mutoscope.diffusion.plan` draws
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.schedule import shift as shifted
from mutoscope.video import Refusal

Kind = Literal["full", "autoregressive", "pyramid", "blocks", "keyframes"]
Levels = Float[Tensor, " levels"]
# How many for a frame, on an even grid that `shift` then moves; or a grid of levels as it is.
Steps = int | Levels
# From clean to noise.
SHADES = " .:-=+*#%@"


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

    def __str__(self) -> str:
        """A line a row, a character a frame, from blank (clean) over .:-=+*#% to @ (noise)."""
        shades = (self.times * (len(SHADES) - 1)).ceil().int().tolist()
        lines = [f"|{''.join(SHADES[shade] for shade in row)}|" for row in shades]
        return "\n".join([f"{self.frames} frames, {self.steps} steps", *lines])


def full_sequence(steps: Steps, frames: int, *, shift: float = 1.0) -> Plan:
    """All frames together, as ordinary video diffusion does."""
    return staggered(_grid(steps, shift), frames, lag=0)


def autoregressive(steps: Steps, frames: int, *, shift: float = 1.0) -> Plan:
    """Every frame after the one before it is done: steps * frames steps."""
    grid = _grid(steps, shift)
    return staggered(grid, frames, lag=len(grid) - 1)


def pyramid(steps: Steps, frames: int, *, lag: int | float = 1, shift: float = 1.0) -> Plan:
    """Every frame `lag` steps behind the one before it: the near future clears first."""
    return staggered(_grid(steps, shift), frames, lag=lag)


def blocks(steps: Steps, frames: int, *, block: int = 4, lag: int | None = None, shift: float = 1.0) -> Plan:
    """`block` frames together, each block `lag` steps behind the one before it, or after it if lag is None.

    SkyReels-V2's asynchronous sampling (2504.13074): block is its causal_block_size, lag its ar_step. Raises
    Refusal for a block of no frames.
    """
    grid = _grid(steps, shift)
    return delayed(grid, _by_block(frames, block, _lag(lag, grid)))


def keyframes(
    steps: Steps,
    frames: int,
    *,
    keys: Sequence[int] | None = None,
    lag: int | None = None,
    shift: float = 1.0,
) -> Plan:
    """Key frames first, then the frame halfway between any two, and so on: each generation `lag` steps
    behind, or after, the one before it.

    keys: which frames are made first; the ends and every fourth if None. The ends of the film come
    second if they are no keys. With `.knowing(keys)` the keys are given and the rest is filled in. Raises
    Refusal for keys outside the film.
    """
    grid = _grid(steps, shift)
    return delayed(grid, _by_generation(frames, keys, _lag(lag, grid)))


def flow_match(steps: int, frames: int, *, shift: float = 1.0) -> Plan:
    """All frames together on the grid of diffusers' FlowMatchEulerDiscreteScheduler, to the last bit."""
    return full_sequence(public(steps, shift=shift), frames)


def planned(kind: Kind, steps: Steps, frames: int, *, shift: float = 1.0) -> Plan:
    """The plan of a name, with what it leaves open as by default. Raises Refusal for other names."""
    plans = (full_sequence, autoregressive, pyramid, blocks, keyframes)
    named = dict(zip(get_args(Kind), plans, strict=True))
    if kind not in named:
        raise Refusal(f"no plan {kind!r}; there are {', '.join(named)}")
    return named[kind](steps, frames, shift=shift)


def public(steps: int, *, shift: float = 1.0) -> Levels:
    """The steps + 1 levels of diffusers' FlowMatchEulerDiscreteScheduler, float32, to the last bit.

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
    return torch.cat([grid, torch.zeros(1)])


def uniform(steps: int, *, shift: float = 1.0) -> Levels:
    """steps + 1 levels from 1 to 0, evenly spread and then shifted."""
    _need(steps, 1, "steps")
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)


def _grid(steps: Steps, shift: float) -> Levels:
    return uniform(steps, shift=shift) if isinstance(steps, int) else steps


def _lag(lag: int | None, grid: Levels) -> int:
    """No more than what makes one after the other, which is also None."""
    return len(grid) - 1 if lag is None else min(lag, len(grid) - 1)


def staggered(grid: Levels, frames: int, *, lag: int | float) -> Plan:
    """Every frame walks down the same grid of N + 1 levels, frame f starting int(f * lag) steps late.

    The level still to go of frame f in row m is clip(N + int(f lag) - m, 0, N) (2407.01392, appendix D): lag
    0 moves all frames together, lag N one after another.
    """
    _need(frames, 1, "frames")
    _need(lag, 0, "lag")
    return delayed(grid, [int(frame * lag) for frame in range(frames)])


def delayed(grid: Levels, late: Sequence[int]) -> Plan:
    """Every frame walks down the same grid, frame f starting late[f] steps late: any order of frames."""
    steps = len(grid) - 1
    rows = torch.arange(steps + max(late) + 1)
    return Plan(grid.double()[(rows[:, None] - torch.tensor(late)).clamp(0, steps)])


def _by_block(frames: int, block: int, lag: int) -> list[int]:
    for value, least, name in ((frames, 1, "frames"), (block, 1, "block"), (lag, 0, "lag")):
        _need(value, least, name)
    return [frame // block * lag for frame in range(frames)]


def _by_generation(frames: int, keys: Sequence[int] | None, lag: int) -> list[int]:
    _need(frames, 1, "frames")
    _need(lag, 0, "lag")
    first = {*range(0, frames, 4), frames - 1} if keys is None else set(keys)
    if not first <= set(range(frames)) or not first:
        raise Refusal(f"key frames {sorted(first)}: one or more of 0 to {frames - 1} are needed")
    born = dict.fromkeys(first, 0)
    new = {0, frames - 1} - first
    while len(born) < frames:
        new = new or {(a + b) // 2 for a, b in pairwise(sorted(born)) if b - a > 1}
        born |= dict.fromkeys(new, max(born.values()) + 1)
        new = set()
    return [born[frame] * lag for frame in range(frames)]


def _as_diffusers(t: Tensor, shift: float) -> Tensor:
    # The same map as `shifted`, with the operations in the order whose rounding diffusers has.
    return shift * t / (1 + (shift - 1) * t)


def _need(value: int | float, least: int, name: str) -> None:
    if not value >= least:
        raise Refusal(f"{name} is {value}: it must be at least {least}")


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, plans

    draw(plans.plan)
