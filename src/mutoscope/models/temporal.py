"""Layers that mix frames, and how frames that are no part of the film stay out.

A batch may carry independent images after its clip (`Frames.images`; Ho et al. 2022, 2204.03458): they make
training cheap and must see nothing, and nothing may see them. Frames mix in three ways, and each is masked:

    attention       an image attends to itself, the clip to the clip
    convolution     y[k] = w0 x[k-1] + w1 x[k] + w2 x[k+1], where neighbours outside the own group are zero
    statistics      a norm over (f, h, w) takes mean and variance over the clip, and over each image by itself

What a layer adds is merged by x + d, or by x + (1 - α) d with one learned α in [0, 1] (Blattmann et al. 2023,
2304.08818: α x + (1 - α) l(x), l(x) = x + d). There α is exactly 1 for images: they see the image model.
Every d starts at zero, so the film model starts as the image model.

Features are `b f p c`, p pixels, channels last, as convolutions leave them in channels_last: no layer here
moves them. Attention over frames counts (pixel, head) as its heads.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.normed import normed
from mutoscope.models.text import distance_buckets
from mutoscope.models.transformer import sinusoid
from mutoscope.models.unet_attention import Feed, HeadedAttention, Words, zeroed
from mutoscope.models.unet_config import Positions, TimeConfig

BUCKETS, FAR = 32, 64
"""Relative positions: how many are told apart, and from how many frames on all are alike."""


@dataclass(frozen=True)
class Frames:
    """How the frames of a batch belong together: `count` of them, the clip first, then its `images` (flags
    "b f"; None where there are none)."""

    count: int
    images: Bool[Tensor, "b f"] | None = None
    # Made once and not when asked for: a compiler cannot look into a cached property.
    clip: Float[Tensor, "b f 1 1"] | None = field(init=False)
    """1 for frames of the clip, 0 for images."""
    bias: Float[Tensor, "b 1 f f"] | None = field(init=False)
    """What is added to scores: 0 where a frame may look, -inf elsewhere."""

    def __post_init__(self) -> None:
        images = self.images
        clip = None if images is None else rearrange((~images).float(), "b f -> b f 1 1")
        object.__setattr__(self, "clip", clip)
        object.__setattr__(self, "bias", None if images is None else _apart(images))

    def places(self, device: torch.device) -> Float[Tensor, "#b f"]:
        """Where each frame stands in its clip; an image stands at 0, as the only frame of a film."""
        places = torch.arange(self.count, dtype=torch.float32, device=device).unsqueeze(0)
        return places if self.images is None else places.masked_fill(self.images, 0.0)


def _apart(images: Bool[Tensor, "b f"]) -> Float[Tensor, "b 1 f f"]:
    """Scores between frames of one group 0, of two groups -inf."""
    either = images.unsqueeze(1) | images.unsqueeze(2)
    apart = either & ~torch.eye(images.shape[1], dtype=torch.bool, device=images.device)
    return torch.zeros(apart.shape, device=apart.device).masked_fill(apart, -math.inf).unsqueeze(1)


@dataclass(frozen=True)
class Scene:
    """What every layer is told: the frames, their diffusion time (embedded, after SiLU; f = 1: one for all),
    and the words."""

    frames: Frames
    time: Float[Tensor, "b f e"]
    words: Words | None = None


class NumberEmbedding(nn.Module):
    """k numbers as sinusoids of `waves` channels each, through a small network; fp32 sinusoids."""

    def __init__(self, waves: int, *, hidden: int, out: int, numbers: int = 1) -> None:
        super().__init__()
        self.waves = waves
        self.first = nn.Linear(numbers * waves, hidden)
        self.second = nn.Linear(hidden, out)

    def forward(self, numbers: Float[Tensor, "b k"]) -> Float[Tensor, "b e"]:
        weight = self.first.weight
        with torch.autocast(weight.device.type, enabled=False):
            waves = sinusoid(numbers.float(), self.waves).flatten(1)
            return self.second(F.silu(self.first(waves.to(weight.dtype))))

    def start_at_zero(self) -> "NumberEmbedding":
        zeroed(self.second)
        return self


class TimeNorm(nn.GroupNorm):
    """A group norm whose statistics run over pixels and frames, of the clip and of each image apart."""

    def forward(self, x: Float[Tensor, "b f p c"], frames: Frames) -> Float[Tensor, "b f p c"]:  # type: ignore[override]
        return self._normed(x, frames, silu=False)

    def activated(self, x: Float[Tensor, "b f p c"], frames: Frames) -> Float[Tensor, "b f p c"]:
        """silu(norm(x))."""
        return self._normed(x, frames, silu=True)

    def _normed(self, x: Tensor, frames: Frames, *, silu: bool) -> Tensor:
        if frames.images is None:
            rows, weight, bias = x.flatten(1, 2), self.weight, self.bias
            y = normed(rows, weight, bias=bias, groups=self.num_groups, eps=self.eps, silu=silu)
            return y.view(x.shape)
        factor, shift = self._factor_and_shift(x, frames)
        y = torch.addcmul(shift.to(x.dtype), x, factor.to(x.dtype))
        return F.silu(y) if silu else y

    def _factor_and_shift(self, x: Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
        """gain / std and bias - gain · mean / std, "b f 1 c", from moments of every frame."""
        grouped = rearrange(x, "b f p (g c) -> b f g p c", g=self.num_groups)
        wide = grouped.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(wide, dim=(3, 4), correction=0)
        var, mean = pooled_moments(var, mean, frames=frames)
        inverse = (var + self.eps).rsqrt()
        spread = self.num_channels // self.num_groups
        inverse, mean = (v.repeat_interleave(spread, dim=2).unsqueeze(2) for v in (inverse, mean))
        factor = inverse * self.weight
        return factor, self.bias - mean * factor


def pooled_moments(
    var: Float[Tensor, "b f g"], mean: Float[Tensor, "b f g"], *, frames: Frames
) -> tuple[Float[Tensor, "b f g"], Float[Tensor, "b f g"]]:
    """Moments of frames to moments of their group: the clip as a whole, an image as it is.

    var = mean over frames of var + variance over frames of mean
    """
    assert frames.clip is not None and frames.images is not None
    clip = frames.clip.squeeze(-1).to(var)
    share = clip / clip.sum(dim=1, keepdim=True).clamp(min=1)
    whole = (share * mean).sum(dim=1, keepdim=True)
    spread = (share * (var + (mean - whole).square())).sum(dim=1, keepdim=True)
    image = frames.images.unsqueeze(-1)
    return torch.where(image, var, spread), torch.where(image, mean, whole)


class FrameConv(nn.Module):
    """A convolution over three frames at every pixel, zeros before and after the film."""

    def __init__(self, channels: int, *, start_at_zero: bool = False) -> None:
        super().__init__()
        weight = torch.zeros(channels, channels, 3)
        if not start_at_zero:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        # Taps before channels in memory, as kernels take it.
        self.weight = nn.Parameter(weight.mT.contiguous().mT)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b f p c"], frames: Frames) -> Float[Tensor, "b f p c"]:
        if frames.count == 1:
            return F.linear(x, self.weight[..., 1], self.bias)
        if frames.clip is None:
            return self._over_frames(x)
        alone = F.linear(x, self.weight[..., 1], self.bias)
        return torch.where(frames.clip.bool(), self._over_frames(x * frames.clip.to(x.dtype)), alone)

    def _over_frames(self, x: Tensor) -> Tensor:
        # One image per film, f high and p wide, channels last as it lies: 2D kernels are several times as
        # fast on it as those of a 3D convolution.
        weight = self.weight.mT.unsqueeze(2).movedim(3, 1)
        y = F.conv2d(x.movedim(3, 1), weight, self.bias, padding=(1, 0))
        return y.movedim(1, 3)


class Merge(nn.Module):
    """x + (1 - α) d with one learned α = sigmoid(mix), exactly 1 for images."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor([0.5]))

    def share(self, frames: Frames) -> Float[Tensor, "#b #f 1 1"]:
        """1 - α, for every frame."""
        share = (1 - torch.sigmoid(self.mix)).view(1, 1, 1, 1)
        return share if frames.images is None else share.masked_fill(frames.images[:, :, None, None], 0.0)

    def forward(self, x: Tensor, update: Tensor, frames: Frames) -> Tensor:
        """x + share · update: x itself, bit for bit, where the share or the update is zero."""
        return torch.addcmul(x, update.to(x.dtype), self.share(frames).to(x.dtype))


class TimeConvs(nn.Module):
    """x + conv(silu(norm(.. conv(silu(norm(x))) ..))) over frames: twice, with the diffusion time between, or
    four times without."""

    def __init__(self, channels: int, *, config: TimeConfig, groups: int, eps: float, time_dim: int) -> None:
        super().__init__()
        count = config.convs
        norms = nn.ModuleList(TimeNorm(groups, channels, eps=eps) for _ in range(count))
        # A list of modules does not know what they are.
        self.norms: Iterable[TimeNorm] = norms  # type: ignore[assignment]
        self.convs = nn.ModuleList(FrameConv(channels, start_at_zero=k == count - 1) for k in range(count))
        self.time = nn.Linear(time_dim, channels) if count == 2 else None
        self.merge = Merge() if config.merge == "alpha" else None

    def forward(self, x: Float[Tensor, "b f p c"], scene: Scene) -> Float[Tensor, "b f p c"]:
        y = x
        for index, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            y = conv(norm.activated(y, scene.frames), scene.frames)
            if index == 0 and self.time is not None:
                y = y + self.time(scene.time).unsqueeze(2)
        return x + y if self.merge is None else self.merge(x, y, scene.frames)


class TimeBlock(nn.Module):
    """Attention over frames at each pixel, with what else a layout has before and after it; each part is
    added to its input and starts at zero."""

    def __init__(self, channels: int, *, heads: int, config: TimeConfig, text_dim: int | None) -> None:
        super().__init__()
        self.positions = config.positions
        head_dim = channels // heads
        self.norm_in = nn.LayerNorm(channels) if config.feed_in else None
        self.feed_in = Feed(channels, start_at_zero=True) if config.feed_in else None
        self.norm1 = nn.LayerNorm(channels)
        self.attention = HeadedAttention(channels, head_dim=head_dim, start_at_zero=True)
        self.distance = nn.Embedding(BUCKETS, heads) if config.positions == "relative" else None
        context = text_dim if config.second == "text" else channels
        has_second = config.second != "none" and context is not None
        self.norm2 = nn.LayerNorm(channels) if has_second else None
        self.second = (
            HeadedAttention(channels, head_dim=head_dim, context=context, start_at_zero=True)
            if has_second
            else None
        )
        self.reads = config.second == "text"
        self.norm3 = nn.LayerNorm(channels) if config.feed else None
        self.feed = Feed(channels, start_at_zero=True) if config.feed else None
        if self.distance is not None:
            nn.init.zeros_(self.distance.weight)

    def forward(self, x: Float[Tensor, "b f p c"], scene: Scene) -> Float[Tensor, "b f p c"]:
        if self.feed_in is not None and self.norm_in is not None:
            x = x + self.feed_in(self.norm_in(x))
        bias, rope = self._bias(x, scene.frames), self._rope(x, scene.frames)
        x = x + self.attention(self.norm1(x), bias=bias, rope=rope)
        if self.second is not None and self.norm2 is not None:
            x = x + self._second(self.norm2(x), scene)
        if self.feed is not None and self.norm3 is not None:
            x = x + self.feed(self.norm3(x))
        return x

    def _second(self, x: Tensor, scene: Scene) -> Tensor:
        assert self.second is not None
        if not self.reads:
            return self.second(x, bias=scene.frames.bias)
        return self.second.read(x, scene.words)

    def _bias(self, x: Tensor, frames: Frames) -> Tensor | None:
        """Learned for every distance and head, and -inf between frames of different groups."""
        if self.distance is None:
            return frames.bias
        places = torch.arange(frames.count, device=x.device)
        apart = places[None, :] - places[:, None]
        learned = self.distance(distance_buckets(apart, buckets=BUCKETS, max_distance=FAR))
        learned = learned.permute(2, 0, 1).repeat(x.shape[2], 1, 1).unsqueeze(0)  # heads are (pixel, head)
        return learned if frames.bias is None else learned + frames.bias

    def _rope(self, x: Tensor, frames: Frames) -> Tensor | None:
        if self.positions != "rotary":
            return None
        return frame_rope(frames.count, self.attention.head_dim, device=x.device)


def frame_rope(
    frames: int, head_dim: int, *, first: int = 0, device: torch.device | None = None
) -> Float[Tensor, "2 f p"]:
    """Cosines and sines by which channel pairs turn: frame · 10000^(-2i/d), from frame `first` on."""
    pairs = torch.arange(0, head_dim - head_dim % 2, 2, dtype=torch.float64, device=device)
    places = torch.arange(first, first + frames, dtype=torch.float64, device=device)
    angles = torch.outer(places, 10000.0 ** (-pairs / head_dim))
    return torch.stack([angles.cos(), angles.sin()]).float()


class TimeAttention(nn.Module):
    """Blocks of attention over frames, the order of the frames added to what they see, and their merge."""

    def __init__(
        self, channels: int, *, heads: int, config: TimeConfig, text_dim: int | None, depth: int = 1
    ) -> None:
        super().__init__()
        self.places = (
            NumberEmbedding(channels, hidden=4 * channels, out=channels).start_at_zero()
            if config.positions == "sinusoid"
            else None
        )
        self.blocks = nn.ModuleList(
            TimeBlock(channels, heads=heads, config=config, text_dim=text_dim) for _ in range(depth)
        )
        self.merge = Merge() if config.merge == "alpha" else None

    def forward(
        self, x: Float[Tensor, "b f p c"], scene: Scene, *, index: int = 0
    ) -> Float[Tensor, "b f p c"]:
        frames = scene.frames
        y = x if self.places is None else x + self._placed(self.places, x, frames)
        y = self.blocks[index](y, scene)
        return y if self.merge is None else self.merge(x, y - x, frames)

    def _placed(self, embedding: NumberEmbedding, x: Tensor, frames: Frames) -> Float[Tensor, "#b f 1 c"]:
        places = frames.places(x.device)
        rows = embedding(rearrange(places, "b f -> (b f) 1"))
        return rearrange(rows, "(b f) c -> b f 1 c", b=len(places)).to(x.dtype)


class WrappedTimeAttention(nn.Module):
    """x + outward(blocks(inward(norm(x)))), the norm over all pixels and frames; ModelScope's."""

    def __init__(self, channels: int, *, heads: int, head_dim: int, config: TimeConfig, groups: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = TimeNorm(groups, channels, eps=1e-6)
        self.inward = nn.Linear(channels, inner)
        self.inner = TimeAttention(inner, heads=heads, config=config, text_dim=None)
        self.outward = nn.Linear(inner, channels)
        zeroed(self.outward)

    def forward(self, x: Float[Tensor, "b f p c"], scene: Scene) -> Float[Tensor, "b f p c"]:
        return x + self.outward(self.inner(self.inward(self.norm(x, scene.frames)), scene))


TEMPORAL = (TimeConvs, TimeAttention, WrappedTimeAttention)
"""All modules that an image model does not have, beside the embedding of labels."""

__all__ = [
    "TEMPORAL",
    "FrameConv",
    "Frames",
    "Merge",
    "NumberEmbedding",
    "Positions",
    "Scene",
    "TimeAttention",
    "TimeBlock",
    "TimeConvs",
    "TimeNorm",
    "WrappedTimeAttention",
    "frame_rope",
    "pooled_moments",
]
