"""E3: any plan that never rises ends in the right films.

AR(1) films of 8 frames, 0.95 from frame to frame, DDIM on the cosine schedule with the exact denoiser. W2^2
to the true films falls about four times when the steps are doubled (the error is of first order) whatever the
order of frames, so a plan is a choice of cost and of what is ready first. The reference's random plan is not
said; here every frame moves a step by the toss of a coin.
"""

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.drawings.gaussian import Alike, affine, ar1, w2
from mutoscope.diffusion.plan import Plan, planned, uniform
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import Cosine

__all__ = ["by_chance", "distance", "plans", "rows"]

FRAMES = 8
TRUTH = ar1(0.95, FRAMES)
STATED = {16: (0.098, 0.063, 0.066, 0.042), 128: (0.0017, 0.0016, 0.0011, 0.0007)}
CALLS = {"full": lambda n: n, "pyramid": lambda n: n + 7, "autoregressive": lambda n: 8 * n}


def by_chance(steps: int, frames: int) -> Plan:
    """Every frame walks the same grid, each row moving frames by the toss of a coin."""
    coins = torch.rand(20 * steps, frames, generator=torch.Generator().manual_seed(3)) < 0.5
    level = torch.cat([torch.zeros(1, frames), coins.cumsum(dim=0)]).long().clamp(max=steps)
    return Plan(uniform(steps)[level].unique_consecutive(dim=0))


def plans(steps: int) -> dict[str, Plan]:
    """In the order of STATED."""
    grid = uniform(steps)
    return {kind: planned(kind, grid, FRAMES) for kind in ("full", "pyramid", "autoregressive")} | {
        "random": by_chance(steps, FRAMES)
    }


def distance(plan: Plan) -> float:
    """W2^2 from the films of a plan to the true ones."""
    zero = torch.zeros(FRAMES, dtype=torch.float64)
    denoiser = Alike(zero, TRUTH, Cosine())

    def run(noise: Tensor) -> Tensor:
        *_, last = sample(denoiser, noise, plan=plan)
        return last.clean

    return w2(zero, affine(run, FRAMES).covariance(), to_mean=zero, to_covariance=TRUTH)


def rows() -> list[Row]:
    table = [
        Row("E3", f"W2^2 of 8 frames, {name}, {steps} steps", value, distance(plan))
        for steps, stated in STATED.items()
        for (name, plan), value in zip(plans(steps).items(), stated, strict=True)
    ]
    return table + [
        Row("E3", f"calls, {name}, 16 steps", calls(16), plans(16)[name].steps)
        for name, calls in CALLS.items()
    ]
