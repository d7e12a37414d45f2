"""Settings of the image autoencoder, and the shapes that come of them."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from mutoscope.models.image_coders import (
    ClipBlock,
    Halve,
    ImageAttention,
    ImageAutoencoderConfig,
    ImageBlock,
    ImageDecoder,
    ImageEncoder,
)
from mutoscope.models.temporal import Frames

TINY = ImageAutoencoderConfig(widths=(8, 16), blocks=1, z_dim=3, groups=4)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"widths": (8, 18)}, "18, which 4 groups"),
        ({"widths": ()}, "widths"),
        ({"latents_mean": (0.0,)}, "latents_mean has 1 numbers"),
        ({"latents_std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"scaling": 0.0}, "scaling"),
        ({"width": 8}, "width"),
    ],
)
def test_settings_that_fit_nothing_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        ImageAutoencoderConfig(**TINY.model_dump() | changes)


@pytest.mark.parametrize("widths, stride", [((8,), 1), ((8, 8), 2), ((8, 8, 8, 8), 8)])
def test_every_stage_but_the_last_halves_the_picture(widths, stride):
    config = TINY.model_copy(update={"widths": widths})
    assert config.space_stride == stride and config.time_stride == 1
    x = torch.randn(2, 3, 2 * stride, 3 * stride)
    latents = ImageEncoder(config)(x)
    assert latents.shape == (2, 6, 2, 3)
    assert ImageDecoder(config)(latents[:, :3], Frames(1)).shape == x.shape


def test_the_decoder_has_one_block_more_a_stage():
    config = TINY.model_copy(update={"blocks": 2})
    assert [len(stage.blocks) for stage in ImageEncoder(config).down] == [2, 2]
    assert [len(stage.blocks) for stage in ImageDecoder(config).up] == [3, 3]


def test_only_a_temporal_decoder_has_layers_of_time():
    def kinds(config: ImageAutoencoderConfig) -> list[type]:
        return [type(m) for m in ImageDecoder(config).modules() if isinstance(m, ClipBlock)]

    assert not kinds(TINY)
    # Two in the middle and two in each stage.
    assert len(kinds(TINY.model_copy(update={"temporal": True}))) == 6
    assert ImageDecoder(TINY).last_time is None


def test_attention_can_be_left_out():
    without = ImageEncoder(TINY.model_copy(update={"attention": False}))
    assert not any(isinstance(m, ImageAttention) for m in without.modules())
    assert sum(isinstance(m, ImageAttention) for m in ImageEncoder(TINY).modules()) == 1


def test_attention_is_softmax_over_the_pixels_of_a_frame():
    layer = ImageAttention(8, groups=4).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    y = layer.norm(x).flatten(2).transpose(1, 2)
    scores = layer.query(y) @ layer.key(y).transpose(1, 2) * 8**-0.5
    wanted = layer.out(scores.softmax(-1) @ layer.value(y)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x) - x, wanted, rtol=0, atol=1e-10)


def test_halving_pads_on_the_right_and_at_the_bottom():
    layer, x = Halve(4), torch.randn(1, 4, 6, 8)
    assert torch.equal(layer(x), F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.weight, layer.bias, stride=2))


def test_a_block_takes_its_input_past():
    block = ImageBlock(8, 16, groups=4)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 8, 3, 5)
    assert block.skip is not None and torch.equal(block(x), block.skip(x))
    assert ImageBlock(8, 8, groups=4).skip is None
