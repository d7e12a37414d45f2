"""Training an autoencoder from scratch: the causal one on clips, the image one on clips or single frames.

    loss = |x - y| (heavier on the figure) + 2 (x - y)^2 + structure(x, y) + KL to the unit normal  (+
    adversary)

`structure` is the perceptual term, and needs no downloaded weights: errors of the differences along width,
height and time at two scales, so a blurred edge or a lost raindrop costs more than its area. The optional
adversary is a patch discriminator (hinge loss), trained in the same backward pass: its own weights see the
reconstruction detached, and the autoencoder sees the discriminator's weights detached.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mutoscope.data.loader import Batch
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.image_autoencoder import ImageAutoencoder

__all__ = [
    "AutoencoderTask", "LatentStatistics", "PatchDiscriminator", "ReconstructionSettings", "measure_latents",
    "structure",
]  # fmt: skip


class ReconstructionSettings(BaseModel):
    """The weights of the terms of the loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(default=4, ge=1, description="clips a step")
    square: float = Field(default=2.0, ge=0, description="weight of the squared error")
    structure: float = Field(default=0.6, ge=0, description="weight of the perceptual term")
    kl: float = Field(default=2e-4, ge=0, description="weight of the KL divergence per latent value")
    figure: float = Field(default=2.0, ge=0, description="extra weight of the pixels that show the subject")
    adversary: float = Field(
        default=0.0, ge=0, description="weight of the patch discriminator; 0 switches it off"
    )
    adversary_from: int = Field(
        default=1000, ge=0, description="step at which the discriminator's verdict begins to count"
    )
    frozen_encoder: bool = Field(
        default=False, description="train the decoder alone, for latents that a denoiser already knows"
    )


def differences(x: Float[Tensor, "b c f h w"]) -> list[Tensor]:
    """Differences along width, height and (when there is more than one frame) time."""
    steps = [x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]]
    return steps + ([x[:, :, 1:] - x[:, :, :-1]] if x.shape[2] > 1 else [])


def structure(error: Float[Tensor, "b c f h w"]) -> Tensor:
    """Mean size of the differences of the error at full and at half resolution, a scalar."""
    half = F.avg_pool3d(error, (1, 2, 2))
    fine = torch.stack([step.abs().mean() for step in differences(error)]).mean()
    coarse = torch.stack([step.abs().mean() for step in differences(half)]).mean()
    return fine + coarse


class PatchDiscriminator(nn.Module):
    """Judges small space-time patches: three strided 3D convolutions, one verdict a patch."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, width, (3, 4, 4), (1, 2, 2), (1, 1, 1)),
            nn.LeakyReLU(0.2),
            nn.Conv3d(width, 2 * width, (3, 4, 4), (1, 2, 2), (1, 1, 1)),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv3d(2 * width, 1, (3, 4, 4), (1, 2, 2), (1, 1, 1)),
        )

    def forward(self, x: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 1 f y x"]:
        return self.layers(x)


class AutoencoderTask:
    """What `training.loop.train` trains: reconstructs the batches of a source."""

    def __init__(
        self,
        autoencoder: Autoencoder | ImageAutoencoder,
        batches: Callable[[int], Batch],
        *,
        settings: ReconstructionSettings,
    ) -> None:
        self.autoencoder, self.batches, self.terms = autoencoder, batches, settings
        self.batch = settings.batch
        self.modules: Mapping[str, nn.Module] = {"autoencoder": autoencoder}
        for part in (autoencoder.encoder, autoencoder.after_encoder):
            part.requires_grad_(not settings.frozen_encoder)
        if settings.adversary:
            self.discriminator = PatchDiscriminator().to(next(autoencoder.parameters()).device)
            self.modules = {**self.modules, "discriminator": self.discriminator}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "model": self.autoencoder.config.model_dump(mode="json"),
            "terms": self.terms.model_dump(mode="json"),
        }

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean loss of one batch and its parts."""
        batch = self.batches(step)
        video = batch.video.to(generator.device)
        with torch.set_grad_enabled(not self.terms.frozen_encoder):
            posterior = self.autoencoder.encode(video)
            latents = posterior.sample(generator=generator)
        made = self.autoencoder.decode(latents).float()
        figure = batch.figure.to(video.device)
        parts = self.reconstruction(made, video, figure=figure) | {"kl": posterior.kl().mean()}
        weights = {
            "l1": 1.0,
            "square": self.terms.square,
            "structure": self.terms.structure,
            "kl": self.terms.kl,
        }
        total = sum(weights[name] * part for name, part in parts.items())
        if self.terms.adversary:
            verdicts = self._verdicts(made, video, step)
            total = total + sum(verdicts.values())
            parts |= verdicts
        return {"loss": torch.as_tensor(total), **parts}

    def reconstruction(
        self,
        made: Float[Tensor, "b 3 f h w"],
        video: Float[Tensor, "b 3 f h w"],
        *,
        figure: Float[Tensor, "b f h w"],
    ) -> dict[str, Tensor]:
        """The terms that compare a reconstruction with the clip."""
        error = made - video
        weight = 1 + self.terms.figure * figure[:, None]
        weight = weight / weight.mean()
        return {
            "l1": (weight * error.abs()).mean(),
            "square": (weight * error.square()).mean(),
            "structure": structure(error * weight.sqrt()),
        }

    def _verdicts(self, made: Tensor, video: Tensor, step: int) -> dict[str, Tensor]:
        judge = self.discriminator
        fixed = {name: weight.detach() for name, weight in judge.named_parameters()}
        real, false = judge(video), judge(made.detach())
        hinge = F.relu(1 - real).mean() + F.relu(1 + false).mean()
        active = self.terms.adversary if step >= self.terms.adversary_from else 0.0
        return {
            "judge": hinge,
            "adversary": -active * torch.func.functional_call(judge, fixed, (made,)).mean(),
        }


@dataclass(frozen=True)
class LatentStatistics:
    """Mean and standard deviation of every latent channel."""

    mean: Float[Tensor, "c"]
    std: Float[Tensor, "c"]


@torch.no_grad()
def measure_latents(
    autoencoder: Autoencoder | ImageAutoencoder, batches: Callable[[int], Batch], *, count: int
) -> LatentStatistics:
    """What normalises the latents: measured over `count` batches, summed in double precision."""
    device = next(autoencoder.parameters()).device
    total, square, number = 0.0, 0.0, 0
    for step in range(count):
        mean = autoencoder.encode(batches(step).video.to(device)).mean.double()
        total = total + mean.sum((0, 2, 3, 4))
        square = square + mean.square().sum((0, 2, 3, 4))
        number += mean.numel() // mean.shape[1]
    average = torch.as_tensor(total / number)
    variance = torch.as_tensor(square / number) - average.square()
    return LatentStatistics(average.float(), variance.clamp(min=1e-8).sqrt().float())
