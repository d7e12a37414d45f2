"""How a model's films become noise, what its network says of them, and which number tells it the time.

    noisy = alpha(t) clean + sigma(t) noise,        network(noisy, clock(t)) = prediction

These are settings, so that they travel with the weights: a network is of use only under the process that it
was trained in. Its clock is the number that its sinusoid embeds: 1000 t, or, on a schedule that was made as a
table, the step of the table, as public models have it.

A network learns best what has variance 1, and pixels have less. With their `deviation` s said, it sees and
says everything of films that are divided by theirs:

    network(noisy / size(t), clock(t)) = prediction of clean / s,        size^2 = (alpha s)^2 + sigma^2

which for a velocity is EDM's preconditioning (2206.00364, Table 1; `denoiser.Preconditioning`). Where what is
known of a film gives a first `guess` of it, a network may be asked for what that lacks:

    network((noisy - alpha guess) / size(t), clock(t)) = prediction of (clean - guess) / s

as SRDiff does (2104.14951) with small versions; s is then the deviation of the difference. To what it says is
added what it would say of the guess alone, which makes it a prediction of clean / s again.

Films of pixels may be meant in opponent colours (`colours`): then all of this, noise too, is of them, and
`coded` and `decoded` are the way between.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mutoscope.diffusion import colours
from mutoscope.diffusion.betas import Betas, linear_betas, scaled_linear_betas, zero_terminal
from mutoscope.diffusion.denoiser import Network, NetworkDenoiser
from mutoscope.diffusion.prediction import Prediction, target
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Level, Schedule, precise, spread

__all__ = ["Process"]

TICKS = 1000
Film = Float[Tensor, "b c f h w"]
Films = Float[Tensor, "*b c f h w"]


class Process(BaseModel):
    """The default is that of Video Diffusion Models (2204.03458): cosine, log-SNR in [-20, 20], velocity.

    limit: of the cosine's log-SNR; a network that predicts the noise needs it finite. betas, steps,
    zero_terminal: of the tables only (linear: DDPM's; scaled_linear: Stable Diffusion's and LVDM's).
    deviation: of the clean films, for a network that sees them at variance 1; None: as they are. guesses: the
    network is asked for what the first guess of a film lacks. colours: of films of pixels, see `colours`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Literal["cosine", "straight", "linear", "scaled_linear"] = "cosine"
    prediction: Prediction = "velocity"
    limit: float = Field(default=20.0, gt=0)
    betas: tuple[float, float] = (0.00085, 0.012)
    steps: int = Field(default=TICKS, ge=2)
    zero_terminal: bool = False
    deviation: float | None = Field(default=None, gt=0)
    guesses: bool = False
    colours: Literal["rgb", "opponent"] = "rgb"

    def coded(self, film: Films) -> Films:
        """The film as the process has it, of RGB in [-1, 1]."""
        return colours.opponent(film) if self.colours == "opponent" else film

    def decoded(self, film: Films) -> Films:
        """The way back."""
        return colours.rgb(film) if self.colours == "opponent" else film

    def noising(self) -> Schedule:
        """alpha and sigma as functions of time."""
        if self.schedule == "cosine":
            return Cosine(limit=self.limit)
        return STRAIGHT if self.schedule == "straight" else self._table()

    @property
    def noising_settings(self) -> dict[str, Any]:
        """What `noising` depends on."""
        return self.model_dump(exclude={"prediction", "deviation", "guesses"})

    def seen(self, level: Level) -> Level:
        """The shares of clean film and noise in what the network sees at a level."""
        return level if self.deviation is None else level.normed(self.deviation)

    def shown(self, noisy: Film, t: Float[Tensor, "b f"], *, guess: Film | None = None) -> Film:
        """What the network sees of a noisy film."""
        film, level = noisy, self.noising().level
        if guess is not None:
            film = film - spread(level(t).alpha, film) * guess
        if self.deviation is not None:
            film = film / spread(level(t).size(self.deviation), film)
        return film

    def perfect(self, clean: Film, t: Float[Tensor, "b f"]) -> Film:
        """What a perfect network would say of this film if the noise were none, in float32 or better."""
        scaled, level = precise(clean) / (self.deviation or 1), self.seen(self.noising().level(t))
        return target(self.prediction, clean=scaled, noise=torch.zeros_like(scaled), level=level)

    def denoiser(self, network: Network, *, dtype: torch.dtype | None = None) -> NetworkDenoiser:
        """What a network of this process makes of films; see `NetworkDenoiser`."""
        return NetworkDenoiser(
            network, self.noising(), self.prediction, dtype=dtype, deviation=self.deviation
        )

    def clock(self, t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What the network is told instead of the time t in [0, 1]."""
        if self.schedule in ("cosine", "straight"):
            return TICKS * t
        return self.steps * t - 1  # step k of a table is time (k + 1) / steps

    def _table(self) -> Betas:
        make = linear_betas if self.schedule == "linear" else scaled_linear_betas
        table = make(self.steps, start=self.betas[0], end=self.betas[1])
        return zero_terminal(table) if self.zero_terminal else table


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, levels

    draw(levels.process)
