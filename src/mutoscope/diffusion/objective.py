"""What a network is trained on: at which times, on which films, and how wrong it was.

    t ~ shift(sigmoid(N(mean, std)))        noisy = alpha(t) clean + sigma(t) noise
    loss = mean (network(noisy, t) - (noise - clean))^2, one number a sample

A share of the clips has a time for every frame (Diffusion Forcing, 2407.01392), which is what lets one model
walk every plan of noise levels; the rest have one time for the whole clip, as in ordinary video diffusion.
"""

from typing import Literal

import torch
from einops import reduce
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mutoscope.diffusion.schedule import STRAIGHT, Schedule, precise, shift, spread

Film = Float[Tensor, "b c f h w"]


class TrainingTimes(BaseModel):
    """Which times a network is trained at.

    distribution: logit_normal (2403.03206, section 3.1: the middle, where it is hardest) or uniform. mean,
    std: of the logit. shift: moves both towards noise, as the sampler's shift does. independent: the share of
    clips in [0, 1] whose frames each have their own time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    shift: float = Field(default=1.0, gt=0)
    independent: float = Field(default=0.0, ge=0, le=1)

    def draw(self, batch: int, frames: int, *, generator: torch.Generator) -> Float[Tensor, "b f"]:
        """Times for a batch, in (0, 1), float32, on the generator's device."""
        device = generator.device
        alone = torch.rand(batch, 1, generator=generator, device=device) < self.independent
        t = self._levels((batch, frames), generator)
        return shift(torch.where(alone, t, t[:, :1]), self.shift)

    def _levels(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        if self.distribution == "uniform":
            return torch.rand(shape, generator=generator, device=generator.device)
        normal = torch.randn(shape, generator=generator, device=generator.device)
        return torch.sigmoid(self.mean + self.std * normal)


def corrupt(clean: Film, noise: Film, *, t: Float[Tensor, "b f"], schedule: Schedule = STRAIGHT) -> Film:
    """The films at time t, a time for every frame, in float32 or better."""
    return schedule.level(t).mix(clean, noise)


def flow_loss(
    prediction: Film, *, clean: Film, noise: Film, weight: Float[Tensor, "b f"] | None = None
) -> Float[Tensor, " b"]:
    """The mean squared error of a flow prediction, one number a sample: no sample's loss depends on its
    neighbours.

    weight: multiplies every frame's error before the mean over the sample; 0 leaves a frame out, None is 1
    throughout.
    """
    error = precise(prediction) - (precise(noise) - precise(clean))
    square = error**2 if weight is None else spread(weight, error) * error**2
    return reduce(square, "b c f h w -> b", "mean")
