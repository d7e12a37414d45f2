"""Settings of the autoencoder, and the two layouts that come of them."""

import pytest
import torch
from pydantic import ValidationError

from mutoscope.models.causal import FrameAttention, ResidualBlock
from mutoscope.models.coders import AutoencoderConfig, Decoder, Encoder, Stage
from mutoscope.models.resampling import Downsample

OURS = AutoencoderConfig(
    base_dim=4, z_dim=6, dim_mult=(1, 2, 2), temporal_downsample=(True, True), patch_size=4, residual=True
)
PLAIN = AutoencoderConfig(base_dim=4, z_dim=2, dim_mult=(1, 2), temporal_downsample=(True,), num_res_blocks=1)


@pytest.mark.parametrize(
    "changes, space, time, channels",
    [
        ({}, 8, 4, 3),
        ({"patch_size": 2, "residual": True}, 16, 4, 12),
        ({"dim_mult": (1, 2, 2), "temporal_downsample": (True, True), "patch_size": 4}, 16, 4, 48),
        ({"dim_mult": (1,), "temporal_downsample": ()}, 1, 1, 3),
    ],
)
def test_strides_follow_from_the_settings(changes, space, time, channels):
    config = AutoencoderConfig(**changes)
    assert (config.space_stride, config.time_stride, config.pixel_channels) == (space, time, channels)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"temporal_downsample": (True,)}, "needs 3, one fewer"),
        ({"latents_mean": (0.0,)}, "latents_mean has 1 numbers"),
        ({"z_dim": 1, "latents_std": (0.0,)}, "above 0"),
        ({"base_dims": 3}, "base_dims"),
        ({"base_dim": 0}, "base_dim"),
        ({"dropout": 1.5}, "dropout"),
        ({"residual": True, "attn_scales": (1.0,)}, "attn_scales"),
    ],
)
def test_settings_that_fit_nothing_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        AutoencoderConfig(**changes)


@torch.no_grad()
@pytest.mark.parametrize("config", [OURS, PLAIN])
def test_coders_are_each_others_mirror_in_shape(config):
    side = 2 ** len(config.temporal_downsample)
    x = torch.randn(1, config.pixel_channels, 1 + config.time_stride, side, 2 * side)
    latents = Encoder(config)(x)
    assert latents.shape == (1, 2 * config.z_dim, 2, 1, 2)
    assert Decoder(config)(latents[:, : config.z_dim]).shape == x.shape


def test_the_plain_encoder_is_one_row_of_blocks():
    kinds = [type(step) for step in Encoder(PLAIN.model_copy(update={"attn_scales": (0.5,)})).down]
    assert kinds == [ResidualBlock, Downsample, ResidualBlock, FrameAttention]


def test_every_residual_stage_has_a_way_past_except_the_last_up():
    down, up = Encoder(OURS).down, Decoder(OURS).up
    assert all(isinstance(stage, Stage) for stage in [*down, *up])
    assert [stage.shortcut is not None for stage in down] == [True, True, True]
    assert [stage.shortcut is not None for stage in up] == [True, True, False]


@torch.no_grad()
def test_attention_scales_change_the_encoder():
    config = PLAIN.model_copy(update={"attn_scales": (0.5,)})
    x = torch.randn(1, 3, 1, 4, 4)
    assert Encoder(config)(x).shape == Encoder(PLAIN)(x).shape
    assert sum(isinstance(m, FrameAttention) for m in Encoder(config).modules()) == 2
