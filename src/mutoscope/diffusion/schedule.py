"""How much of the film is left at time t.

    noisy = alpha(t) * clean + sigma(t) * noise,        log_snr(t) = 2 ln(alpha / sigma)

Time runs from 0 (clean) to 1 (noise) and every frame may have its own. Times are a few numbers that are known
in advance, so they stay on the host in float64; only the coefficients made from them travel to the
accelerator, and nothing ever has to wait for it to answer.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.video import Refusal


@dataclass(frozen=True, eq=False)
class Level:
    """The share of clean and of noise in every frame. Both are `b f`, where the times were (the host)."""

    alpha: Float[Tensor, "b f"]
    sigma: Float[Tensor, "b f"]

    def mix(
        self, clean: Float[Tensor, "b c f h w"], noise: Float[Tensor, "b c f h w"]
    ) -> Float[Tensor, "b c f h w"]:
        """alpha * clean + sigma * noise, in float32 or better; at t = 0 exactly `clean`, at t = 1 exactly
        `noise`."""
        return spread(self.alpha, clean) * clean + spread(self.sigma, noise) * noise

    def size(self, deviation: float) -> Float[Tensor, "b f"]:
        """The deviation of the noisy film, if this is the clean one's."""
        return torch.hypot(self.alpha * deviation, self.sigma)

    def normed(self, deviation: float) -> "Level":
        """The shares of the clean film divided by its deviation, and of the noise, in the noisy film divided
        by its own: the squares add up to 1."""
        size = self.size(deviation)
        return Level(self.alpha * deviation / size, self.sigma / size)


def spread(values: Float[Tensor, "*b f"], like: Float[Tensor, "n c f h w"]) -> Float[Tensor, "*b 1 f 1 1"]:
    """Per-frame numbers, laid over the films in `like`: on their device, in their dtype but at least
    float32."""
    # A small copy from the host that is not waited for: the accelerator's queue never drains.
    dtype = torch.promote_types(like.dtype, torch.float32)
    *before, frames = values.shape
    laid = values.reshape(*before, 1, frames, 1, 1)
    return laid.to(like.device, dtype, non_blocking=True)


def precise(film: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The film in float32 or better: what all arithmetic here is done in, whatever the networks use."""
    return film.to(torch.promote_types(film.dtype, torch.float32))


class Schedule(ABC):
    """alpha and sigma as functions of time; alpha falls and sigma rises. Any shape of `t` in [0, 1]."""

    @abstractmethod
    def alpha(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The factor on the clean film."""

    @abstractmethod
    def sigma(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The factor on the noise."""

    def log_snr(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """2 ln(alpha / sigma): +inf where nothing is noise, -inf where nothing is clean."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time(self, log_snr: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """When the log-SNR is this: 0 or 1 where it never is. Float64, by bisection."""
        time = torch.zeros_like(log_snr, dtype=torch.float64)
        for bit in range(1, 55):
            later = time + 0.5**bit
            time = torch.where(self.log_snr(later) >= log_snr, later, time)
        return time

    def level(self, t: Float[Tensor, "b f"]) -> Level:
        """alpha and sigma of every frame."""
        return Level(alpha=self.alpha(t), sigma=self.sigma(t))


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """The straight line from film to noise: alpha = 1 - t, sigma = t (Liu et al. 2022, 2209.03003)."""

    def alpha(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return 1 - t

    def sigma(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return t


# The schedule of everything trained here, and so the default.
STRAIGHT = RectifiedFlow()


@dataclass(frozen=True)
class Cosine(Schedule):
    """The quarter circle, alpha^2 + sigma^2 = 1 (Nichol & Dhariwal 2021; cut at +-limit as in 2301.11093).

    limit: the log-SNR at t = 0, and minus that at t = 1. Infinity, the default, reaches exactly clean and
    exactly noise (zero terminal SNR); a network that predicts the noise needs it finite (20 is usual).
    """

    limit: float = math.inf

    def __post_init__(self):
        if not self.limit > 0:
            raise Refusal(f"limit is {self.limit}: the log-SNR at t = 0 must be above 0; 20 is usual")

    def alpha(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self._climb(1 - t)

    def sigma(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self._climb(t)

    def _climb(self, t: Tensor) -> Tensor:
        # alpha is sin(1 - t) rather than cos(t): cos(pi/2) is 6e-17 in floating point and sin(0) is 0.
        edge = math.atan(math.exp(-self.limit / 2))
        return torch.sin(edge + t * (math.pi / 2 - 2 * edge))


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, both made from the signal-to-noise ratio alpha^2 / sigma^2 in [0, inf]."""

    @abstractmethod
    def snr(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]: ...

    def alpha(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (1 + 1 / self.snr(t)).rsqrt()

    def sigma(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (1 + self.snr(t)).rsqrt()


@dataclass(frozen=True)
class Sigmoid(VariancePreserving):
    """alpha^2 is a sigmoid between start and end, over tau, stretched to run from 1 to 0 (2212.11972)."""

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def snr(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        # sigmoid(x) - sigmoid(y) = sinh((x - y) / 2) / (2 cosh(x / 2) cosh(y / 2)): the ends come out exact.
        start, end = self.start / self.tau / 2, self.end / self.tau / 2
        clean, noise = torch.sinh((end - start) * (1 - t)), torch.sinh((end - start) * t)
        return clean * math.cosh(start) / (noise * math.cosh(end))


@dataclass(frozen=True)
class SnrShifted(VariancePreserving):
    """Any schedule with its log-SNR moved by `by`: 2 ln(64 / side) for larger pictures (2301.11093)."""

    schedule: Schedule
    by: float

    def snr(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return (self.schedule.alpha(t) / self.schedule.sigma(t)) ** 2 * math.exp(self.by)


@dataclass(frozen=True)
class Edm(Schedule):
    """Variance exploding: alpha 1, sigma^(1/rho) straight from sigma_min to sigma_max (2206.00364, eq. 5).
    Time 0 is clean up to sigma_min, exactly if that is 0."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self):
        if not 0 <= self.sigma_min < self.sigma_max:
            raise Refusal(f"sigma from {self.sigma_min} to {self.sigma_max}: it must rise, from 0 or above")

    def alpha(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.ones_like(t)

    def sigma(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (low * (1 - t) + high * t) ** self.rho


def shift(t: Float[Tensor, "..."], a: float) -> Float[Tensor, "..."]:
    """a t / (1 + (a - 1) t): spends more of the time near noise for a > 1 (Esser et al. 2024, 2403.03206, eq.
    23).

    Fixes 0 and 1; shift(shift(t, b), a) = shift(t, a b); on RectifiedFlow the log-SNR falls by exactly 2 ln
    a. Raises Refusal unless a > 0.
    """
    if not a > 0:
        raise Refusal(f"shift is {a}: it must be above 0; 1 leaves time as it is, 3 to 8 suit video")
    return a * t / (a * t + (1 - t))


def size_shift(size: tuple[int, ...], base: tuple[int, ...]) -> float:
    """The shift that makes films of `size` as hard to guess at every t as films of `base` are without one.

    Both are latent sizes, (frames, height, width). A constant film of n values is known up to sigma / alpha /
    sqrt(n), so a = sqrt(prod(size) / prod(base)) keeps that the same (2403.03206, section 5.3.2; sqrt(frames)
    too).
    """
    if min(*size, *base) < 1:
        raise Refusal(f"size {size} over {base}: every side must be at least 1")
    return math.sqrt(math.prod(size) / math.prod(base))


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, levels

    draw(levels.schedule)
