"""Encoder and decoder of the image autoencoder: stages of residual blocks, each followed by a resampling.

    pixels -> first conv -> stages, halving between them -> middle -> norm, silu, last conv -> latents

and its mirror image. Frames lie one behind the other, `(b f) c h w`, and every layer of space works on each
frame alone. The architecture is that of latent diffusion (Rombach et al. 2022, arXiv:2112.10752). With
`temporal`, a layer of time follows each block of the decoder (`temporal_decoder`).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mutoscope.models.attention import attend
from mutoscope.models.latents import check_statistics
from mutoscope.models.normed import FrameNorm
from mutoscope.models.temporal import Frames
from mutoscope.models.temporal_decoder import DecoderTime, LastInTime
from mutoscope.models.unet_blocks import Upsample

EPS = 1e-6


class ImageAutoencoderConfig(BaseModel):
    """Settings of an image autoencoder.

    `widths` has an entry per stage, the finest first; between stages the picture halves. What a denoiser
    works on is (z - latents_mean - shift) · scaling / latents_std; empty statistics are 0 and 1.
    `after_encoder` and `before_decoder` say whether a 1x1 convolution stands there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[PositiveInt, ...] = Field(default=(128, 256, 512, 512), min_length=1)
    blocks: PositiveInt = Field(default=2, description="residual blocks a stage; the decoder has one more")
    z_dim: PositiveInt = 4
    groups: PositiveInt = Field(default=32, description="of the group norms")
    attention: bool = Field(default=True, description="in the middle, among the pixels of a frame")
    after_encoder: bool = True
    before_decoder: bool = True
    temporal: bool = Field(default=False, description="layers of time in the decoder")
    scaling: float = Field(default=1.0, gt=0)
    shift: float = 0.0
    latents_mean: tuple[float, ...] = ()
    latents_std: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _groups_fit(self) -> "ImageAutoencoderConfig":
        for width in self.widths:
            if width % self.groups:
                raise ValueError(f"widths has {width}, which {self.groups} groups do not share evenly")
        return self

    @model_validator(mode="after")
    def _statistics_fit(self) -> "ImageAutoencoderConfig":
        check_statistics(self.z_dim, mean=self.latents_mean, std=self.latents_std)
        return self

    @property
    def space_stride(self) -> int:
        """Pixels per latent pixel, each way."""
        return 2 ** (len(self.widths) - 1)

    @property
    def time_stride(self) -> int:
        """Frames per latent frame."""
        return 1


class ImageBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))) in each frame; a 1x1 takes x past where channels change."""

    def __init__(self, channels: int, out: int, *, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels, eps=EPS)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.norm2 = FrameNorm(groups, out, eps=EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else None

    def forward(
        self, x: Float[Tensor, "bf c h w"], frames: Frames | None = None
    ) -> Float[Tensor, "bf d h w"]:
        y = self.conv1(self.norm1(x, silu=True))
        y = self.conv2(self.norm2(y, silu=True))
        return y + (x if self.skip is None else self.skip(x))


class ClipBlock(nn.Module):
    """A block of space, then one of time among the frames of each clip."""

    def __init__(self, channels: int, out: int, *, groups: int) -> None:
        super().__init__()
        self.space = ImageBlock(channels, out, groups=groups)
        self.time = DecoderTime(out, groups=groups)

    def forward(self, x: Float[Tensor, "bf c h w"], frames: Frames) -> Float[Tensor, "bf d h w"]:
        return self.time(self.space(x), frames)


class ImageAttention(nn.Module):
    """x + out(attention(query, key, value of norm(x))): one head, among the pixels of each frame alone."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels, eps=EPS)
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value, self.out = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "bf c h w"]) -> Float[Tensor, "bf c h w"]:
        y = rearrange(self.norm(x), "n c h w -> n 1 (h w) c")
        y = self.out(attend(self.query(y), self.key(y), value=self.value(y)))
        return x + rearrange(y, "n 1 (h w) c -> n c h w", h=x.shape[2])


class Halve(nn.Conv2d):
    """Half the height and width by a strided convolution, zero-padded on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "bf c h w"]) -> Float[Tensor, "bf c h2 w2"]:  # type: ignore[override]
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class ImageStage(nn.Module):
    """Residual blocks, then a resampling if there is one."""

    def __init__(self, blocks: list[nn.Module], *, resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample

    def forward(self, x: Tensor, frames: Frames | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, frames)
        return x if self.resample is None else self.resample(x)


class ImageMiddle(nn.Module):
    """Residual block, attention within each frame, residual block: where the picture is smallest."""

    def __init__(self, config: ImageAutoencoderConfig, *, temporal: bool) -> None:
        super().__init__()
        width = config.widths[-1]
        self.before = _block(config, width, width, temporal=temporal)
        self.attention = ImageAttention(width, groups=config.groups) if config.attention else None
        self.after = _block(config, width, width, temporal=temporal)

    def forward(self, x: Tensor, frames: Frames | None = None) -> Tensor:
        x = self.before(x, frames)
        return self.after(x if self.attention is None else self.attention(x), frames)


class ImageEncoder(nn.Module):
    """Frames to the 2 z_dim numbers of each latent."""

    def __init__(self, config: ImageAutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            ImageStage(
                _blocks(config, *pair, count=config.blocks, temporal=False),
                resample=Halve(pair[1]) if i < len(widths) - 1 else None,
            )
            for i, pair in enumerate(pairwise((widths[0], *widths)))
        )
        self.middle = ImageMiddle(config, temporal=False)
        self.norm = FrameNorm(config.groups, widths[-1], eps=EPS)
        self.last = nn.Conv2d(widths[-1], 2 * config.z_dim, 3, padding=1)
        self.checkpointing = False

    def forward(self, x: Float[Tensor, "bf 3 h w"]) -> Float[Tensor, "bf d h2 w2"]:
        steps = [*self.down, self.middle]
        x = _run(steps, self.first(x), frames=None, checkpointing=self.checkpointing)
        return self.last(self.norm(x, silu=True))


class ImageDecoder(nn.Module):
    """Latents to frames; with `temporal` the frames of a clip see each other."""

    def __init__(self, config: ImageAutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.first = nn.Conv2d(config.z_dim, widths[0], 3, padding=1)
        self.middle = ImageMiddle(config, temporal=config.temporal)
        self.up = nn.ModuleList(
            ImageStage(
                _blocks(config, *pair, count=config.blocks + 1, temporal=config.temporal),
                resample=Upsample(pair[1]) if i < len(widths) - 1 else None,
            )
            for i, pair in enumerate(pairwise((widths[0], *widths)))
        )
        self.norm = FrameNorm(config.groups, widths[-1], eps=EPS)
        self.last = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.last_time = LastInTime(3) if config.temporal else None
        self.checkpointing = False

    def forward(self, z: Float[Tensor, "bf c h w"], frames: Frames) -> Float[Tensor, "bf 3 h2 w2"]:
        x = _run([self.middle, *self.up], self.first(z), frames=frames, checkpointing=self.checkpointing)
        x = self.last(self.norm(x, silu=True))
        return x if self.last_time is None else self.last_time(x, frames)


def _blocks(
    config: ImageAutoencoderConfig, channels: int, out: int, *, count: int, temporal: bool
) -> list[nn.Module]:
    return [_block(config, channels if i == 0 else out, out, temporal=temporal) for i in range(count)]


def _block(config: ImageAutoencoderConfig, channels: int, out: int, *, temporal: bool) -> nn.Module:
    if temporal:
        return ClipBlock(channels, out, groups=config.groups)
    return ImageBlock(channels, out, groups=config.groups)


def _run(steps: Sequence[nn.Module], x: Tensor, *, frames: Frames | None, checkpointing: bool) -> Tensor:
    for step in steps:
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(step, x, frames, use_reentrant=False)  # pyright: ignore[reportAssignmentType]
        else:
            x = step(x, frames)
    return x
