"""Causal layers: no future, the same in parts as whole, indifferent to memory format."""

import pytest
import torch
from torch.nn import functional as F

from mutoscope.models.causal import CausalConv, FrameAttention, Memory, ResidualBlock, RMSNorm, after_past

LAYERS = {
    "conv": lambda: CausalConv(3, 5, kernel=(3, 3, 3)),
    "conv in time": lambda: CausalConv(3, 5, kernel=(3, 1, 1)),
    "pointwise": lambda: CausalConv(3, 5, kernel=(1, 1, 1)),
    "residual block": lambda: ResidualBlock(3, 5),
    "attention": lambda: FrameAttention(3),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@layers
@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1, 1), (1, 4, 1), (2, 3, 1), (5, 1)])
@torch.no_grad()
def test_parts_give_what_the_whole_gives(make, lengths):
    layer, x, memory = make().double(), noise(2, 3, 6, 4, 5), Memory()
    parts = [layer(part, memory) for part in x.split(lengths, dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), layer(x), rtol=0, atol=1e-12)


@layers
@torch.no_grad()
def test_a_frame_sees_nothing_after_it(make):
    layer, x = make().double(), noise(1, 3, 6, 4, 5)
    changed = x.clone()
    changed[:, :, 3:] += 1
    before, after = layer(x), layer(changed)
    torch.testing.assert_close(before[:, :, :3], after[:, :, :3], rtol=0, atol=1e-12)
    assert not torch.allclose(before[:, :, 3], after[:, :, 3])


@torch.no_grad()
def test_the_convolution_is_the_formula():
    conv, x = CausalConv(2, 3, kernel=(3, 3, 3)).double(), noise(1, 2, 4, 5, 5)
    frames = F.pad(x, (0, 0, 0, 0, 2, 0)).unbind(dim=2)
    wanted = [
        sum(F.conv2d(frames[k + i], conv.weight[:, :, i], padding=1) for i in range(3))
        + conv.bias.reshape(-1, 1, 1)
        for k in range(4)
    ]
    torch.testing.assert_close(conv(x), torch.stack(wanted, dim=2))


def test_a_still_is_a_video_of_one_frame_in_value_and_gradient():
    conv, x = CausalConv(2, 3, kernel=(3, 3, 3)).double(), noise(1, 2, 3, 4, 4)
    torch.testing.assert_close(conv(x[:, :, :1]), conv(x)[:, :, :1])
    still = torch.autograd.grad(conv(x[:, :, :1]).square().sum(), [conv.weight, conv.bias])
    video = torch.autograd.grad(conv(x)[:, :, :1].square().sum(), [conv.weight, conv.bias])
    torch.testing.assert_close(still, video)


@torch.no_grad()
def test_memory_keeps_two_frames_and_no_more():
    conv, memory = CausalConv(2, 2, kernel=(3, 3, 3)).double(), Memory()
    conv(noise(1, 2, 50, 4, 4), memory)
    kept = memory.past(conv)
    assert kept is not None and kept.shape[2] == 2
    assert kept.untyped_storage().nbytes() == kept.numel() * kept.element_size()


def test_two_videos_do_not_share_a_past():
    conv, x = CausalConv(2, 2, kernel=(3, 3, 3)).double(), noise(1, 2, 4, 4, 4)
    conv(x, Memory())
    assert torch.equal(conv(x, Memory()), conv(x, Memory()))


def test_the_norm_divides_by_the_rms_of_the_channels():
    norm, x = RMSNorm(4).double(), noise(2, 4, 3, 2, 2)
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    wanted = x / x.square().mean(dim=1, keepdim=True).sqrt() * norm.gain.reshape(4, 1, 1, 1)
    torch.testing.assert_close(norm(x), wanted)
    assert torch.autograd.gradcheck(norm, noise(1, 4, 1, 1, 2).requires_grad_())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@torch.no_grad()
def test_the_norm_sums_bfloat16_in_float32(layout):
    # Summed in bfloat16 the length of 4096 ones would stop at 16: 256 + 1 is 256.
    x = torch.ones(1, 4096, 1, 2, 2).to(torch.bfloat16, memory_format=layout)
    assert torch.equal(RMSNorm(4096).bfloat16()(x), x)


def test_the_norm_of_nothing_is_nothing_and_so_is_its_gradient():
    norm, x = RMSNorm(4), torch.zeros(1, 4, 1, 2, 2, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and not y.any()


def test_the_norm_keeps_dtype_and_layout_under_autocast():
    norm = RMSNorm(8)
    x = torch.randn(2, 8, 3, 4, 4).to(torch.bfloat16, memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(y.float(), norm(x.float()), rtol=0.02, atol=0.02)


@layers
@torch.no_grad()
def test_memory_format_changes_no_value(make):
    layer, x = make().double(), noise(2, 3, 4, 6, 5)
    plain = layer(x)
    layer = layer.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last_3d)), plain)


@torch.no_grad()
def test_attention_stays_within_its_frame():
    layer, x = FrameAttention(4).double(), noise(1, 4, 3, 4, 4)
    changed = x.clone()
    changed[:, :, 1] += 1
    same = (layer(x) - layer(changed)).abs().amax(dim=(0, 1, 3, 4)) < 1e-12
    assert same.tolist() == [True, False, True]


@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_the_past_lies_as_the_present_does(batch):
    conv, memory = CausalConv(4, 4, kernel=(3, 3, 3)), Memory()
    x = torch.randn(batch, 4, 5, 4, 4).to(memory_format=torch.channels_last_3d)
    for part in x.split((1, 4), dim=2):
        joined = after_past(part, 2, layer=conv, memory=memory)
        assert joined.is_contiguous(memory_format=torch.channels_last_3d)
