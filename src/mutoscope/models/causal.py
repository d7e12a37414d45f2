"""Layers that see no future: what frame k becomes depends on frames 0..k alone.

Every layer takes `memory`. Without one (None) the tensor is the whole video, all frames are worked on in
parallel and gradients flow. With one, the tensor is the next chunk of a video and the memory holds the few
frames of the past that a layer needs, so a film of any length passes in a fixed amount of memory. It is one
code and one result: zeros stand before the first frame, the past before every later chunk.

    conv3 at frame k  =  w0 x[k-2] + w1 x[k-1] + w2 x[k]        (x[-1] = x[-2] = 0)

Tensors are `b c f h w`; everything is indifferent to memory format, and fastest in channels_last_3d.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models import winograd

Size3 = tuple[int, int, int]


class Memory:
    """The past of one video on its way through a network: for each layer its last input frames."""

    def __init__(self) -> None:
        self._past: dict[nn.Module, Tensor] = {}
        self._begun: set[nn.Module] = set()

    def begin(self, layer: nn.Module) -> bool:
        """True the first time `layer` asks: the chunk at hand opens the video."""
        first = layer not in self._begun
        self._begun.add(layer)
        return first

    def past(self, layer: nn.Module) -> Tensor | None:
        """The frames `layer` kept of the last chunk; None at the start."""
        return self._past.get(layer)

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        # A copy: a slice would keep the whole chunk alive. In the layout of the chunk: joined with frames of
        # another layout, every convolution would begin by reordering its whole input.
        last = frames.stride(1) == 1
        layout = torch.channels_last_3d if last else torch.contiguous_format
        self._past[layer] = frames.clone(memory_format=layout)


def opens_video(layer: nn.Module, memory: Memory | None) -> bool:
    """Whether the tensor that `layer` sees begins with frame 0 of the video."""
    return memory is None or memory.begin(layer)


def after_past(
    x: Float[Tensor, "b c f h w"], frames: int, *, layer: nn.Module, memory: Memory | None
) -> Float[Tensor, "b c f2 h w"]:
    """`x` with the `frames` frames before it in front: those remembered, or zeros where the video begins."""
    past = memory.past(layer) if memory is not None else None
    x = F.pad(x, (0, 0, 0, 0, frames, 0)) if past is None else torch.cat([past, x], dim=2)
    if memory is not None:
        memory.keep(layer, x[:, :, -frames:])
    return x


class CausalConv(nn.Conv3d):
    """3D convolution, zero-padded in space on both sides and in time in front only.

    A time stride is meant for a kernel that is not padded in time (`past=0`): see `resampling.Downsample`.
    """

    def __init__(
        self, channels: int, out: int, *, kernel: Size3, stride: Size3 = (1, 1, 1), past: int | None = None
    ) -> None:
        space = (kernel[1] // 2, kernel[2] // 2)
        super().__init__(channels, out, kernel, stride=stride, padding=(0, *space))
        self.space = space
        self.past = kernel[0] - 1 if past is None else past

    def forward(
        self, x: Float[Tensor, "b c f h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b d f2 h2 w2"]:
        if self.past == 0:
            return super().forward(x)
        if memory is None and x.shape[2] == 1:
            # A still: all taps but the last meet zeros, so the image costs a third of the work.
            return self._conv_forward(x, self.weight[:, :, -1:], self.bias)
        window = after_past(x, self.past, layer=self, memory=memory)
        if self._pays_in_pairs(window):
            return winograd.convolve(window, self.weight, self.bias, padding=self.space)
        return super().forward(window)

    def _pays_in_pairs(self, window: Tensor) -> bool:
        """On a processor in bfloat16, where convolutions are bound by their multiplications, not by memory.

        In float32, 33 frames of 256x144 took two threads 27 s so, and 7 s by conv3d.
        """
        return (
            window.shape[2] >= 4
            and window.device.type == "cpu"
            and window.dtype == torch.bfloat16
            and not torch.is_grad_enabled()
            and self.kernel_size == (3, 3, 3)
            and self.stride == (1, 1, 1)
        )


class RMSNorm(nn.Module):
    """x / rms(x) * gain over the channels of each pixel (Zhang & Sennrich 2019); zero stays zero.

    The lengths are summed in float32 or better and kept, as all products are, in the dtype of `x`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "b c *rest"]) -> Float[Tensor, "b c *rest"]:
        # Channels last: there they lie side by side in channels_last_3d, where a norm along the strides
        # of a contiguous tensor costs as much as a convolution. Autocast and a float32 result would copy all
        # of x to float32 first, which takes ten times as long on a CPU as the norm, whose kernel sums in
        # float32 in any case. The factors are multiplied out first, since two products of unlike shapes are
        # slower than one of like ones.
        with torch.autocast(x.device.type, enabled=False):
            y = x.movedim(1, -1)
            length = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
            scale = x.shape[1] ** 0.5 / length.clamp_min(1e-12)
            factors = scale @ self.gain.to(x.dtype)[None]
            y = y * factors if torch.is_grad_enabled() else factors.mul_(y)
        return y.movedim(-1, 1)


def activated(x: Float[Tensor, "b c f h w"], norm: RMSNorm) -> Float[Tensor, "b c f h w"]:
    """silu(norm(x)), in the memory of the norm's result where no gradient will ask for that."""
    return F.silu(norm(x), inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); a 1x1x1 convolution takes x past if channels change."""

    def __init__(self, channels: int, out: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = RMSNorm(channels)
        self.conv1 = CausalConv(channels, out, kernel=(3, 3, 3))
        self.norm2 = RMSNorm(out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = CausalConv(out, out, kernel=(3, 3, 3))
        self.skip = CausalConv(channels, out, kernel=(1, 1, 1)) if channels != out else None

    def forward(
        self, x: Float[Tensor, "b c f h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b d f h w"]:
        y = self.conv1(activated(x, self.norm1), memory)
        y = self.conv2(self.dropout(activated(y, self.norm2)), memory)
        return y.add_(x if self.skip is None else self.skip(x))


class FrameAttention(nn.Module):
    """x + out(attention(qkv(norm(x)))): one head, among the pixels of each frame alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)
        self.qkv = CausalConv(channels, 3 * channels, kernel=(1, 1, 1))
        self.out = CausalConv(channels, channels, kernel=(1, 1, 1))

    def forward(
        self, x: Float[Tensor, "b c f h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b c f h w"]:
        f, h = x.shape[2:4]
        qkv = rearrange(self.qkv(self.norm(x)), "b (n c) f h w -> n (b f) 1 (h w) c", n=3)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return x + self.out(rearrange(y, "(b f) 1 (h w) c -> b c f h w", f=f, h=h))
