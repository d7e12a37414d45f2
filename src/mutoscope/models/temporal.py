"""Layers that mix frames, and how frames that are no part of the film stay out.

A batch may carry independent images after its clip (`Frames`; Ho et al. 2022, 2204.03458): they make training
cheap and must see nothing, and nothing may see them. Frames mix in three ways, attention, convolution and the
statistics of norms. None has a mask: every layer is given films, of the clip's frames and of one frame each
(`each_film`), so there is nothing to leak, and nothing is computed that a mask would throw away.

What a layer adds is merged by x + d, or by x + (1 - α) d with one learned α in [0, 1] (Blattmann et al. 2023,
2304.08818: α x + (1 - α) l(x), l(x) = x + d). There α is exactly 1 for images, which pass as they are: they
see the image model. Every d starts at zero, so the film model starts as the image model.

Features are `b f p c`, p pixels, channels last, as convolutions leave them in channels_last: no layer here
moves them. Attention over frames counts (pixel, head) as its heads.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.normed import LayerNorm, RowNorm
from mutoscope.models.text import distance_buckets
from mutoscope.models.transformer import sinusoid
from mutoscope.models.unet_attention import Feed, HeadedAttention, Words, zeroed
from mutoscope.models.unet_config import Positions, TimeConfig

BUCKETS, FAR = 32, 64
"""Relative positions: how many are told apart, and from how many frames on all are alike."""


@dataclass(frozen=True)
class Frames:
    """How the frames of a batch belong together: `count` of a sample, the `clip` first, then its images
    (None: all are the clip)."""

    count: int
    clip: int | None = None

    @property
    def film(self) -> int:
        """Frames of the clip."""
        return self.count if self.clip is None else self.clip

    @property
    def images(self) -> int:
        return self.count - self.film

    def split(self, x: Float[Tensor, "b f *c"]) -> tuple[Float[Tensor, "b f1 *c"], Float[Tensor, "b f2 *c"]]:
        """Frames of the clips, and images."""
        clip, images = x.split((self.film, self.images), dim=1)  # in whose gradient nothing is added
        return clip, images


@dataclass(frozen=True)
class Scene:
    """What every layer is told: the frames, their diffusion time (embedded, after SiLU; f = 1: one for all),
    and the words. Where there are images, `films` tells it of the clip (of `count` frames) and of the images
    (of one each)."""

    frames: Frames
    time: Float[Tensor, "b f e"]
    words: Words | None = None
    films: "tuple[Scene, Scene] | None" = None

    @classmethod
    def of(cls, frames: Frames, time: Float[Tensor, "b #f e"], words: Words | None) -> "Scene":
        if not frames.images:
            return cls(frames, time, words)
        f, n = frames.film, frames.count
        clip, images = frames.split(time.expand(-1, n, -1))
        told = (None, None) if words is None else words.split(f, n, batch=len(time))
        alone = cls(Frames(1), rearrange(images, "b k e -> (b k) 1 e"), told[1])
        return cls(frames, time, words, (cls(Frames(f), clip, told[0]), alone))


Film = Callable[[Tensor, Scene], Tensor]
"""A layer over the frames of films "b f p c"."""


def each_film(layer: Film, x: Float[Tensor, "b f p c"], scene: Scene) -> Float[Tensor, "b f p c"]:
    """The layer of every clip, and of every image as a film of one frame."""
    if scene.films is None:
        return layer(x, scene)
    (of_clip, of_image), (clip, images) = scene.films, scene.frames.split(x)
    alone = layer(rearrange(images, "b k p c -> (b k) 1 p c"), of_image)
    alone = rearrange(alone, "(b k) 1 p c -> b k p c", k=scene.frames.images)
    return torch.cat([layer(clip, of_clip), alone], dim=1) if scene.frames.film else alone


def each_clip(layer: Film, x: Float[Tensor, "b f p c"], scene: Scene) -> Float[Tensor, "b f p c"]:
    """The layer of every clip; images stay as they are, and the layer learns nothing from them."""
    if scene.films is None:
        return layer(x, scene)
    clip, images = scene.frames.split(x)
    return torch.cat([layer(clip, scene.films[0]), images], dim=1) if scene.frames.film else x


Group = Callable[[list[int], Int[Tensor, "n f"], Frames], Float[Tensor, "n c f h w"]]
"""Samples with equally many images, the order in which their clip comes first, their frames -> a film, so."""


def each_group(images: Bool[Tensor, "b f"], make: Group) -> Float[Tensor, "b c f h w"]:
    """What is made of samples with equally many images, their clip first, as the flags have them.

    The flags are read here and now: on a GPU they are waited for."""
    images = images.cpu()
    orders, counts = images.to(torch.uint8).argsort(dim=1, stable=True), (~images).sum(dim=1).tolist()
    made, samples = list[Tensor](), list[int]()
    for count in sorted(set(counts)):
        rows = [row for row, own in enumerate(counts) if own == count]
        order = orders[rows]
        made.append(in_order(make(rows, order, Frames(images.shape[1], count)), order.argsort(dim=1)))
        samples += rows
    return torch.cat(made)[torch.tensor(samples).argsort().to(made[0].device)]


def in_order(x: Float[Tensor, "b c f h w"], order: Int[Tensor, "b f"]) -> Float[Tensor, "b c f h w"]:
    """Frame order[b, k] of every sample at place k."""
    if bool((order.diff(dim=1) == 1).all()):  # as they stand
        return x
    return x.gather(2, order.to(x.device)[:, None, :, None, None].expand_as(x))


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


class TimeNorm(RowNorm):
    """A group norm of films "b f p c" whose statistics run over pixels and frames."""

    def forward(self, x: Float[Tensor, "b f p c"], *, silu: bool = False) -> Float[Tensor, "b f p c"]:
        return super().forward(x.flatten(1, 2), silu=silu).view(x.shape)


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

    def forward(self, x: Float[Tensor, "b f p c"]) -> Float[Tensor, "b f p c"]:
        if x.shape[1] == 1:
            return F.linear(x, self.weight[..., 1], self.bias)
        # One image per film, f high and p wide, channels last as it lies: 2D kernels are several times as
        # fast on it as those of a 3D convolution.
        weight = self.weight.mT.unsqueeze(2).movedim(3, 1)
        y = F.conv2d(x.movedim(3, 1), weight, self.bias, padding=(1, 0))
        return y.movedim(1, 3)


class Merge(nn.Module):
    """x + (1 - α) d with one learned α = sigmoid(mix)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        """x + share · update: x itself, bit for bit, where the share or the update is zero."""
        return torch.addcmul(x, update.to(x.dtype), (1 - torch.sigmoid(self.mix)).to(x.dtype))


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
        return (each_film if self.merge is None else each_clip)(self._film, x, scene)

    def _film(self, x: Tensor, scene: Scene) -> Tensor:
        y = x
        for index, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            y = conv(norm(y, silu=True))
            if index == 0 and self.time is not None:
                y = y + self.time(scene.time).unsqueeze(2)
        return x + y if self.merge is None else self.merge(x, y)


class TimeBlock(nn.Module):
    """Attention over frames at each pixel, with what else a layout has before and after it; each part is
    added to its input and starts at zero."""

    def __init__(self, channels: int, *, heads: int, config: TimeConfig, text_dim: int | None) -> None:
        super().__init__()
        self.positions = config.positions
        head_dim = channels // heads
        self.norm_in = LayerNorm(channels) if config.feed_in else None
        self.feed_in = Feed(channels, start_at_zero=True) if config.feed_in else None
        self.norm1 = LayerNorm(channels)
        self.attention = HeadedAttention(channels, head_dim=head_dim, start_at_zero=True)
        self.distance = nn.Embedding(BUCKETS, heads) if config.positions == "relative" else None
        context = text_dim if config.second == "text" else channels
        has_second = config.second != "none" and context is not None
        self.norm2 = LayerNorm(channels) if has_second else None
        self.second = (
            HeadedAttention(channels, head_dim=head_dim, context=context, start_at_zero=True)
            if has_second
            else None
        )
        self.reads = config.second == "text"
        self.norm3 = LayerNorm(channels) if config.feed else None
        self.feed = Feed(channels, start_at_zero=True) if config.feed else None
        if self.distance is not None:
            nn.init.zeros_(self.distance.weight)

    def forward(self, x: Float[Tensor, "b f p c"], scene: Scene) -> Float[Tensor, "b f p c"]:
        if self.feed_in is not None and self.norm_in is not None:
            x = x + self.feed_in(self.norm_in(x))
        x = x + self.attention(self.norm1(x), bias=self._bias(x), rope=self._rope(x))
        if self.second is not None and self.norm2 is not None:
            x = x + self._second(self.norm2(x), scene)
        if self.feed is not None and self.norm3 is not None:
            x = x + self.feed(self.norm3(x))
        return x

    def _second(self, x: Tensor, scene: Scene) -> Tensor:
        assert self.second is not None
        if not self.reads:
            return self.second(x)
        return self.second.read(x, scene.words)

    def _bias(self, x: Tensor) -> Tensor | None:
        """Learned for every distance and head."""
        if self.distance is None:
            return None
        places = torch.arange(x.shape[1], device=x.device)
        apart = places[None, :] - places[:, None]
        learned = self.distance(distance_buckets(apart, buckets=BUCKETS, max_distance=FAR))
        return learned.permute(2, 0, 1).repeat(x.shape[2], 1, 1).unsqueeze(0)  # heads are (pixel, head)

    def _rope(self, x: Tensor) -> Tensor | None:
        if self.positions != "rotary":
            return None
        return frame_rope(x.shape[1], self.attention.head_dim, device=x.device)


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
        return (each_film if self.merge is None else each_clip)(partial(self._film, index=index), x, scene)

    def _film(self, x: Tensor, scene: Scene, *, index: int) -> Tensor:
        y = self.blocks[index](x if self.places is None else x + self._placed(self.places, x), scene)
        return y if self.merge is None else self.merge(x, y - x)

    def _placed(self, embedding: NumberEmbedding, x: Tensor) -> Float[Tensor, "1 f 1 c"]:
        places = torch.arange(x.shape[1], dtype=torch.float32, device=x.device)
        return rearrange(embedding(places.unsqueeze(1)), "f c -> 1 f 1 c").to(x.dtype)


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
        return each_film(self._film, x, scene)

    def _film(self, x: Tensor, scene: Scene) -> Tensor:
        return x + self.outward(self.inner(self.inward(self.norm(x)), scene))


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
    "each_clip",
    "each_film",
    "each_group",
    "frame_rope",
    "in_order",
]
