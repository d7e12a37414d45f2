"""Walking up the plan: which noise would become this film?

DDIM inversion (2010.02502, section 4.3; 2105.05233, appendix F): every step of the plan backwards, with the
guess made at the level above, where the step down would make it. Sampling from what comes out gives the film
back up to an error of the order of a step, or exactly if the looks at each step are repeated until the film
above agrees with its own guess.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.plan import Plan
from mutoscope.diffusion.sampler import Film, Move, State, bound, displacement
from mutoscope.diffusion.schedule import precise
from mutoscope.video import Refusal


def invert(
    denoiser: Denoiser, clean: Film, *, plan: Plan, condition: Any = None, looks: int = 1
) -> Iterator[State]:
    """Walks the plan from its last row to its first, yielding a State after every step; no gradients.

    clean: "b c f h w". The last state's `noisy` is what `sample` with Euler starts from. A frame that the
    plan never moves stays as it is. looks: calls a step. Raises Refusal if the plan has another number of
    frames, or for no look.
    """
    if plan.frames != clean.shape[2] or looks < 1:
        raise Refusal(f"{plan.frames} planned frames, {clean.shape[2]} given, {looks} looks: check them")
    return _climb(denoiser, precise(clean), plan=plan, condition=condition, looks=looks)


def _climb(denoiser: Denoiser, noisy: Film, *, plan: Plan, condition: Any, looks: int) -> Iterator[State]:
    guess = bound(denoiser, condition)
    for step, (t, s) in enumerate(pairwise(plan.times.flip(0).split(1)), start=1):
        move, above = Move(t=t, s=s, schedule=denoiser.schedule, step=step), noisy
        with torch.no_grad():
            for _ in range(looks):
                clean = guess(above, s)
                above = noisy + displacement(move, above, clean)
        noisy = above
        yield State(step=step, steps=plan.steps, t=s[0], noisy=noisy, clean=clean)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, solvers

    draw(solvers.inversion)
