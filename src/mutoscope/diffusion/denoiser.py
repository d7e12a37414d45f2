"""The one seam: denoiser(noisy, t, condition) -> clean.

`noisy` is `b c f h w`; `t` is `b f`, best on the host; `condition` is whatever the denoiser understands (text
rows, a picture, None), and nobody between passes judgement on it. What a network predicts, on which schedule
and in which precision, is hidden behind the seam; guidance and sampling see clean films only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.prediction import Prediction, to_clean
from mutoscope.diffusion.schedule import STRAIGHT, Level, Schedule, precise, spread

Network = Callable[[Tensor, Tensor, Any], Tensor]


@runtime_checkable
class Denoiser(Protocol):
    """Guesses the clean film: the mean of all that could be under this much noise."""

    @property
    def schedule(self) -> Schedule:
        """What its times mean; samplers step along it."""
        ...

    def __call__(
        self, noisy: Float[Tensor, "b c f h w"], t: Float[Tensor, "b f"], condition: Any
    ) -> Float[Tensor, "b c f h w"]: ...


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A network(noisy "b c f h w", t "b f", condition) -> prediction, as a denoiser.

    dtype: what the network computes in; None leaves the film as it comes. The arithmetic around it is float32
    or better either way, and t reaches it in that precision too. A network that predicts noise needs a
    schedule that never quite reaches pure noise: Refusal where alpha is 0. deviation: what the network says
    is of clean and noisy films divided by their deviations, the clean ones' being this
    (`Process.deviation`); None for films as they are.
    """

    network: Network
    schedule: Schedule = STRAIGHT
    prediction: Prediction = "flow"
    dtype: torch.dtype | None = None
    deviation: float | None = None

    def __call__(
        self, noisy: Float[Tensor, "b c f h w"], t: Float[Tensor, "b f"], condition: Any
    ) -> Float[Tensor, "b c f h w"]:
        noisy = precise(noisy)
        said = self.network(noisy.to(self.dtype or noisy.dtype), t.to(noisy, non_blocking=True), condition)
        said, level = said.to(noisy), self.schedule.level(t)
        if self.deviation is None:
            return to_clean(self.prediction, said, noisy=noisy, level=level)
        normed = noisy / spread(level.size(self.deviation), noisy)
        guess = to_clean(self.prediction, said, noisy=normed, level=level.normed(self.deviation))
        return self.deviation * guess


@dataclass(frozen=True, eq=False)
class Preconditioning:
    """clean = skip * noisy + out * network(into * noisy, about): EDM's (2206.00364, Table 1), for any alpha.

    With data of deviation `std` the network's input and its target have variance 1. All are `b f`.
    """

    level: Level
    std: float = 0.5

    @property
    def total(self) -> Float[Tensor, "b f"]:
        """The deviation of the noisy film."""
        return self.level.size(self.std)

    @property
    def skip(self) -> Float[Tensor, "b f"]:
        return self.level.alpha * (self.std / self.total) ** 2

    @property
    def out(self) -> Float[Tensor, "b f"]:
        return self.std * self.level.sigma / self.total

    @property
    def into(self) -> Float[Tensor, "b f"]:
        return 1 / self.total

    @property
    def about(self) -> Float[Tensor, "b f"]:
        """What the network is told instead of the time: ln(sigma / alpha) / 4."""
        return (self.level.sigma.log() - self.level.alpha.log()) / 4

    def target(self, clean: Tensor, noisy: Tensor) -> Float[Tensor, "b c f h w"]:
        """What a perfect network would say; its squared error has the weight 1 of `Weighting("edm")`."""
        return (clean - spread(self.skip, noisy) * noisy) / spread(self.out, noisy)


@dataclass(frozen=True, eq=False)
class GaussianDenoiser:
    """The exact denoiser of films that are Gaussian over frames, the same at every pixel and channel.

        clean = mean + K A (A K A + S N S)^-1 (noisy - A mean),    A = diag(alpha), S = diag(sigma)

    mean: "f", covariance K: "f f" (may be singular; 0 is a point mass). noise: N "f f", the noise's
    covariance over frames, as from `Prior.covariance`; white if None. With it samplers and guidance can be
    judged with no network error in the way. The condition is ignored.
    """

    mean: Float[Tensor, " f"]
    covariance: Float[Tensor, "f f"]
    schedule: Schedule = STRAIGHT
    noise: Float[Tensor, "f f"] | None = None

    def __call__(
        self, noisy: Float[Tensor, "b c f h w"], t: Float[Tensor, "b f"], condition: Any
    ) -> Float[Tensor, "b c f h w"]:
        mean, t = self.mean.to(noisy), t.to(noisy)
        residue = noisy - rearrange(self.schedule.alpha(t) * mean, "b f -> b 1 f 1 1")
        guess = torch.einsum("b f g, b c g h w -> b c f h w", self._gain(t), residue)
        return rearrange(mean, "f -> 1 1 f 1 1") + guess

    def _gain(self, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        cross = self.covariance.to(t) * rearrange(alpha, "b f -> b 1 f")
        noise = torch.diag_embed(sigma**2)
        if self.noise is not None:
            noise = rearrange(sigma, "b f -> b f 1") * self.noise.to(t) * rearrange(sigma, "b f -> b 1 f")
        total = rearrange(alpha, "b f -> b f 1") * cross + noise
        return cross @ torch.linalg.pinv(total, hermitian=True)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import denoisers, draw

    draw(denoisers.denoiser)
