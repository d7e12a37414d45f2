"""Walking down the plan.

A sampler is one step from a row of the plan to the next, for every frame from its own t to its own s. All of
them rest on one exact move: if the clean film stayed as guessed, then

    noisy_s = keep * noisy_t + pull * clean,     keep = sigma_s / sigma_t,     pull = alpha_s - keep * alpha_t

and they differ in which guess they put there. A frame with s = t has keep 1 and pull 0, so it comes out bit
for bit as it went in; at s = 0 keep is 0 and pull is 1, so what comes out is the guess itself. `sample` is a
generator: progress, previews and stopping early are what you do between its states.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.plan import Plan
from mutoscope.diffusion.schedule import Schedule, precise, spread
from mutoscope.video import Refusal

Film = Float[Tensor, "b c f h w"]
Row = Float[Tensor, "1 f"]
Rows = Float[Tensor, "moves f"]
Guess = Callable[[Film, Row], Film]
Source = Callable[[int, str], Film]
Coefficients = Callable[["Move"], Float[Tensor, "*n moves f"]]
FAR = 2.0
"""In half log-SNR: a step that ends the noise and is longer than this takes the guess as it is."""
LOOKS = 2
"""How many earlier guesses any sampler here looks back at."""
AT_ONCE = 64
"""Moves whose coefficients are found together: enough to cost little each, and little of a long plan."""


@dataclass(frozen=True, eq=False)
class State:
    """Where sampling stands after `step` of `steps`.

    t: "f", the levels reached, on the host. noisy: the films at those levels. clean: the best guess of the
    finished films so far; where t is 0, it is `noisy`. The last state's `clean` is the result.
    """

    step: int
    steps: int
    t: Float[Tensor, " f"]
    noisy: Film
    clean: Film


@dataclass(frozen=True, eq=False)
class Move:
    """From one row of times to the next, for every frame by itself.

    step counts from 1. noise(step, purpose) is where fresh noise comes from, if from anywhere. back: how far
    behind the guesses made before are, in half log-SNR and the latest first; NaN or infinite for a frame
    where one does not count. among: this move and its neighbours in the plan, as one Move of many rows, and
    which of them this is. What films are multiplied by is a function of such rows, on the host and in
    float64. It does not depend on any film, so it is found for many moves at once (`laid`, `some`): small
    operations on a few numbers are what a sampler costs beside its network.
    """

    t: Rows
    s: Rows
    schedule: Schedule
    step: int = 1
    noise: Source | None = None
    back: tuple[Rows, ...] = ()
    among: tuple["Move", int] | None = None
    _found: dict[Any, Sequence[Any]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def keep(self) -> Rows:
        before, after = self.schedule.sigma(self.t), self.schedule.sigma(self.s)
        return torch.where(self.s < self.t, after / before, 1.0)

    @cached_property
    def pull(self) -> Rows:
        return self.schedule.alpha(self.s) - self.keep * self.schedule.alpha(self.t)

    @cached_property
    def stretch(self) -> Rows:
        """How much the half log-SNR grows: DPM-Solver's length of a step. NaN for a rest at an end."""
        return (self.schedule.log_snr(self.s) - self.schedule.log_snr(self.t)) / 2

    @cached_property
    def measured(self) -> Bool[Tensor, "moves f"]:
        """Which frames move a finite way in log-SNR: what a frame's past can be measured by.

        Not those that land on 0 from far off: where a schedule is cut off there, at a log-SNR of 20, say, the
        last step is many times as long as the one before, and nothing can be carried on so far.
        """
        near = (self.s > 0) | (self.stretch <= FAR)
        return self.stretch.isfinite() & (self.stretch > 0) & near

    @property
    def goes_on(self) -> Float[Tensor, "moves f"]:
        """1 for a frame that moves and has noise left where it lands, else 0."""
        return ((self.s < self.t) & (self.schedule.sigma(self.s) > 0)).double()

    @property
    def behind(self) -> tuple[Rows, ...]:
        """`back` as it is for the move after this one."""
        gap = torch.where(self.stretch > 0, self.stretch, torch.nan)
        return (gap, *(gap + back for back in self.back))[:LOOKS]

    def row(self, of: Coefficients) -> Float[Tensor, "*n 1 f"]:
        """This move's row of what `of` says of a Move."""
        return self._row((of,), lambda move: of(move).split(1, dim=-2))

    def laid(self, of: Coefficients, like: Film) -> Float[Tensor, "*n 1 1 f 1 1"]:
        """The same, laid over the films in `like`."""
        key = (of, like.device, like.dtype)
        return self._row(key, lambda move: spread(of(move), like).split(1, dim=-5))

    def some(self, of: Coefficients) -> bool:
        """Whether that row is more than zeros."""
        return self._row((of, bool), lambda move: (of(move) != 0).any(dim=-1).tolist())

    def _row(self, key: Hashable, found: Callable[["Move"], Sequence[Any]]) -> Any:
        moves, row = self.among or (self, 0)
        if key not in moves._found:
            moves._found[key] = found(moves)
        return moves._found[key][row]

    def fresh(self, purpose: str) -> Film:
        """Standard noise for this step, the same whenever it is asked for the same purpose."""
        if self.noise is None:
            raise Refusal(
                "this sampler adds noise on its way: give `sample` a source of it, fresh=Fresh(...)"
            )
        return self.noise(self.step, purpose)

    def __call__(self, noisy: Film, clean: Film) -> Film:
        return self.laid(KEEP, noisy) * noisy + self.laid(PULL, noisy) * clean


KEEP, PULL, GOES_ON = attrgetter("keep"), attrgetter("pull"), attrgetter("goes_on")


@dataclass(frozen=True, eq=False)
class Step:
    """A move made: the film after it, and the guess of the clean film made before it."""

    move: Move
    noisy: Film
    clean: Film


def displacement(move: Move, landed: Film, clean: Film) -> Film:
    """How far the move goes by what is guessed where it lands: `clean`, from the film `landed` there."""
    return move.laid(_of_landed, landed) * landed + move.laid(_of_clean, landed) * clean


def _of_landed(move: Move) -> Rows:
    sigma = move.schedule.sigma(move.s)
    return torch.where(sigma > 0, (sigma - move.schedule.sigma(move.t)) / sigma, 0.0)


def _of_clean(move: Move) -> Rows:
    alpha = move.schedule.alpha(move.s)
    return alpha - move.schedule.alpha(move.t) - _of_landed(move) * alpha


class Sampler(ABC):
    """A step of sampling. `guess(noisy, t)` asks the denoiser; `past` is the step before, None at first."""

    @abstractmethod
    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step: ...


@dataclass(frozen=True)
class Euler(Sampler):
    """The guess as it is: first order, one call. Also DDIM without added noise (2010.02502, eq. 12)."""

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean = guess(noisy, move.t)
        return Step(move=move, noisy=move(noisy, clean), clean=clean)


@dataclass(frozen=True)
class Heun(Sampler):
    """Looks from both ends of the step and takes the mean: second order, two calls.

    Heun's method (Karras et al. 2022, 2206.00364, Algorithm 1) for any schedule: the displacement seen from
    either end is (alpha_s - alpha_t) clean + (sigma_s - sigma_t) noise. A frame that lands on 0 keeps its
    Euler step, since no noise is left there to look at; a step in which all do makes one call.
    """

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        step = Euler()(guess, noisy, move=move, past=past)
        if not move.some(GOES_ON):
            return step
        there = guess(step.noisy, move.s)
        change = displacement(move, step.noisy, there) - (step.noisy - noisy)
        return Step(move=move, noisy=step.noisy + move.laid(GOES_ON, noisy) / 2 * change, clean=step.clean)


def sample(
    denoiser: Denoiser,
    noise: Film,
    *,
    plan: Plan,
    condition: Any = None,
    sampler: Sampler | None = None,
    fresh: Source | None = None,
) -> Iterator[State]:
    """Walks the plan from its first row to its last, yielding a State after every step. Keeps no gradients.

    noise: "b c f h w", the films at the plan's first row: noise where that is 1, and the known frames
    themselves where it is 0 (`schedule.level(plan.times[:1]).mix(clean, noise)` makes any such start).
    Computes in float32, or float64 if the noise is. sampler: Euler by default. fresh: for samplers that
    add noise on their way, standard noise for all samples as a function of (step, purpose), such as
    `prior.Fresh`. Raises Refusal if the plan has another number of frames, or a sampler lacks its noise.
    """
    if plan.frames != noise.shape[2]:
        raise Refusal(f"the plan has {plan.frames} frames and the noise {noise.shape[2]}: they must agree")
    guess = bound(denoiser, condition)
    moves = _moves(plan, denoiser.schedule, fresh)
    return _walk(guess, precise(noise), moves=moves, steps=plan.steps, sampler=sampler or Euler())


def bound(denoiser: Denoiser, condition: Any) -> Guess:
    """The denoiser of one condition, asked with one row of times for all films."""

    def guess(noisy: Film, t: Row) -> Film:
        return denoiser(noisy, t.expand(len(noisy), -1), condition)

    return guess


def _moves(plan: Plan, schedule: Schedule, noise: Source | None) -> Iterator[Move]:
    """One for every two neighbouring rows of the plan."""
    whole = Move(t=plan.times[:-1], s=plan.times[1:], schedule=schedule)
    for _ in range(LOOKS):
        whole = replace(whole, back=tuple(map(_a_row_later, whole.behind)))
    step = 0
    for part in _split(whole, AT_ONCE):
        for row, move in enumerate(_split(part, 1)):
            step += 1
            yield replace(move, step=step, noise=noise, among=(part, row))


def _split(move: Move, rows: int) -> Iterator[Move]:
    """The same in parts of so many rows."""
    for t, s, *back in zip(*(each.split(rows) for each in (move.t, move.s, *move.back)), strict=True):
        yield Move(t=t, s=s, schedule=move.schedule, back=tuple(back))


def _a_row_later(rows: Rows) -> Rows:
    return torch.cat([torch.full_like(rows[:1], torch.nan), rows[:-1]])


def _walk(
    guess: Guess, noisy: Film, *, moves: Iterator[Move], steps: int, sampler: Sampler
) -> Iterator[State]:
    step = None
    for move in moves:
        with torch.no_grad():  # around the step and not the yield: whoever looks on keeps their own mode
            step = sampler(guess, noisy, move=move, past=step)
        noisy = step.noisy
        clean = step.clean
        if not bool(move.s.all()):
            clean = torch.where(spread(move.s, noisy) == 0, noisy, clean)
        yield State(step=move.step, steps=steps, t=move.s[0], noisy=noisy, clean=clean)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, solvers

    draw(solvers.sampler)
