"""Clips to latents for a denoiser: the encoder as a function, and the name of what it knows."""

import hashlib

import torch
from torch import Tensor, nn

from mutoscope.data.latents import Encode
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.image_autoencoder import ImageAutoencoder
from mutoscope.models.precision import fast_dtype

__all__ = ["encoder_of", "weights_hash"]


def encoder_of(autoencoder: Autoencoder | ImageAutoencoder) -> Encode:
    """Clips in [-1, 1] to their normalised latents, the posterior's mean, on the host."""
    device = next(autoencoder.parameters()).device
    dtype = fast_dtype(device)

    @torch.no_grad()
    def encode(video: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            mean = autoencoder.eval().encode(video.to(device)).mean
        return autoencoder.normalise(mean.float()).cpu()

    return encode


def weights_hash(*modules: nn.Module) -> str:
    """16 hexadecimal digits of what modules know: names and weights, in float32."""
    digest = hashlib.sha256()
    for module in modules:
        for name, weight in sorted(module.state_dict().items()):
            digest.update(name.encode() + weight.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
