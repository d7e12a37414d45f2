"""Fewer frames and pixels, more again, and the ways past: the resampling of a causal video autoencoder.

Frame 0 stands alone (an image is a one-frame video); every later output frame of a halving sees two new
frames, and every later input frame of a doubling gives two:

    halve   y = [x0, conv(x0 x1 x2), conv(x2 x3 x4), ..]        1 + 2k frames -> 1 + k
    double  y = [x0, a1, b1, a2, b2, ..],  (a, b) = conv(x1 ..)     1 + k frames -> 1 + 2k

The shortcuts without parameters move space and time into channels and back (space-to-depth averages,
depth-to-space copies), as in DC-AE (Chen et al. 2024, arXiv:2410.10733) and the Wan 2.2 layout.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.causal import CausalConv, Memory, opens_video
from mutoscope.video import Refusal

# Nearest doubling and then taps (u, v, w) is, on the undoubled signal, two taps at each parity:
# even pixels see (u, v+w) at (i-1, i), odd ones (u+v, w) at (i, i+1).
PARITY_TAPS = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


def patchify(x: Float[Tensor, "b c f h w"], patch: int) -> Float[Tensor, "b d f h2 w2"]:
    """Squares of `patch` x `patch` pixels into channels, in the public order (c, column, row)."""
    return rearrange(x, "b c f (h p) (w q) -> b f h w (c q p)", p=patch, q=patch).movedim(-1, 1)


def unpatchify(x: Float[Tensor, "b d f h w"], patch: int) -> Float[Tensor, "b c f h2 w2"]:
    """The inverse of `patchify`."""
    return rearrange(x, "b (c q p) f h w -> b c f (h p) (w q)", p=patch, q=patch)


class AverageDown(nn.Module):
    """Space and time into channels, then the mean over groups of these: a shortcut past a down stage."""

    def __init__(self, channels: int, out: int, *, time: int, space: int) -> None:
        super().__init__()
        self.out, self.time, self.space = out, time, space
        self.group = _share(channels * time * space**2, out)

    def forward(
        self, x: Float[Tensor, "b c f h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b d f2 h2 w2"]:
        if opens_video(self, memory):
            # Frame 0 has no partner: zeros stand before it, as before every convolution.
            x = F.pad(x, (0, 0, 0, 0, self.time - 1, 0))
        x = rearrange(
            x, "b c (f t) (h p) (w q) -> b f h w (c t p q)", t=self.time, p=self.space, q=self.space
        )
        x = x.unflatten(-1, (self.out, self.group)).mean(-1)
        return x.movedim(-1, 1)


class CopyUp(nn.Module):
    """Channels repeated and then unfolded into time and space: a shortcut past an up stage."""

    def __init__(self, channels: int, out: int, *, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.copies = _share(out * time * space**2, channels)

    def forward(
        self, x: Float[Tensor, "b c f h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b d f2 h2 w2"]:
        x = x.movedim(1, -1).repeat_interleave(self.copies, dim=-1)
        x = rearrange(
            x, "b f h w (c t p q) -> b (f t) (h p) (w q) c", t=self.time, p=self.space, q=self.space
        ).movedim(-1, 1)
        # Frame 0 is one frame, not `time`: the first copies would stand before the video.
        return x[:, :, self.time - 1 :] if opens_video(self, memory) else x


def _share(many: int, few: int) -> int:
    if many % few:
        raise Refusal(
            f"a shortcut cannot share {many} channels evenly among {few}; let stages keep or double theirs"
        )
    return many // few


class Downsample(nn.Module):
    """Half the height and width by a strided convolution; with `time`, then half the frames."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__()
        self.space = nn.Conv3d(channels, channels, (1, 3, 3), stride=(1, 2, 2))
        self.time = (
            CausalConv(channels, channels, kernel=(3, 1, 1), stride=(2, 1, 1), past=0) if time else None
        )

    def forward(
        self, x: Float[Tensor, "b c f h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b c f2 h2 w2"]:
        x = self.space(F.pad(x, (0, 1, 0, 1)))
        return x if self.time is None else self._halve(x, self.time, memory)

    def _halve(self, x: Tensor, time: CausalConv, memory: Memory | None) -> Tensor:
        past = memory.past(self) if memory is not None else None
        window = x if past is None else torch.cat([past, x], dim=2)
        if memory is not None:
            memory.keep(self, x[:, :, -1:])
        first = [x[:, :, :1]] if past is None else []
        later = [time(window)] if window.shape[2] >= 3 else []
        return torch.cat(first + later, dim=2)


class Upsample(nn.Module):
    """With `time`, twice the frames; then twice the height and width, copied to the nearest and convolved."""

    def __init__(self, channels: int, out: int, *, time: bool) -> None:
        super().__init__()
        self.space = nn.Conv3d(channels, out, (1, 3, 3), padding=(0, 1, 1))
        self.time = CausalConv(channels, 2 * channels, kernel=(3, 1, 1)) if time else None

    def forward(
        self, x: Float[Tensor, "b c f h w"], memory: Memory | None = None
    ) -> Float[Tensor, "b d f2 h2 w2"]:
        if self.time is not None:
            x = self._double(x, self.time, memory)
        return double_and_convolve(x, self.space.weight, self.space.bias)

    def _double(self, x: Tensor, time: CausalConv, memory: Memory | None) -> Tensor:
        first = x[:, :, :1] if opens_video(self, memory) else None
        later = x if first is None else x[:, :, 1:]
        if later.shape[2] == 0:
            return x
        # The history of this convolution starts at frame 1: frame 0 never enters it.
        pairs = rearrange(time(later, memory), "b (n c) f h w -> b (f n) h w c", n=2).movedim(-1, 1)
        return pairs if first is None else torch.cat([first, pairs], dim=2)


def double_and_convolve(
    x: Float[Tensor, "b c f h w"], weight: Float[Tensor, "d c 1 3 3"], bias: Float[Tensor, " d"] | None
) -> Float[Tensor, "b d f h2 w2"]:
    """A 3x3 convolution of `x` doubled in height and width, without doubling it.

    One 2x2 convolution with the outputs of all four parities (16 taps a pixel instead of 36) and an
    interleaving: exact up to rounding, the sub-pixel identity of Shi et al. 2016 read backwards.
    """
    h, w = x.shape[3:]
    taps = weight.new_tensor(PARITY_TAPS)
    small = torch.einsum("aik,bjl,dckl->abdcij", taps, taps, weight[:, :, 0])
    small = rearrange(small, "a b d c i j -> (a b d) c 1 i j")
    y = F.conv3d(x, small, None if bias is None else bias.repeat(4), padding=(0, 1, 1))
    y = rearrange(y, "b (n d) f h w -> n b f h w d", n=4)
    rows = [torch.stack([y[2 * a + b, :, :, a : a + h, b : b + w] for b in (0, 1)], dim=4) for a in (0, 1)]
    return rearrange(torch.stack(rows, dim=3), "b f h p w q d -> b d f (h p) (w q)")
