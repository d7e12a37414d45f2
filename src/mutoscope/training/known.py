"""What an example shows of itself: the policy of the known.

A network that fills films in must be asked every question in training that it will be asked later: the first
frames, every fourth frame, any frames, a small version of all. `KnownSettings` says which, and for how many
examples nothing is known at all, so that the same network can be guided by what it knows (context guidance
of Align Your Latents, 2304.08818). Pictures that ride with a clip know nothing, unless it is their small
version.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from mutoscope.diffusion.known import Known, shrunk
from mutoscope.diffusion.schedule import Schedule

__all__ = ["KnownSettings"]


class KnownSettings(BaseModel):
    """prediction: the first frames, as many as one of `context`, each as often. interpolation: every
    `every`-th frame. random: each frame with a chance drawn for the example, never all (LVDM, 2211.13221).
    small: all frames, `factor` times smaller and enlarged again.

    unconditional: the share of examples of which nothing is known. noise: what is known is as noisy as at a
    time drawn from [0, noise].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["prediction", "interpolation", "random", "small"]
    context: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    every: int = Field(default=4, ge=2)
    factor: int = Field(default=4, ge=2)
    unconditional: float = Field(default=0.0, ge=0, le=1)
    noise: float = Field(default=0.0, ge=0, le=1)

    def draw(
        self,
        clean: Float[Tensor, "b c f h w"],
        *,
        pictures: int,
        generator: torch.Generator,
        schedule: Schedule,
    ) -> Known:
        """What is known of these examples, whose last `pictures` frames are no part of the clip."""
        known = self._clearly(clean, pictures, generator)
        shows = torch.rand(len(clean), generator=generator, device=clean.device) >= self.unconditional
        t = self.noise * torch.rand(len(clean), generator=generator, device=clean.device)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        return (known.noised(t, noise, schedule=schedule) if self.noise else known).of(shows)

    def _clearly(self, clean: Tensor, pictures: int, generator: torch.Generator) -> Known:
        if self.kind == "small":
            height, width = clean.shape[-2:]
            return Known.small(shrunk(clean, self.factor), height=height, width=width)
        which = self._frames(len(clean), clean.shape[2] - pictures, generator)
        return Known.frames(clean, functional.pad(which, (0, pictures)))

    def _frames(self, batch: int, frames: int, generator: torch.Generator) -> Bool[Tensor, "b f"]:
        device = generator.device
        place = torch.arange(frames, device=device).expand(batch, -1)
        if self.kind == "prediction":
            counts = torch.tensor(self.context, device=device)
            drawn = torch.randint(len(counts), (batch, 1), generator=generator, device=device)
            return place < counts[drawn]
        if self.kind == "interpolation":
            return place % self.every == 0
        chance = torch.rand(batch, 1, generator=generator, device=device)
        draws = torch.rand(batch, frames, generator=generator, device=device)
        return (draws < chance) & (draws < draws.amax(dim=1, keepdim=True))
