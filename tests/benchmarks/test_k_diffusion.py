"""It sees a difference where there is one: Euler written out here in the place of k-diffusion's."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from benchmarks.k_diffusion import SHAPE, apart, films
from torch import Tensor

from mutoscope.diffusion.sampler import Euler, Heun


def euler(model: Callable[..., Tensor], x: Tensor, sigmas: Tensor, **given: Any) -> Tensor:
    for sigma, to in pairwise(sigmas):
        x = x + (to - sigma) * (x - model(x, sigma.expand(len(x)))) / sigma
    return x


def test_the_same_sampler_makes_the_same_film() -> None:
    found = films(euler, Euler(), {}, dtype=torch.float64)
    assert found.ours.shape[1:] == SHAPE and found.ours.std() > 0.01
    assert apart(found.ours, found.theirs) < 1e-12


def test_another_sampler_does_not() -> None:
    found = films(euler, Heun(), {}, dtype=torch.float64)
    assert apart(found.ours, found.theirs) > 1e-4
