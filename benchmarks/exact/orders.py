"""E8: orders of the solvers on N(0.7, 0.5^2), on EDM's levels (rho 7, from 80 to 0.002), against the exact
map of the probability flow; and the factor that DDIM shrinks a unit Gaussian by."""

import math

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.drawings.solvers import error
from mutoscope.diffusion.multistep import Multistep2, UniPc
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.sampler import Euler, Heun, Sampler, sample
from mutoscope.diffusion.schedule import Cosine
from mutoscope.diffusion.stochastic import Ddim

__all__ = ["error", "factor", "order", "rows"]


def rows() -> list[Row]:
    """Orders at the coarse end (16 to 32 steps) and at the fine end (512 to 1024)."""
    stated = [("Euler", Euler(), 0.94, 0.998), ("Heun", Heun(), 2.10, 2.003)]
    stated += [("DPM-Solver++(2M)", Multistep2(), 2.15, 2.006), ("DDIM, eta 0", Ddim(0.0), 0.94, 0.998)]
    made = []
    for name, sampler, coarse, fine in stated:
        made.append(Row("E8", f"order of {name}, 16 to 32 steps", coarse, order(sampler, 16)))
        made.append(Row("E8", f"order of {name}, 512 to 1024 steps", fine, order(sampler, 512)))
    made.append(Row("E8", "order of UniPC-2, 128 to 256 steps", 3.0, order(UniPc(2), 128)))
    for steps in (4, 10, 50):
        closed = math.cos(math.pi / 2 / steps) ** steps
        made.append(Row("E8", f"DDIM on N(0, 1), {steps} steps: factor", closed, factor(steps)))
    return made


def order(sampler: Sampler, steps: int) -> float:
    """The observed order of convergence from `steps` to twice as many."""
    return math.log2(error(sampler, steps) / error(sampler, 2 * steps))


def factor(steps: int) -> float:
    """What DDIM in equal angles multiplies a unit Gaussian by."""
    denoiser = GaussianDenoiser(torch.zeros(1), torch.ones(1, 1), schedule=Cosine())
    one = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    return _made(denoiser, one, steps=steps, sampler=Ddim(0.0)).item()


def _made(denoiser: GaussianDenoiser, start: Tensor, *, steps: int, sampler: Sampler) -> Tensor:
    *_, last = sample(denoiser, start, plan=full_sequence(steps, 1), sampler=sampler)
    return last.noisy
