"""What every sampler's walk must keep, whatever the test that takes it."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mutoscope.diffusion.sampler import State


def resting_frames_stay(states: Iterable[State], *, start: Tensor, t: Tensor) -> None:
    """Asserts that from state to state, the first being `start` at the levels `t`, frames whose level rests
    stay bit for bit, others move, and all is finite."""
    before = start
    for state in states:
        rests = state.t == t
        assert torch.equal(state.noisy[:, :, rests], before[:, :, rests])
        assert torch.isfinite(state.noisy).all() and not torch.equal(state.noisy, before)
        before, t = state.noisy, state.t
