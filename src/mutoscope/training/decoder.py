"""Training the layers of time in a decoder: Align Your Latents' second half (Blattmann et al. 2023).

    clip -> encoder, frozen -> latents -> decoder, frozen but for its layers of time -> clip

A decoder of pictures knows nothing of the frame before, so what it invents flickers. `add_time` puts layers
over frames into it that begin as the identity; here only these learn, by the terms of the image autoencoder
and, if wanted, against a patch discriminator of 3D convolutions, which sees flicker where a discriminator of
pictures cannot. Latents keep their meaning: the encoder does not change by a bit, nor does what the decoder
makes of frames that are flagged as images.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mutoscope.data.loader import Batch
from mutoscope.models.image_autoencoder import ImageAutoencoder, temporal_weights
from mutoscope.training.autoencoder import AutoencoderTask, ReconstructionSettings
from mutoscope.video import Refusal

__all__ = ["DecoderTask"]


class DecoderTask:
    """What `training.loop.train` trains: an autoencoder's layers of time, and the discriminator if any.

    All other weights of the autoencoder are frozen, whatever `settings.frozen_encoder` says.

    Raises:
        Refusal: the decoder has no layers of time.
    """

    def __init__(
        self,
        autoencoder: ImageAutoencoder,
        batches: Callable[[int], Batch],
        *,
        settings: ReconstructionSettings,
    ) -> None:
        learning = temporal_weights(autoencoder)
        if not learning:
            raise Refusal("the decoder has no layers of time to train; put them in with add_time")
        frozen = settings.model_copy(update={"frozen_encoder": True})
        self.reconstruction = AutoencoderTask(autoencoder, batches, settings=frozen)
        autoencoder.requires_grad_(False)
        for _, weight in learning:
            weight.requires_grad_(True)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return self.reconstruction.modules

    @property
    def batch(self) -> int:
        return self.reconstruction.batch

    @property
    def settings(self) -> dict[str, Any]:
        return self.reconstruction.settings | {"trains": "layers of time"}

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean loss of one batch of clips and its parts; the KL divergence is constant."""
        return self.reconstruction.loss(step, generator)
