"""Samplers that look back further than one guess.

All are the exact move (with a share of the noise renewed, for the SDE ones) towards another guess,

    ahead = clean + sum_i weight_i (clean_i - clean),

made of the guesses at levels passed. Those lie at distances in half log-SNR which are each frame's own, and
so are the weights. A frame's past counts as long as it kept moving through finite log-SNR; what lies before
a rest or pure noise is forgotten, and the order falls until there is a past again. A frame that lands on 0
takes the guess itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mutoscope.diffusion.sampler import Film, Guess, Move, Multistep2, Row, Sampler, Step
from mutoscope.diffusion.schedule import spread
from mutoscope.diffusion.stochastic import renewed
from mutoscope.video import Refusal


@dataclass(frozen=True, eq=False)
class Look:
    """A guess made earlier. behind: how far back in half log-SNR; NaN or infinite where it does not count."""

    behind: Row
    clean: Film


@dataclass(frozen=True, eq=False)
class Remembering(Step):
    """A step that knows the film it began with and the guesses before its own, the latest first."""

    start: Film
    looks: tuple[Look, ...]


def _looks_back(past: Step | None, count: int) -> tuple[Look, ...]:
    """The last `count` guesses, as seen from the end of the step `past`."""
    if past is None:
        return ()
    gap = torch.where(past.move.stretch > 0, past.move.stretch, torch.nan)
    older = past.looks if isinstance(past, Remembering) else ()
    seen = [Look(torch.zeros_like(gap), past.clean), *older][:count]
    return tuple(Look(look.behind + gap, look.clean) for look in seen)


@dataclass(frozen=True)
class _Sde(Sampler):
    """eta: how stochastic, at least 0; 1 solves the reverse SDE, 0 the flow."""

    eta: float = 1.0

    def __post_init__(self):
        if not self.eta >= 0:
            raise Refusal(f"eta is {self.eta}: it must be at least 0")

    def share(self, move: Move) -> Row:
        """1 - exp(-2 eta stretch); the power keeps eta 0 at 0 from pure noise."""
        return 1 - torch.exp(-2 * move.stretch) ** self.eta


@dataclass(frozen=True)
class Multistep2Sde(_Sde):
    """DPM-Solver++(2M) with noise, SDE-DPM-Solver++(2M) (2211.01095, appendix): Multistep2 for eta 0."""

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean = guess(noisy, move.t)
        ahead = Multistep2().ahead(clean, move=move, past=past)
        return Step(move=move, noisy=renewed(move, noisy, ahead, share=self.share(move)), clean=clean)


@dataclass(frozen=True)
class Multistep3Sde(_Sde):
    """The same with two guesses of the past, as in k-diffusion (dpmpp_3m_sde): for eta 0 the
    steps are third-order but for the first two, which lack a past.

    diffusers has it as sde-dpmsolver++ of order 3, with the sign of a half in the last coefficient turned
    round, so that it goes to -1 and not to 0 with the step.
    """

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean = guess(noisy, move.t)
        looks = _looks_back(past, 2)
        made = renewed(move, noisy, self._ahead(clean, move, looks), share=self.share(move))
        return Remembering(move=move, noisy=made, clean=clean, start=noisy, looks=looks)

    def _ahead(self, clean: Film, move: Move, looks: Sequence[Look]) -> Film:
        h = torch.where(move.measured, move.stretch, 1.0)  # weights of others are dropped later
        whole = (1 + self.eta) * h
        slope = 1 / -torch.expm1(-whole) - 1 / whole  # phi_2 / phi_1 of the exponential integrator
        ahead = clean
        if looks:
            first = (h / looks[0].behind) * slope
            ahead = ahead + _weighted(first, clean - looks[0].clean, move)
        if len(looks) > 1:
            near, far = looks[0].behind, looks[1].behind
            bend = (near * slope - h * (slope / whole + 0.5 / torch.expm1(-whole))) / far * h
            for weight, change in (
                (bend / near, clean - looks[0].clean),
                (-bend / (far - near), looks[0].clean - looks[1].clean),
            ):
                ahead = ahead + _weighted(torch.where(far.isfinite(), weight, 0.0), change, move)
        return ahead


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
        clean = guess(noisy, move.t)
        if isinstance(past, Remembering):
            noisy = self._corrected(noisy, clean, move=move, past=past)
        looks = _looks_back(past, self.order - 1)
        made = move(noisy, _unified(clean, move, looks))
        return Remembering(move=move, noisy=made, clean=clean, start=noisy, looks=looks)

    @staticmethod
    def _corrected(noisy: Film, landed: Film, *, move: Move, past: Remembering) -> Film:
        again = past.move(past.start, _unified(past.clean, past.move, past.looks, landed=landed))
        known = (move.s < move.t) & past.move.measured
        return again if bool(known.all()) else torch.where(spread(known.double(), noisy) > 0, again, noisy)


def _unified(clean: Film, move: Move, looks: Sequence[Look], *, landed: Film | None = None) -> Film:
    """The guess ahead by the looks back, and the guess `landed` at the end of the move if there is one."""
    h = torch.where(move.measured, move.stretch, 1.0)  # weights of others are dropped later
    ends = [] if landed is None else [torch.ones_like(h)]
    films = [look.clean for look in looks] + ([] if landed is None else [landed])
    weights = [torch.zeros_like(h) for _ in films]
    back = [torch.where(look.behind.isfinite(), look.behind, 1.0 + k) for k, look in enumerate(looks)]
    reach = _reach(looks, h)
    for count in set(reach[0].tolist()):  # one number where all frames move alike
        nodes, known = [-behind / h for behind in back[:count]] + ends, reach == count
        slots = [*range(count), *([] if landed is None else [len(looks)])]
        for slot, node, rho in zip(slots, nodes, _rhos(nodes, h), strict=True):
            weights[slot] = torch.where(known, rho / node, weights[slot])
    ahead = clean
    for weight, film in zip(weights, films, strict=True):
        ahead = ahead + _weighted(weight, film - clean, move)
    return ahead


def _reach(looks: Sequence[Look], h: Row) -> Int[Tensor, "1 f"]:
    """How many looks back each frame has; after one that it lacks, none counts."""
    reach = torch.zeros_like(h, dtype=torch.long)
    for look in reversed(looks):
        reach = look.behind.isfinite() * (1 + reach)
    return reach


def _rhos(nodes: Sequence[Row], h: Row) -> Sequence[Row]:
    """sum_j rho_j node_j^k is the k-th moment of the move for all k < n; a single rho is 1/2, as theirs."""
    if len(nodes) < 2:
        return [torch.full_like(h, 0.5) for _ in nodes]
    places, moments, phi, factorial = torch.stack(list(nodes)), [], torch.expm1(-h), 1
    for k in range(1, len(nodes) + 1):
        phi, factorial = phi / -h - 1 / factorial, factorial * (k + 1)
        moments.append(phi * factorial / (k + 1) / torch.expm1(-h))
    powers = torch.stack([places**k for k in range(len(nodes))])
    matrix, right = rearrange(powers, "k n 1 f -> f k n"), rearrange(torch.stack(moments), "k 1 f -> f k")
    return rearrange(torch.linalg.solve(matrix, right), "f n -> n 1 f").unbind()


def _weighted(weight: Row, change: Film, move: Move) -> Film:
    known = weight.isfinite() & move.measured
    return spread(torch.where(known, weight, 0.0), change) * change


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, solvers

    draw(solvers.multistep)
