"""Four products for two frames are the plain convolution, to rounding, in any number of frames and layout."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mutoscope.models import winograd
from mutoscope.models.causal import CausalConv

CHANNELS, OUT = 6, 5


def operands(frames: int, *, kernel: tuple[int, int] = (3, 3)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(frames)
    shapes = ((2, CHANNELS, frames + 2, 5, 4), (OUT, CHANNELS, 3, *kernel), (OUT,))
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x, weight, bias


@pytest.mark.parametrize("frames", [2, 3, 4, 7, 8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@torch.no_grad()
def test_it_is_the_plain_convolution(frames: int, layout: torch.memory_format) -> None:
    x, weight, bias = operands(frames)
    x = x.contiguous(memory_format=layout)
    fast = winograd.convolve(x, weight, bias, padding=(1, 1))
    plain = F.conv3d(x, weight, bias, padding=(0, 1, 1))
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)
    assert fast.is_contiguous(memory_format=layout)


@torch.no_grad()
def test_kernels_of_other_sizes_and_no_bias() -> None:
    x, weight, _ = operands(4, kernel=(1, 3))
    fast = winograd.convolve(x, weight, None, padding=(0, 1))
    torch.testing.assert_close(fast, F.conv3d(x, weight, padding=(0, 0, 1)), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_film_at_rest_costs_no_precision_in_bfloat16() -> None:
    """Where frames are equal the differences are exactly zero, and one product is left."""
    x, weight, bias = operands(4)
    x = x[:, :, :1].expand(-1, -1, 6, -1, -1).bfloat16()
    weight, bias = weight.bfloat16(), bias.bfloat16()
    exact = F.conv3d(x.double(), weight.double(), bias.double(), padding=(0, 1, 1))
    error = winograd.convolve(x, weight, bias, padding=(1, 1)).double() - exact
    assert error.norm() < 2**-7 * exact.norm()


@torch.no_grad()
def test_bfloat16_stays_within_four_of_its_roundings() -> None:
    x, weight, bias = (operand.bfloat16() for operand in operands(8))
    exact = F.conv3d(x.double(), weight.double(), bias.double(), padding=(0, 1, 1))
    error = winograd.convolve(x, weight, bias, padding=(1, 1)).double() - exact
    assert error.norm() < 4 * 2**-9 * exact.norm()


def test_a_causal_convolution_takes_it_where_no_gradient_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    fast = winograd.convolve

    def counted(x: Tensor, *rest: Tensor, padding: tuple[int, int]) -> Tensor:
        calls.append(x.shape[2])
        return fast(x, *rest, padding=padding)

    monkeypatch.setattr(winograd, "convolve", counted)
    x, _, _ = operands(3)
    conv, in_time = CausalConv(CHANNELS, OUT, kernel=(3, 3, 3)), CausalConv(CHANNELS, OUT, kernel=(3, 1, 1))
    for dtype in (torch.float64, torch.bfloat16):
        for layer in (conv, in_time):
            layer.to(dtype)
        plain = conv(x.to(dtype))
        assert not calls  # with gradients, and in float64
        with torch.no_grad():
            made = conv(x.to(dtype))
            in_time(x.to(dtype))
        assert (made - plain).double().norm() <= 4 * 2**-9 * plain.double().norm()
    assert calls == [x.shape[2] + 2]
