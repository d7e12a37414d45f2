"""Films of which something is known: some of the frames, or a small version of all.

    seen = observe(clean), observe linear        C = Cov[clean | noisy] = (sigma^2 / alpha) d guess / d noisy
    guess + C observe^T (observe C observe^T)^-1 (seen - observe(guess))

`Replacement` puts known frames in their place and changes no other (VDM's baseline). `Reconstruction` moves
the rest too, with a number for the covariance in brackets (VDM's guidance); `Conditioning` has the covariance
from the denoiser, and is exact for Gaussian films. These two differentiate through the denoiser, even while a
sampler keeps no gradients: each call costs a backward pass, or one for every iteration.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import reduce
from torch import Tensor

from mutoscope.diffusion.guidance import Film, Guided, Times
from mutoscope.diffusion.schedule import precise, spread

Observe = Callable[[Film], Tensor]
Linear = Callable[[Tensor], Tensor]


def frames_of(frames: Sequence[int]) -> Observe:
    """Sees these frames, counted from 0, or from the end below 0."""
    return lambda film: film[:, :, list(frames)]


def pooled(factor: int) -> Observe:
    """Sees the mean of every factor x factor square."""
    return lambda film: reduce(film, "b c f (h y) (w x) -> b c f h w", "mean", y=factor, x=factor)


@dataclass(frozen=True, eq=False)
class Replacement(Guided):
    """Known frames are the guess at their place (VDM, Ho et al. 2022, 2204.03458, section 3.1).

    seen: "b c k h w", the frames `frames`. fresh(step, purpose): standard noise of the whole film's shape,
    with which they also overwrite what the denoiser sees, anew at every time. Without it they are as noisy as
    the sampler makes them, stepping to that guess; that is just as right where its noise is the forward
    process's (Euler, DDIM, ancestral with gamma 0).
    """

    frames: Sequence[int]
    seen: Film
    fresh: Callable[[int, str], Film] | None = None

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        if self.fresh is not None:
            noise = self.fresh(0, f"replacement at {t[0].tolist()}").to(noisy)
            level = self.schedule.level(t[:, list(self.frames)])
            noisy = self._placed(noisy, level.mix(self.seen.to(noisy), frames_of(self.frames)(noise)))
        return self._placed(self.denoiser(noisy, t, condition), self.seen)

    def _placed(self, film: Film, known: Tensor) -> Film:
        film = film.clone()
        film[:, :, list(self.frames)] = known.to(film)
        return film


@dataclass(frozen=True, eq=False)
class _Observed(Guided, ABC):
    """A guess moved by (sigma^2 / alpha) J^T observe^T v, for a v that is made of what the guess missed."""

    observe: Observe
    seen: Tensor

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        nested = noisy.requires_grad and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            noisy = precise(noisy) if nested else precise(noisy).detach().clone().requires_grad_()
            guess = self.denoiser(noisy, t, condition)
            sees = self.observe(guess)
        with torch.set_grad_enabled(nested):

            def back(v: Tensor) -> Tensor:
                return torch.autograd.grad(sees, noisy, v, retain_graph=True, create_graph=nested)[0]

            return guess + self._move(back, self.seen.to(sees) - sees, t=t)

    @abstractmethod
    def _move(self, back: Linear, missed: Tensor, *, t: Times) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Reconstruction(_Observed):
    """guess - (weight alpha / 2) grad_noisy |seen - observe(guess)|^2 (VDM, equations 7 and 8).

    That is the above with sigma^2 / alpha^2 / weight for the covariance (w_r; 2 to 5 is best). For known
    frames it goes inside a Replacement, with which weight 0 is that alone. Made for one time for all frames;
    where the times differ, each frame moves by its own alpha.
    """

    weight: float = 2.0

    def _move(self, back: Linear, missed: Tensor, *, t: Times) -> Tensor:
        moved = back(missed)
        return spread(self.weight * self.schedule.alpha(t), moved) * moved


@dataclass(frozen=True, eq=False)
class Conditioning(_Observed):
    """The mean given what was seen too, with the denoiser's own covariance (PiGDM, Song et al. 2023, exact).

    noise: the standard deviation of errors in `seen`; a network is helped by some: its derivative is not
    symmetric. The equation is solved by conjugate gradients, one backward pass an iteration: as many as there
    are numbers in `seen` are exact, few suffice. At alpha = 0 (pure noise) no derivative is left, so such
    frames are looked at as if at t = `latest`; much nearer to 1 a network's derivative is mostly error.
    """

    noise: float = 0.0
    iterations: int = 32
    latest: float = 0.99

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        return super().__call__(noisy, torch.where(self.schedule.alpha(t) > 0, t, self.latest), condition)

    def _move(self, back: Linear, missed: Tensor, *, t: Times) -> Tensor:
        def covary(v: Tensor) -> Tensor:
            moved = back(v)
            return spread(self.schedule.sigma(t) ** 2 / self.schedule.alpha(t), moved) * moved

        def covariance(v: Tensor) -> Tensor:
            return self.observe(covary(v)) + self.noise**2 * v

        return covary(_solved(covariance, missed, iterations=self.iterations))


def _solved(matrix: Linear, wanted: Tensor, *, iterations: int) -> Tensor:
    """x with matrix(x) = wanted, for every sample alone, by conjugate gradients; symmetric matrices only."""
    x, left, way = torch.zeros_like(wanted), wanted, wanted
    size = _dot(left, left)
    enough = size * torch.finfo(wanted.dtype).eps ** 2
    for _ in range(iterations):
        if bool((size <= enough).all()):
            break
        turned = matrix(way)
        pace = _share(size, _dot(way, turned))
        x, left = x + pace * way, left - pace * turned
        size, before = _dot(left, left), size
        way = left + _share(size, before) * way
    return x


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=tuple(range(1, one.ndim)), keepdim=True)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, 0.0)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import denoisers, draw

    draw(denoisers.reconstruction)
