"""Encoder and decoder of the causal autoencoder: stages of residual blocks, each followed by a resampling.

    pixels -> first conv -> down, down, .. -> middle -> norm, silu, last conv -> latents, and its mirror image

The plain layout (Wan 2.1) is a row of blocks; its decoder halves the channels where it doubles the picture.
The residual layout (Wan 2.2) keeps the channels and lays a shortcut without parameters past every stage.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mutoscope.models.causal import (
    CausalConv,
    FrameAttention,
    Memory,
    ResidualBlock,
    RMSNorm,
    activated,
)
from mutoscope.models.latents import check_statistics
from mutoscope.models.resampling import AverageDown, CopyUp, Downsample, Upsample


class AutoencoderConfig(BaseModel):
    """Settings of an autoencoder.

    `dim_mult` has an entry per stage; between stages space halves, and time where `temporal_downsample` (one
    entry fewer) says so. `latents_mean` and `latents_std` hold a number per latent channel; empty is 0 and 1.
    `attn_scales` adds attention in the encoder at these scales (1, 0.5, ..; plain layout only).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_dim: PositiveInt = 96
    decoder_base_dim: PositiveInt | None = None
    z_dim: PositiveInt = 16
    dim_mult: tuple[PositiveInt, ...] = Field(default=(1, 2, 4, 4), min_length=1)
    num_res_blocks: PositiveInt = 2
    attn_scales: tuple[float, ...] = ()
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    patch_size: PositiveInt | None = None
    residual: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    latents_mean: tuple[float, ...] = ()
    latents_std: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _stages_fit(self) -> "AutoencoderConfig":
        stages, halvings = len(self.dim_mult), len(self.temporal_downsample)
        if halvings != stages - 1:
            raise ValueError(
                f"temporal_downsample has {halvings} entries for {stages} stages in dim_mult; "
                f"it needs {stages - 1}, one fewer"
            )
        if self.residual and self.attn_scales:
            raise ValueError("attn_scales belong to the plain layout; leave them out where residual is true")
        return self

    @model_validator(mode="after")
    def _statistics_fit(self) -> "AutoencoderConfig":
        check_statistics(self.z_dim, mean=self.latents_mean, std=self.latents_std)
        return self

    @property
    def time_stride(self) -> int:
        """Frames per latent frame after the first."""
        return 2 ** sum(self.temporal_downsample)

    @property
    def space_stride(self) -> int:
        """Pixels per latent pixel, each way."""
        return (self.patch_size or 1) * 2 ** len(self.temporal_downsample)

    @property
    def pixel_channels(self) -> int:
        """Channels of a folded pixel."""
        return 3 * (self.patch_size or 1) ** 2


class Stage(nn.Module):
    """Residual blocks, then a resampling if there is one, and past both a shortcut if there is one."""

    def __init__(
        self, blocks: list[nn.Module], *, resample: nn.Module | None, shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample
        self.shortcut = shortcut

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y, memory)
        if self.resample is not None:
            y = self.resample(y, memory)
        return y if self.shortcut is None else y + self.shortcut(x, memory)


class Middle(nn.Module):
    """Residual block, attention within each frame, residual block: where the picture is smallest."""

    def __init__(self, channels: int, *, dropout: float) -> None:
        super().__init__()
        self.before = ResidualBlock(channels, channels, dropout=dropout)
        self.attention = FrameAttention(channels)
        self.after = ResidualBlock(channels, channels, dropout=dropout)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return self.after(self.attention(self.before(x, memory), memory), memory)


class Encoder(nn.Module):
    """Folded pixels to the 2 z_dim numbers of each latent."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = [config.base_dim * m for m in (1, *config.dim_mult)]
        self.first = CausalConv(config.pixel_channels, widths[0], kernel=(3, 3, 3))
        self.down = nn.ModuleList(
            _down_stages(config, widths) if config.residual else _down_steps(config, widths)
        )
        self.middle = Middle(widths[-1], dropout=config.dropout)
        self.norm = RMSNorm(widths[-1])
        self.last = CausalConv(widths[-1], 2 * config.z_dim, kernel=(3, 3, 3))
        self.checkpointing = False

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        x = self.first(x, memory)
        x = _run([*self.down, self.middle], x, memory=memory, checkpointing=self.checkpointing)
        return self.last(activated(x, self.norm), memory)


class Decoder(nn.Module):
    """Latents to folded pixels."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        base = config.decoder_base_dim or config.base_dim
        widths = [base * m for m in (config.dim_mult[-1], *config.dim_mult[::-1])]
        self.first = CausalConv(config.z_dim, widths[0], kernel=(3, 3, 3))
        self.middle = Middle(widths[0], dropout=config.dropout)
        self.up = nn.ModuleList(_up_stages(config, widths))
        self.norm = RMSNorm(widths[-1])
        self.last = CausalConv(widths[-1], config.pixel_channels, kernel=(3, 3, 3))
        self.checkpointing = False

    def forward(self, z: Tensor, memory: Memory | None = None) -> Tensor:
        x = self.first(z, memory)
        x = _run([self.middle, *self.up], x, memory=memory, checkpointing=self.checkpointing)
        return self.last(activated(x, self.norm), memory)


def _down_stages(config: AutoencoderConfig, widths: list[int]) -> list[nn.Module]:
    return [_down_stage(config, i, widths[i], widths[i + 1]) for i in range(len(config.dim_mult))]


def _down_stage(config: AutoencoderConfig, i: int, channels: int, out: int) -> Stage:
    inner = i < len(config.dim_mult) - 1
    time = inner and config.temporal_downsample[i]
    return Stage(
        _blocks(channels, out, count=config.num_res_blocks, dropout=config.dropout),
        resample=Downsample(out, time=time) if inner else None,
        shortcut=AverageDown(channels, out, time=1 + time, space=1 + inner),
    )


def _down_steps(config: AutoencoderConfig, widths: list[int]) -> list[nn.Module]:
    """The plain layout: all blocks of all stages in one row."""
    steps: list[nn.Module] = []
    for i, (channels, out) in enumerate(pairwise(widths)):
        for block in _blocks(channels, out, count=config.num_res_blocks, dropout=config.dropout):
            steps.append(block)
            if 0.5**i in config.attn_scales:
                steps.append(FrameAttention(out))
        if i < len(config.dim_mult) - 1:
            steps.append(Downsample(out, time=config.temporal_downsample[i]))
    return steps


def _up_stages(config: AutoencoderConfig, widths: list[int]) -> list[Stage]:
    stages, channels = [], widths[0]
    for i, out in enumerate(widths[1:]):
        inner = i < len(config.dim_mult) - 1
        time = inner and config.temporal_downsample[::-1][i]
        after = out if config.residual else out // 2
        stages.append(
            Stage(
                _blocks(channels, out, count=config.num_res_blocks + 1, dropout=config.dropout),
                resample=Upsample(out, after, time=time) if inner else None,
                shortcut=CopyUp(channels, out, time=1 + time, space=2) if inner and config.residual else None,
            )
        )
        channels = after
    return stages


def _blocks(channels: int, out: int, *, count: int, dropout: float) -> list[nn.Module]:
    return [ResidualBlock(channels if i == 0 else out, out, dropout=dropout) for i in range(count)]


def _run(steps: Sequence[nn.Module], x: Tensor, *, memory: Memory | None, checkpointing: bool) -> Tensor:
    for step in steps:
        if checkpointing and memory is None and torch.is_grad_enabled():
            x = checkpoint(step, x, use_reentrant=False)  # pyright: ignore[reportAssignmentType]
        else:
            x = step(x, memory)
    return x
