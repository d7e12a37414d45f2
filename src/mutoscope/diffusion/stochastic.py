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

from mutoscope.diffusion.sampler import Film, Guess, Heun, Move, Row, Sampler, Step
from mutoscope.diffusion.schedule import spread
from mutoscope.video import Refusal


def renewed(move: Move, noisy: Film, clean: Film, *, share: Row, deviation: Row | None = None) -> Film:
    """The move with this share of the noise renewed. deviation: of the fresh noise's, if not sigma_s."""
    share = torch.where(_going(move), share, 0.0)
    level, after = move.schedule.level(move.t), move.schedule.level(move.s)
    keep = move.keep * (1 - share).sqrt()
    film = spread(keep, noisy) * noisy + spread(after.alpha - keep * level.alpha, noisy) * clean
    if not bool(share.any()):
        return film
    std = share.sqrt() * (after.sigma if deviation is None else deviation)
    return film + spread(std, noisy) * move.fresh("noise").to(film)


def posterior_share(move: Move) -> Row:
    """What of the noise at s is unknown to who knows the clean film and the noise at t; NaN at rest."""
    return -torch.expm1(-2 * move.stretch)


class Renewing(Sampler):
    """The guess as it is, and a share of the noise renewed."""

    @abstractmethod
    def share(self, move: Move) -> Row:
        """In [0, 1], for frames that go on; anything for others."""

    def __call__(self, guess: Guess, noisy: Film, *, move: Move, past: Step | None) -> Step:
        clean = guess(noisy, move.t)
        made = renewed(move, noisy, clean, share=self.share(move))
        return Step(move=move, noisy=made, clean=clean)


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

    def share(self, move: Move) -> Row:
        return self.eta**2 * posterior_share(move)


@dataclass(frozen=True)
class Lcm(Renewing):
    """All of the noise is renewed: jumps to the guess and back up to s, for few-step models (2310.04378)."""

    def share(self, move: Move) -> Row:
        return torch.ones_like(move.t)


@dataclass(frozen=True)
class Ancestral(Sampler):
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
        clean = guess(noisy, move.t)
        before, after = move.schedule.sigma(move.t), move.schedule.sigma(move.s)
        deviation = after ** (1 - self.gamma) * before**self.gamma
        made = renewed(move, noisy, clean, share=posterior_share(move), deviation=deviation)
        if self.corrector and bool(_going(move).any()):
            made = self._corrected(guess, made, move)
        return Step(move=move, noisy=made, clean=clean)

    def _corrected(self, guess: Guess, noisy: Film, move: Move) -> Film:
        """noisy - delta / 2 sigma noise + sqrt(delta) sigma fresh, the noise being what is guessed there."""
        there, size = move.schedule.level(move.s), self.corrector * _going(move).double()
        drift = noisy - spread(there.alpha, noisy) * guess(noisy, move.s)
        fresh = move.fresh("corrector").to(noisy)
        return noisy - spread(size / 2, noisy) * drift + spread(size.sqrt() * there.sigma, noisy) * fresh


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
        top = self._top(move)
        if bool((top > move.t).any()):
            noisy = self._churned(noisy, move, top)
        return replace(Heun()(guess, noisy, move=replace(move, t=top), past=past), move=move)

    def _top(self, move: Move) -> Row:
        """The times to which noise is added."""
        low, high = self.band
        churns = (move.s < move.t) & (low < move.t) & (move.t <= high)
        grown = move.schedule.log_snr(move.t) - 2 * math.log1p(min(self.churn, math.sqrt(2) - 1))
        if not self.churn or not bool(churns.any()):
            return move.t
        return torch.where(churns, torch.maximum(move.schedule.time(grown), move.t), move.t)

    def _churned(self, noisy: Film, move: Move, top: Row) -> Film:
        before, after = move.schedule.level(move.t), move.schedule.level(top)
        keep = torch.where(top > move.t, after.alpha / before.alpha, 1.0)
        std = (after.sigma**2 - (keep * before.sigma) ** 2).clamp(min=0).sqrt() * self.noise
        std = torch.where(top > move.t, std, 0.0)
        return spread(keep, noisy) * noisy + spread(std, noisy) * move.fresh("churn").to(noisy)


def _going(move: Move) -> torch.Tensor:
    """Which frames move and have not arrived."""
    return (move.s > 0) & (move.s < move.t)


def _need_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise Refusal(f"{name} is {value}: it must be in [0, 1]")


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, solvers

    draw(solvers.stochastic)
