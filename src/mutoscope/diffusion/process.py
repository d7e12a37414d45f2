"""How a model's films become noise, what its network says of them, and which number tells it the time.

    noisy = alpha(t) clean + sigma(t) noise,        network(noisy, clock(t)) = prediction

These are settings, so that they travel with the weights: a network is of use only under the process that it
was trained in. Its clock is the number that its sinusoid embeds: 1000 t, or, on a schedule that was made as a
table, the step of the table, as public models have it.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mutoscope.diffusion.betas import Betas, linear_betas, scaled_linear_betas, zero_terminal
from mutoscope.diffusion.prediction import Prediction
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Schedule

__all__ = ["Process"]

TICKS = 1000


class Process(BaseModel):
    """The default is that of Video Diffusion Models (2204.03458): cosine, log-SNR in [-20, 20], velocity.

    limit: of the cosine's log-SNR; a network that predicts the noise needs it finite. betas, steps,
    zero_terminal: of the tables only (linear: DDPM's; scaled_linear: Stable Diffusion's and LVDM's).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: Literal["cosine", "straight", "linear", "scaled_linear"] = "cosine"
    prediction: Prediction = "velocity"
    limit: float = Field(default=20.0, gt=0)
    betas: tuple[float, float] = (0.00085, 0.012)
    steps: int = Field(default=TICKS, ge=2)
    zero_terminal: bool = False

    def noising(self) -> Schedule:
        """alpha and sigma as functions of time."""
        if self.schedule == "cosine":
            return Cosine(limit=self.limit)
        return STRAIGHT if self.schedule == "straight" else self._table()

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
