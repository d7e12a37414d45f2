"""What makes a decoder of pictures one of clips: layers over frames that begin as the identity.

After each residual block of space stands one of time, a convolution over three frames, merged by a learned
share; behind the last convolution stands one more over three frames:

    x <- x + sigmoid(mix) · conv(silu(norm(conv(silu(norm(x))))))        pixels <- conv(pixels)

The layout is the decoder of Stable Video Diffusion (Blattmann et al. 2023, arXiv:2311.15127), whose blend of
a spatial and a temporal path, (1 - share) x + share (x + branch), is the sum above. Written as a sum it is x
itself, bit for bit, where the branch is zero or the share is. So a decoder whose branches are zero and whose
last convolution copies is the decoder of pictures, and from there it learns (Align Your Latents, Blattmann et
al. 2023, arXiv:2304.08818).
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.temporal import FrameConv, Frames, TimeNorm

EPS = 1e-5


class DecoderTime(nn.Module):
    """x + sigmoid(mix) · branch(x), where the branch convolves over three frames twice; x itself for images.

    Its norms take their statistics over all frames of a clip. It begins as the identity, with a share of 1/2:
    the last convolution of the branch is zero, so the first step of training already moves it.
    """

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.norm1 = TimeNorm(groups, channels, eps=EPS)
        self.conv1 = FrameConv(channels)
        self.norm2 = TimeNorm(groups, channels, eps=EPS)
        self.conv2 = FrameConv(channels, start_at_zero=True)
        self.mix = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "bf c h w"], frames: Frames) -> Float[Tensor, "bf c h w"]:
        return with_change(self._change, x, frames)

    def _change(self, clip: Float[Tensor, "b f p c"]) -> Float[Tensor, "b f p c"]:
        y = self.conv1(self.norm1(clip, silu=True))
        y = self.conv2(self.norm2(y, silu=True))
        return torch.sigmoid(self.mix).to(y.dtype) * y


class LastInTime(nn.Module):
    """A convolution over three frames of the pixels, which begins by copying them; images stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = FrameConv(channels, start_at_zero=True)
        nn.init.dirac_(self.conv.weight)

    def forward(self, x: Float[Tensor, "bf c h w"], frames: Frames) -> Float[Tensor, "bf c h w"]:
        return with_change(self._change, x, frames)

    def _change(self, clip: Float[Tensor, "b f p c"]) -> Float[Tensor, "b f p c"]:
        # What is copied goes past the convolution: a GPU would round it to the precision of its products.
        copying = nn.init.dirac_(torch.empty_like(self.conv.weight))
        return torch.func.functional_call(self.conv, {"weight": self.conv.weight - copying}, (clip,))


def with_change(
    change: Callable[[Tensor], Tensor], x: Float[Tensor, "bf c h w"], frames: Frames
) -> Float[Tensor, "bf c h w"]:
    """x and what a layer adds to the clips "b f p c"; images stay as they are, and it learns nothing from
    them."""
    if not frames.film:
        return x
    rows = rearrange(x, "(b f) c h w -> b f (h w) c", f=frames.count)
    update = F.pad(change(rows[:, : frames.film]), (0, 0, 0, 0, 0, frames.images))
    return x + rearrange(update, "b f (h w) c -> (b f) c h w", h=x.shape[2])
