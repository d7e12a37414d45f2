"""Clips to latents, and the name of what an encoder knows."""

import pytest
import torch
from torch import nn

from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig, add_time
from mutoscope.training.encoding import encoder_of, weights_hash


def coder() -> ImageAutoencoder:
    torch.manual_seed(0)
    config = ImageAutoencoderConfig(
        widths=(8, 8), blocks=1, z_dim=2, groups=4, latents_mean=(0.5, -0.5), latents_std=(2.0, 0.5)
    )
    return ImageAutoencoder(config)


def test_latents_are_normalised_means_without_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mutoscope.training.encoding.fast_dtype", lambda device: torch.float32)
    autoencoder, clip = coder(), torch.rand(2, 3, 4, 8, 8) * 2 - 1
    latents = encoder_of(autoencoder)(clip)
    wanted = autoencoder.normalise(autoencoder.encode(clip).mean)
    assert latents.shape == (2, 2, 4, 4, 4) and not latents.requires_grad
    torch.testing.assert_close(latents, wanted)


def test_statistics_that_come_later_count(monkeypatch: pytest.MonkeyPatch):
    """A course measures them after the function was made."""
    monkeypatch.setattr("mutoscope.training.encoding.fast_dtype", lambda device: torch.float32)
    autoencoder, clip = coder(), torch.rand(1, 3, 1, 8, 8)
    encode = encoder_of(autoencoder)
    before = encode(clip)
    autoencoder.config = autoencoder.config.model_copy(update={"latents_mean": (1.5, 0.5)})
    torch.testing.assert_close(encode(clip), before - 1 / torch.tensor([2.0, 0.5]).view(1, 2, 1, 1, 1))


def test_the_hash_is_of_names_and_weights():
    one, other = coder(), coder()
    assert weights_hash(one) == weights_hash(other) != weights_hash(one.encoder)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-6
    assert weights_hash(one) != weights_hash(other)
    assert weights_hash(nn.Linear(1, 1)) != weights_hash(nn.Linear(1, 1, bias=False))


def test_layers_over_frames_in_the_decoder_leave_the_encoders_hash():
    one = coder()
    assert weights_hash(one.encoder) == weights_hash(add_time(one).encoder)
