"""The average of the weights over the run: smoother than the last step's, and what is evaluated and shipped.

    average <- average + (1 - d_n) * (weight - average)        d_n = min(decay, (1 + n) / (10 + n))

The warm-up of d_n after n updates lets the average forget the random start, whatever the decay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from mutoscope.video import Refusal

__all__ = ["Ema"]


class Ema:
    """Exponential moving average of named weights, in float32.

    Args:
        named_weights: name and weight; followed in place, so call `update` after each optimizer step.
        decay: in [0, 1); 0.999 looks back about 1,000 steps.
    """

    def __init__(self, named_weights: Iterable[tuple[str, Tensor]], *, decay: float) -> None:
        if not 0 <= decay < 1:
            raise Refusal(f"the decay of the average is {decay}; it lies in [0, 1), 0.999 is usual")
        self.decay = decay
        self.updates = 0
        self.following = dict(named_weights)
        self.average = {name: w.detach().float().clone() for name, w in self.following.items()}

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [w.detach().float() for w in self.following.values()]
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)
        self.updates += 1

    @contextmanager
    def weights(self) -> Iterator[None]:
        """Inside, the followed modules carry the average; after it their own weights again, bit for bit."""
        own = self._exchange(self.average)
        try:
            yield
        finally:
            self._exchange(own)

    @torch.no_grad()
    def _exchange(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Values are copied, not pointers swapped: compiled graphs and CUDA graphs hold on to the addresses.
        before = {name: w.detach().clone() for name, w in self.following.items()}
        torch._foreach_copy_(
            [w.detach() for w in self.following.values()], [values[name] for name in self.following]
        )
        return before

    def copy(self) -> dict[str, Tensor]:
        """The average by name, on its own memory."""
        return {name: a.clone() for name, a in self.average.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The state: the average by name, nothing else; `updates` is a number and travels beside it."""
        return dict(self.average)

    def load(self, tensors: Mapping[str, Tensor], *, updates: int) -> None:
        missing = sorted(set(self.average) - set(tensors))
        if missing:
            raise Refusal(
                f"the checkpoint has no average of {missing[0]!r} (and {len(missing) - 1} more); "
                "it was written by another network or without ema"
            )
        for name, average in self.average.items():
            average.copy_(tensors[name])
        self.updates = updates
