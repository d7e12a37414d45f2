"""Samplers that add noise on their way.

All but one are the exact move with a share of the noise's variance renewed:

    noisy_s = keep * sqrt(1 - share) * noisy_t + pull * clean + sigma_s * sqrt(share) * fresh,

where pull is again what makes alpha_s of the clean film. Share 0 is Euler, 1 forgets the noise altogether,
and the posterior's own is 1 - exp(-2 stretch) = 1 - SNR_t / SNR_s. Whatever it is, a film known to be `clean`
arrives at level s with exactly the noise that belongs there. Frames that rest or that have arrived (s = 0)
renew nothing. The other, HeunChurn, first adds noise and then goes down from there.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import torch

from mutoscope.diffusion.sampler import Film, Guess, Heun, Move, Rows, Sampler, Step
from mutoscope.video import Refusal


def posterior_share(move: Move) -> Rows:
    """What of the noise at s is unknown to who knows the clean film and the noise at t; NaN at rest."""
    return -torch.expm1(-2 * move.stretch)


class Renewing(Sampler):
    """The guess as it is, and a share of the noise renewed, that of frames that go on."""

    @abstractmethod
    def share(self, move: Move) -> Rows:
        """In [0, 1], for frames that go on; anything for others."""

    def deviation(self, move: Move) -> Rows:
        """Of the fresh noise."""
        return move.schedule.sigma(move.s)

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean = guess(noisy, move.t)
        return Step(move=move, noisy=self.renewed(move, noisy, clean), clean=clean)

    def renewed(self, move: Move, noisy: Film, clean: Film) -> Film:
        """The move towards `clean`."""
        film = move.laid(self._keep, noisy) * noisy + move.laid(self._pull, noisy) * clean
        if not move.some(self._new):
            return film
        return torch.addcmul(film, move.laid(self._new, noisy), move.fresh("noise").to(film))

    def _keep(self, move: Move) -> Rows:
        return move.keep * (1 - self._of_going(move)).sqrt()

    def _pull(self, move: Move) -> Rows:
        return move.schedule.alpha(move.s) - self._keep(move) * move.schedule.alpha(move.t)

    def _new(self, move: Move) -> Rows:
        return self._of_going(move).sqrt() * self.deviation(move)

    def _of_going(self, move: Move) -> Rows:
        return torch.where(_going(move) > 0, self.share(move), 0.0)


@dataclass(frozen=True)
class Ddim(Renewing):
    """eta^2 of the posterior's share (2010.02502, eq. 16): eta 0 is Euler, 1 is DDPM (2006.11239).

    k-diffusion's Euler-ancestral of the same eta, down to sigma_down and up by sigma_up, is this too.

    diffusers' DDIMScheduler lands 1000 // steps below the level it was asked at, and not on the level it asks
    at next, unless steps divides 1000 and the spacing is not "linspace"; here a step ends where the next
    begins.
    """

    eta: float = 0.0

    def __post_init__(self):
        _need_share(self.eta, "eta")

    def share(self, move: Move) -> Rows:
        return self.eta**2 * posterior_share(move)


@dataclass(frozen=True)
class Lcm(Renewing):
    """All of the noise is renewed: jumps to the guess and back up to s, for few-step models (2310.04378)."""

    def share(self, move: Move) -> Rows:
        return torch.ones_like(move.t)


@dataclass(frozen=True)
class Ancestral(Renewing):
    """The ancestral sampler of Video Diffusion Models (2204.03458), with its Langevin corrector.

    gamma: the fresh noise's variance is sigma_s^(2 - 2 gamma) sigma_t^(2 gamma) times the posterior's share;
    0, the least, is Ddim(eta=1). corrector: the step size delta of a Langevin step at every level reached,
    one more call a step; 0 is none, 0.1 is theirs.
    """

    gamma: float = 0.0
    corrector: float = 0.0

    def __post_init__(self):
        _need_share(self.gamma, "gamma")
        _need_share(self.corrector, "corrector")

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        step = super().__call__(guess, noisy, move=move, past=past)
        if not self.corrector or not move.some(_going):
            return step
        return replace(step, noisy=self._corrected(guess, step.noisy, move))

    def share(self, move: Move) -> Rows:
        return posterior_share(move)

    def deviation(self, move: Move) -> Rows:
        before, after = move.schedule.sigma(move.t), move.schedule.sigma(move.s)
        return after ** (1 - self.gamma) * before**self.gamma

    def _corrected(self, guess: Guess, noisy: Film, move: Move) -> Film:
        """noisy - delta / 2 sigma noise + sqrt(delta) sigma fresh, the noise being what is guessed there."""
        fresh, there = move.fresh("corrector").to(noisy), guess(noisy, move.s)
        film = move.laid(self._kept, noisy) * noisy + move.laid(self._pulled, noisy) * there
        return film + move.laid(self._shaken, noisy) * fresh

    def _kept(self, move: Move) -> Rows:
        return 1 - self.corrector / 2 * _going(move)

    def _pulled(self, move: Move) -> Rows:
        return (1 - self._kept(move)) * move.schedule.alpha(move.s)

    def _shaken(self, move: Move) -> Rows:
        return (self.corrector * _going(move)).sqrt() * move.schedule.sigma(move.s)


@dataclass(frozen=True)
class HeunChurn(Sampler):
    """Heun's step from a little more noise than there is (Karras et al. 2022, 2206.00364, Algorithm 2).

    churn: how much sigma / alpha grows first, the paper's S_churn / N: 0 is Heun, and no more than sqrt(2) -
    1 is taken. Only frames with band[0] < t <= band[1] (`guidance.band_of` makes one of the paper's S_tmin
    and S_tmax), and never past the schedule's time 1. noise: S_noise, 1.003 to 1.007 in the paper.
    """

    churn: float = 0.0
    noise: float = 1.0
    band: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        if not (self.churn >= 0 and self.noise >= 0):
            raise Refusal(f"churn {self.churn} of noise {self.noise}: both must be at least 0")

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        if not move.some(self._grows):
            return Heun()(guess, noisy, move=move, past=past)
        fresh = move.fresh("churn").to(noisy)
        noisy = move.laid(self._kept, noisy) * noisy + move.laid(self._added, noisy) * fresh
        higher = Move(t=move.row(self._top), s=move.s, schedule=move.schedule)
        return replace(Heun()(guess, noisy, move=higher, past=past), move=move)

    def _top(self, move: Move) -> Rows:
        """The times to which noise is added."""
        low, high = self.band
        churns = (move.s < move.t) & (low < move.t) & (move.t <= high)
        grown = move.schedule.log_snr(move.t) - 2 * math.log1p(min(self.churn, math.sqrt(2) - 1))
        if not self.churn or not bool(churns.any()):
            return move.t
        return torch.where(churns, torch.maximum(move.schedule.time(grown), move.t), move.t)

    def _grows(self, move: Move) -> Rows:
        return (self._top(move) > move.t).double()

    def _kept(self, move: Move) -> Rows:
        before, after = move.schedule.level(move.t), move.schedule.level(self._top(move))
        return torch.where(self._grows(move) > 0, after.alpha / before.alpha, 1.0)

    def _added(self, move: Move) -> Rows:
        before, after = move.schedule.sigma(move.t), move.schedule.sigma(self._top(move))
        std = (after**2 - (self._kept(move) * before) ** 2).clamp(min=0).sqrt() * self.noise
        return torch.where(self._grows(move) > 0, std, 0.0)


def _going(move: Move) -> Rows:
    """1 for frames that move and have not arrived, else 0."""
    return ((move.s > 0) & (move.s < move.t)).double()


def _need_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise Refusal(f"{name} is {value}: it must be in [0, 1]")


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, solvers

    draw(solvers.stochastic)
