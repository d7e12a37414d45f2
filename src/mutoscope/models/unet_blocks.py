"""What a U-Net is stacked from: residual blocks, transformers over space, and the layers between skips.

    layer:  x = residual(x, time);  x = time_convs(x);  x = transformer(x, words);  x = time_attention(x)

Everything but the layers over frames (`temporal.py`) sees each frame alone. Maps are `(b f) c h w` in
channels_last, and the same memory read as `b f p c` where attention and frames come in.
"""

from collections.abc import Iterable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.normed import FrameNorm
from mutoscope.models.resampling import double_and_convolve
from mutoscope.models.temporal import (
    Frames,
    Scene,
    TimeAttention,
    TimeConvs,
    WrappedTimeAttention,
)
from mutoscope.models.unet_attention import SpaceBlock, zeroed
from mutoscope.models.unet_config import UNetConfig

TRANSFORMER_EPS = 1e-6


def as_rows(x: Float[Tensor, "bf c h w"], frames: Frames) -> Float[Tensor, "b f p c"]:
    """The same memory, pixels side by side."""
    return rearrange(x, "(b f) c h w -> b f (h w) c", f=frames.count)


def as_maps(rows: Float[Tensor, "b f p c"], like: Float[Tensor, "bf c h w"]) -> Float[Tensor, "bf c h w"]:
    """The way back to maps of the size of `like`, in channels_last."""
    return rearrange(rows, "b f (h w) c -> (b f) c h w", h=like.shape[2])


def of_frames(layer: nn.Linear, scene: Scene, like: Tensor) -> Float[Tensor, "bf d"]:
    """What a layer makes of the time of every frame, in the dtype of `like`."""
    told = layer(scene.time).to(like.dtype)
    return rearrange(told.expand(-1, scene.frames.count, -1), "b f d -> (b f) d")


class ResidualBlock(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x))) + time))); the skip is a 1x1 convolution if channels
    change."""

    def __init__(self, channels: int, out: int, *, config: UNetConfig, eps: float, time_dim: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(config.groups, channels, eps=eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time_dim, out)
        self.norm2 = FrameNorm(config.groups, out, eps=eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else None
        zeroed(self.conv2)

    def forward(self, x: Float[Tensor, "bf c h w"], scene: Scene) -> Float[Tensor, "bf d h w"]:
        y = self.conv1(self.norm1(x, silu=True))
        y = y + rearrange(of_frames(self.time, scene, y), "n d -> n d 1 1")
        y = self.conv2(self.dropout(self.norm2(y, silu=True)))
        return (x if self.skip is None else self.skip(x)) + y


class SpaceTransformer(nn.Module):
    """x + outward(blocks(inward(norm(x)))) over the pixels of each frame, and over frames between the blocks
    where the config puts that inside."""

    def __init__(self, channels: int, *, heads: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm = FrameNorm(config.groups, channels, eps=TRANSFORMER_EPS)
        self.inward = nn.Linear(channels, channels)
        self.blocks = nn.ModuleList(
            SpaceBlock(channels, heads=heads, text_dim=config.text_dim, feed=config.feed)
            for _ in range(config.depth)
        )
        inside = config.time is not None and config.time.place == "inside"
        self.time_attention = time_attention(channels, heads=heads, config=config) if inside else None
        self.outward = nn.Linear(channels, channels)
        zeroed(self.outward)

    def forward(self, x: Float[Tensor, "bf c h w"], scene: Scene) -> Float[Tensor, "bf c h w"]:
        rows = self.inward(as_rows(self.norm(x), scene.frames))
        for index, block in enumerate(self.blocks):
            rows = block(rows, scene.words)
            if self.time_attention is not None:
                rows = self.time_attention(rows, scene, index=index)
        return x + as_maps(self.outward(rows), x)


def time_attention(
    channels: int, *, heads: int, config: UNetConfig, entry: bool = False
) -> TimeAttention | WrappedTimeAttention:
    """The attention over frames that the config asks for, at this width; `entry`: after the first
    convolution, where the public layout has eight heads."""
    time = config.time
    assert time is not None
    if time.place == "wrapped":
        return WrappedTimeAttention(
            channels,
            heads=8 if entry else heads,
            head_dim=channels // heads,
            config=time,
            groups=config.groups,
        )
    depth = config.depth if time.place == "inside" else 1
    return TimeAttention(channels, heads=heads, config=time, text_dim=config.text_dim, depth=depth)


class Finish(nn.Module):
    """Three convolutions of pixels that see what the network says of each frame, and beside it what else it
    tells them and the noisy frame: what is added to the former.

    A network of patches learns an edge anew for every place that it may have in a patch; these learn it once.
    They have no norm, but gains by time, and start as nothing.
    """

    def __init__(self, seen: int, out: int, *, width: int, time_dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(out + seen, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, out, 3, padding=1)
        self.gains = nn.Linear(time_dim, 4 * width)
        zeroed(self.last)
        zeroed(self.gains)

    def forward(
        self, said: Float[Tensor, "bf d h w"], beside: Float[Tensor, "bf c h w"], scene: Scene
    ) -> Float[Tensor, "bf d h w"]:
        gains = rearrange(of_frames(self.gains, scene, said), "n (k c) -> k n c 1 1", k=4)
        x = F.silu(self.first(torch.cat([said, beside], dim=1)) * (1 + gains[0]) + gains[1])
        x = F.silu(self.second(x) * (1 + gains[2]) + gains[3])
        return self.last(x)


class Layer(nn.Module):
    """A residual block and what follows it at its resolution."""

    def __init__(
        self, channels: int, out: int, *, level: int, config: UNetConfig, eps: float, attends: bool = True
    ) -> None:
        super().__init__()
        time, heads = config.time, config.heads[level]
        time_dim = 4 * config.channels[0]
        self.residual = ResidualBlock(channels, out, config=config, eps=eps, time_dim=time_dim)
        self.time_convs = None
        if time is not None and time.convs:
            # The four convolutions of ModelScope have an eps of their own.
            own = eps if time.convs == 2 else 1e-5
            self.time_convs = TimeConvs(out, config=time, groups=config.groups, eps=own, time_dim=time_dim)
        in_space = attends and config.attention[level]
        self.transformer = SpaceTransformer(out, heads=heads, config=config) if in_space else None
        over_time = attends and config.time_levels[level] and time is not None and time.place != "inside"
        self.time_attention = time_attention(out, heads=heads, config=config) if over_time else None

    def forward(self, x: Float[Tensor, "bf c h w"], scene: Scene) -> Float[Tensor, "bf d h w"]:
        x = self.residual(x, scene)
        if self.time_convs is not None:
            x = as_maps(self.time_convs(as_rows(x, scene.frames), scene), x)
        if self.transformer is not None:
            x = self.transformer(x, scene)
        if self.time_attention is not None:
            x = as_maps(self.time_attention(as_rows(x, scene.frames), scene), x)
        return x


class Upsample(nn.Conv2d):
    """Twice the height and width, copied to the nearest and convolved 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "bf c h w"]) -> Float[Tensor, "bf c h2 w2"]:  # type: ignore[override]
        if x.device.type != "cpu":  # plain 2D convolutions are what its library is best at
            return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return double_and_convolve(x.unsqueeze(2), self.weight.unsqueeze(2), self.bias).squeeze(2)


class Stage(nn.Module):
    """The layers at one resolution, and the way to the next."""

    def __init__(self, layers: Iterable[Layer], *, shrink: nn.Module | None, grow: nn.Module | None) -> None:
        super().__init__()
        # A list of modules does not know what they are; whoever loops over these should.
        self.layers: Iterable[Layer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.shrink = shrink
        self.grow = grow
