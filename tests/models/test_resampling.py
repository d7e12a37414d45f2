"""Resampling: lengths and sizes, the same in parts as whole, the sub-pixel form equal to the plain one."""

import pytest
import torch
from einops import repeat
from torch.nn import functional as F

from mutoscope.models.causal import Memory
from mutoscope.models.resampling import (
    AverageDown,
    CopyUp,
    Downsample,
    Upsample,
    double_and_convolve,
    patchify,
    unpatchify,
)
from mutoscope.video import Refusal


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_patches_are_channel_then_column_then_row():
    x = torch.arange(2 * 4 * 4).reshape(1, 2, 1, 4, 4).double()
    y = patchify(x, 2)
    assert y.shape == (1, 8, 1, 2, 2)
    assert y[0, :4, 0, 0, 0].tolist() == [
        x[0, 0, 0, row, column].item() for column in (0, 1) for row in (0, 1)
    ]


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_unpatchify_is_the_inverse(patch):
    x = noise(2, 3, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(x, patch), patch), x)


@pytest.mark.parametrize("time", [False, True])
@torch.no_grad()
def test_sizes_halve_and_double(time):
    x = noise(1, 4, 5, 8, 12)
    small = Downsample(4, time=time).double()(x)
    assert small.shape == (1, 4, 3 if time else 5, 4, 6)
    assert Upsample(4, 2, time=time).double()(small).shape == (1, 2, 5, 8, 12)


DOWN = {
    "down": lambda: Downsample(4, time=True),
    "down in space": lambda: Downsample(4, time=False),
    "average": lambda: AverageDown(4, 8, time=2, space=2),
    "average in space": lambda: AverageDown(4, 4, time=1, space=2),
}
UP = {
    "up": lambda: Upsample(4, 2, time=True),
    "up in space": lambda: Upsample(4, 2, time=False),
    "copy": lambda: CopyUp(4, 2, time=2, space=2),
    "copy in space": lambda: CopyUp(4, 4, time=1, space=2),
}


def in_parts(layer: torch.nn.Module, x: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
    memory = Memory()
    return torch.cat([layer(part, memory) for part in x.split(lengths, dim=2)], dim=2)


@pytest.mark.parametrize("make", DOWN.values(), ids=DOWN.keys())
@pytest.mark.parametrize("lengths", [(1, 2, 2, 2), (1, 6), (3, 4), (5, 2)])
@torch.no_grad()
def test_downward_parts_give_the_whole(make, lengths):
    layer, x = make().double(), noise(2, 4, 7, 4, 6)
    torch.testing.assert_close(in_parts(layer, x, lengths), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", UP.values(), ids=UP.keys())
@pytest.mark.parametrize("lengths", [(1, 1, 1, 1), (1, 3), (2, 2), (3, 1)])
@torch.no_grad()
def test_upward_parts_give_the_whole(make, lengths):
    layer, x = make().double(), noise(2, 4, 4, 3, 5)
    torch.testing.assert_close(in_parts(layer, x, lengths), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [*DOWN.values(), *UP.values()], ids=[*DOWN, *UP])
@torch.no_grad()
def test_frame_0_stands_alone(make):
    layer, x = make().double(), noise(1, 4, 5, 4, 4)
    torch.testing.assert_close(layer(x[:, :, :1]), layer(x)[:, :, :1])


@torch.no_grad()
def test_the_average_is_of_the_video_it_stands_for():
    # With one group per channel the shortcut is a plain average over time and space.
    x = noise(1, 3, 5, 4, 4)
    y = AverageDown(3, 3, time=2, space=2)(x)
    torch.testing.assert_close(y[:, :, 1:], F.avg_pool3d(x[:, :, 1:], 2))
    torch.testing.assert_close(y[:, :, :1], F.avg_pool3d(x[:, :, :1], (1, 2, 2)) / 2)


@pytest.mark.parametrize("shortcut", [AverageDown, CopyUp])
def test_shortcuts_that_cannot_share_evenly_are_refused(shortcut):
    with pytest.raises(Refusal, match="evenly among"):
        shortcut(3 if shortcut is AverageDown else 7, 7 if shortcut is AverageDown else 3, time=1, space=2)


@torch.no_grad()
def test_copies_are_nearest_when_channels_stay():
    x = noise(1, 3, 3, 2, 2)
    y = CopyUp(3, 3, time=2, space=2)(x)
    wanted = repeat(x, "b c f h w -> b c (f t) (h p) (w q)", t=2, p=2, q=2)[:, :, 1:]
    assert torch.equal(y, wanted)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 5), (8, 6)])
def test_sub_pixel_form_equals_doubling_first_in_value_and_gradient(size):
    x, weight, bias = noise(2, 3, 2, *size), noise(5, 3, 1, 3, 3, seed=1), noise(5, seed=2)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    doubled = F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest-exact")
    plain = F.conv3d(doubled, weight, bias, padding=(0, 1, 1))
    fast = double_and_convolve(x, weight, bias)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)
    cotangent = noise(*plain.shape, seed=3)
    torch.testing.assert_close(
        torch.autograd.grad(fast, inputs, cotangent), torch.autograd.grad(plain, inputs, cotangent)
    )


@torch.no_grad()
def test_sub_pixel_form_without_bias():
    x, weight = noise(1, 2, 1, 3, 3), noise(2, 2, 1, 3, 3, seed=1)
    torch.testing.assert_close(
        double_and_convolve(x, weight, None), double_and_convolve(x, weight, torch.zeros(2).double())
    )


@torch.no_grad()
def test_results_are_laid_out_channels_last():
    x = noise(2, 4, 5, 4, 6).to(memory_format=torch.channels_last_3d)
    for layer in (
        AverageDown(4, 8, time=2, space=2),
        CopyUp(4, 2, time=1, space=2),
        Upsample(4, 2, time=True),
    ):
        layer = layer.double().to(memory_format=torch.channels_last_3d)
        assert layer(x).is_contiguous(memory_format=torch.channels_last_3d), layer
