"""Samplers that look back.

All are the exact move (with a share of the noise renewed, for the SDE ones) towards another guess,

    ahead = clean + sum_i weight_i (clean_i - clean),

made of the guesses at levels passed. Those lie at distances in half log-SNR which are each frame's own, and
so are the weights; they depend on the plan alone. A frame's past counts as long as it kept moving through
finite log-SNR; what lies before a rest or pure noise is forgotten, and the order falls until there is a past
again. A frame that lands on 0 from far off takes the guess itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mutoscope.diffusion.sampler import Film, Guess, Move, Rows, Sampler, Step
from mutoscope.diffusion.stochastic import Renewing
from mutoscope.video import Refusal

Weights = Float[Tensor, "looks moves f"]


@dataclass(frozen=True, eq=False)
class Remembering(Step):
    """A step that knows the film it began with and the guesses before its own, the latest first."""

    start: Film
    looks: tuple[Film, ...]


def _looks(past: Step | None, count: int) -> tuple[Film, ...]:
    """The last `count` guesses, if there are so many."""
    if past is None:
        return ()
    return (past.clean, *(past.looks if isinstance(past, Remembering) else ()))[:count]


def _backs(move: Move, count: int) -> list[Rows]:
    """How far behind `count` guesses are; NaN for those that were never made."""
    return [*move.back, *[torch.full_like(move.t, torch.nan)] * count][:count]


def _ahead(clean: Film, looks: Sequence[Film], weights: Float[Tensor, "looks 1 1 f 1 1"]) -> Film:
    ahead = clean
    for look, weight in zip(looks, weights, strict=False):  # the first steps have fewer looks
        ahead = torch.addcmul(ahead, weight, look - clean)
    return ahead


@dataclass(frozen=True)
class Multistep2(Sampler):
    """Carries on the change since the last guess: second order, one call.

    DPM-Solver++(2M) (Lu et al. 2022, 2211.01095, Algorithm 2) with times per frame. A frame takes a
    first-order step when it has just begun to move, has just left pure noise (it came an infinite way in
    log-SNR), or lands on 0.
    """

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean = guess(noisy, move.t)
        ahead = _ahead(clean, _looks(past, 1), move.laid(_carrying, clean))
        return Step(move=move, noisy=move(noisy, ahead), clean=clean)


def _carrying(move: Move) -> Weights:
    (back,) = _backs(move, 1)
    return _known(-move.stretch / (2 * back), back, move)[None]


@dataclass(frozen=True)
class _Sde(Renewing):
    """eta: how stochastic, at least 0; 1 solves the reverse SDE, 0 the flow."""

    eta: float = 1.0

    def __post_init__(self):
        if not self.eta >= 0:
            raise Refusal(f"eta is {self.eta}: it must be at least 0")

    def share(self, move: Move) -> Rows:
        """1 - exp(-2 eta stretch); the power keeps eta 0 at 0 from pure noise."""
        return 1 - torch.exp(-2 * move.stretch) ** self.eta


@dataclass(frozen=True)
class Multistep2Sde(_Sde):
    """DPM-Solver++(2M) with noise, SDE-DPM-Solver++(2M) (2211.01095, appendix): Multistep2 for eta 0."""

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean = guess(noisy, move.t)
        ahead = _ahead(clean, _looks(past, 1), move.laid(_carrying, clean))
        return Step(move=move, noisy=self.renewed(move, noisy, ahead), clean=clean)


@dataclass(frozen=True)
class Multistep3Sde(_Sde):
    """The same with two guesses of the past, as in k-diffusion (dpmpp_3m_sde): for eta 0 the
    steps are third-order but for the first two, which lack a past.

    diffusers has it as sde-dpmsolver++ of order 3, with the sign of a half in the last coefficient turned
    round, so that it goes to -1 and not to 0 with the step.
    """

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean, looks = guess(noisy, move.t), _looks(past, 2)
        ahead = _ahead(clean, looks, move.laid(self._weights, clean))
        made = self.renewed(move, noisy, ahead)
        return Remembering(move=move, noisy=made, clean=clean, start=noisy, looks=looks)

    def _weights(self, move: Move) -> Weights:
        """clean + slope h (clean - near) / near, and the change of that slope since the look before."""
        (near, far), h = _backs(move, 2), move.stretch
        whole = (1 + self.eta) * h
        slope = 1 / -torch.expm1(-whole) - 1 / whole  # phi_2 / phi_1 of the exponential integrator
        bend = (near * slope - h * (slope / whole + 0.5 / torch.expm1(-whole))) / far * h
        of_near = _known(bend * far / (near * (far - near)), far, move)
        of_far = _known(bend / (far - near), far, move)
        return torch.stack([_known(-h * slope / near, near, move) - of_near, of_far])


@dataclass(frozen=True)
class UniPc(Sampler):
    """UniPC (Zhao et al. 2023, 2302.04867; B(h) = e^h - 1), predicting the clean film: one call a step.

    Predicts as a multistep method of this order, and at the next level uses the guess made there to correct
    where it stands, one order better. A frame is corrected only as it moves on. Order 2 predicts as
    Multistep2 does.
    """

    order: Literal[1, 2, 3] = 2

    def __post_init__(self):
        if self.order not in (1, 2, 3):
            raise Refusal(f"order is {self.order}: it must be 1, 2 or 3")

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean, looks = guess(noisy, move.t), _looks(past, self.order - 1)
        if isinstance(past, Remembering):
            noisy = self._corrected(noisy, clean, move=move, past=past)
        made = move(noisy, _ahead(clean, looks, move.laid(self._predicting, clean)))
        return Remembering(move=move, noisy=made, clean=clean, start=noisy, looks=looks)

    def _corrected(self, noisy: Film, landed: Film, *, move: Move, past: Remembering) -> Film:
        weights = past.move.laid(self._correcting, landed)
        again = past.move(past.start, _ahead(past.clean, (landed, *past.looks), weights))
        return torch.where(move.laid(_carries_on, noisy) > 0, again, noisy)

    def _predicting(self, move: Move) -> Weights:
        return _unified(move, _backs(move, self.order - 1), landed=False)

    def _correcting(self, move: Move) -> Weights:
        return _unified(move, _backs(move, self.order - 1), landed=True)


def _carries_on(move: Move) -> Rows:
    """1 for frames that move and came a finite way, else 0."""
    return ((move.s < move.t) & _backs(move, 1)[0].isfinite()).double()


def _unified(move: Move, back: Sequence[Rows], *, landed: bool) -> Weights:
    """Of the guess at the end of the move, if that is known (`landed`), and of the looks back."""
    h = torch.where(move.measured, move.stretch, 1.0)  # weights of others are dropped
    ends = [torch.ones_like(h)] if landed else []
    weights, reach = h.new_zeros(len(ends) + len(back), *h.shape), _reach(back, h)
    for count in range(len(back) + 1):
        nodes = [
            *ends,
            *(torch.where(reach == count, -behind / h, -1.0 - k) for k, behind in enumerate(back[:count])),
        ]
        for slot, rho in enumerate(_rhos(nodes, h)):
            weights[slot] = torch.where(reach == count, rho / nodes[slot], weights[slot])
    return torch.where(move.measured, weights, 0.0)


def _reach(back: Sequence[Rows], h: Rows) -> Int[Tensor, "moves f"]:
    """How many looks back each frame has; after one that it lacks, none counts."""
    reach = torch.zeros_like(h, dtype=torch.long)
    for behind in reversed(back):
        reach = behind.isfinite() * (1 + reach)
    return reach


def _rhos(nodes: Sequence[Rows], h: Rows) -> Sequence[Rows]:
    """sum_j rho_j node_j^k is the k-th moment of the move for all k < n; a single rho is 1/2, as theirs."""
    if len(nodes) < 2:
        return [torch.full_like(h, 0.5) for _ in nodes]
    places, moments, phi, factorial = torch.stack(list(nodes)), [], torch.expm1(-h), 1
    for k in range(1, len(nodes) + 1):
        phi, factorial = phi / -h - 1 / factorial, factorial * (k + 1)
        moments.append(phi * factorial / (k + 1) / torch.expm1(-h))
    powers = torch.stack([places**k for k in range(len(nodes))])
    matrix, right = rearrange(powers, "k n m f -> m f k n"), rearrange(torch.stack(moments), "k m f -> m f k")
    return rearrange(torch.linalg.solve(matrix, right), "m f n -> n m f").unbind()


def _known(weight: Rows, back: Rows, move: Move) -> Rows:
    """The weights of frames for which the look so far back counts."""
    return torch.where(back.isfinite() & move.measured, weight, 0.0)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, solvers

    draw(solvers.multistep)
