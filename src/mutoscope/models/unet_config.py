"""The shape of a U-Net over space and time, and which of its layers mix frames.

An image U-Net (`time=None`) sees every frame alone. `TimeConfig` says what is added to make it one of videos:

    after each residual block       convolutions over frames
    after or in each transformer    attention over frames, at each pixel
    after the first convolution     attention over frames (`entry`)

Four of these are known: `vdm` (Ho et al. 2022, 2204.03458), `align` (Blattmann et al. 2023, 2304.08818), and
the two public layouts `MODELSCOPE` and `SVD` (2311.15127). Names of levels: 0 is the finest.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positions = Literal["none", "sinusoid", "relative", "rotary"]


class TimeConfig(BaseModel):
    """The layers that mix frames. `MODELSCOPE` and `SVD` are what two public families have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merge: Literal["add", "alpha"] = Field(
        default="add",
        description="add: images pass these layers as films of one frame; "
        "alpha: α x + (1 - α) layer(x) with a learned α, which is 1 for images",
    )
    convs: Literal[0, 2, 4] = Field(default=0, description="convolutions over frames after a residual block")
    place: Literal["after", "inside", "wrapped"] = Field(
        default="after",
        description="where attention over frames stands: after each transformer over space, inside it, or "
        "after it with a norm over all pixels and projections of its own",
    )
    levels: tuple[bool, ...] | None = Field(
        default=None, description="which levels attend over frames; None: those that attend over space"
    )
    positions: Positions = Field(default="relative", description="how attention knows the order of frames")
    entry: bool = Field(default=False, description="attention over frames after the first convolution")
    feed_in: bool = Field(default=False, description="a feed-forward network before attention over frames")
    second: Literal["none", "self", "text"] = Field(default="none", description="what is attended next")
    feed: bool = Field(default=False, description="a feed-forward network after attention over frames")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.place == "wrapped" and self.merge == "alpha":
            raise ValueError("place 'wrapped' merges by adding; choose merge 'add', or place 'after'")
        return self


MODELSCOPE = TimeConfig(convs=4, place="wrapped", positions="none", entry=True, second="self", feed=True)
SVD = TimeConfig(
    merge="alpha", convs=2, place="inside", positions="sinusoid", feed_in=True, second="text", feed=True
)


def vdm(
    *, positions: Positions = "relative", levels: tuple[bool, ...] | None = None, convs: Literal[0, 2] = 0
) -> TimeConfig:
    """Video Diffusion Models: attention over frames after each over space and at the entry; images apart."""
    return TimeConfig(positions=positions, levels=levels, convs=convs, entry=True)


def align(
    *, positions: Positions = "sinusoid", levels: tuple[bool, ...] | None = None, convs: Literal[0, 2] = 2
) -> TimeConfig:
    """Align Your Latents: convolutions and attention over frames, merged by α, into an image U-Net."""
    return TimeConfig(merge="alpha", convs=convs, positions=positions, levels=levels)


class UNetConfig(BaseModel):
    """The shape of a U-Net. Height and width must divide by `factor`; pixels or latents alike.

    Channels beyond `out_channels` at the input are the caller's: masks, known frames, a smaller film.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: int = Field(default=4, gt=0)
    out_channels: int = Field(default=4, gt=0)
    patch_size: int = Field(
        default=1, gt=0, description="pixels a side that are channels to the network (2301.11093)"
    )
    finish: int = Field(
        default=0, ge=0, description="width of convolutions of pixels at the end, which the network also "
        "tells a quarter as many numbers a pixel; 0: none",
    )  # fmt: skip
    channels: tuple[int, ...] = Field(default=(64, 128, 256), min_length=1, description="for each level")
    layers: int = Field(default=2, gt=0, description="residual blocks a level; one more on the way up")
    attention: tuple[bool, ...] = Field(default=(False, True, True), description="levels that attend")
    heads: tuple[int, ...] = Field(default=(4, 4, 8), description="heads of attention, for each level")
    depth: int = Field(default=1, gt=0, description="blocks in a transformer over space")
    feed: bool = Field(default=True, description="whether these blocks have a feed-forward network")
    text_dim: int | None = Field(default=None, description="width of text rows; None: no words")
    groups: int = Field(default=32, gt=0, description="groups of the norms")
    eps: float = Field(default=1e-5, gt=0)
    stage_eps: tuple[float, ...] | None = Field(
        default=None, description="eps of the residual blocks of each stage, if they differ"
    )
    labels: int = Field(default=0, ge=0, description="numbers of micro-conditioning")
    label_dim: int = Field(default=256, gt=0, multiple_of=2, description="waves for each of these numbers")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    time: TimeConfig | None = None
    # Of the public folder a model is from: nothing here computes with these.
    linear_projection: bool = Field(default=True, description="projections are matrices, or 1x1 convolutions")
    upcast_attention: bool = Field(default=False, description="whether float16 overflows in its scores")
    sample_size: int | tuple[int, int] | None = Field(
        default=None, description="height and width in training"
    )
    frames: int | None = Field(default=None, description="frames in training")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        levels = len(self.channels)
        per_level = {"attention": self.attention, "heads": self.heads}
        if self.time is not None and self.time.levels is not None:
            per_level["time.levels"] = self.time.levels
        for name, values in per_level.items():
            if len(values) != levels:
                raise ValueError(f"{name} has {len(values)} values, and channels name {levels} levels")
        if self.stage_eps is not None and len(self.stage_eps) != 2 * levels + 1:
            raise ValueError(f"stage_eps has {len(self.stage_eps)} values, not {2 * levels + 1}")
        for width, heads in zip(self.channels, self.heads, strict=True):
            if width % self.groups or width % heads or width % 2:
                raise ValueError(
                    f"{width} channels: even and divisible by {self.groups} groups, {heads} heads"
                )
        if self.time is not None and self.time.place == "inside" and self.time_levels != self.attention:
            raise ValueError("time.place 'inside' needs time.levels to be those of attention")
        return self

    @property
    def time_levels(self) -> tuple[bool, ...]:
        """Which levels attend over frames."""
        if self.time is None:
            return (False,) * len(self.channels)
        return self.attention if self.time.levels is None else self.time.levels

    @property
    def hints(self) -> int:
        """Numbers that the network tells the convolutions at the end, for each pixel."""
        return self.finish // 4

    @property
    def factor(self) -> int:
        """What height and width must divide by."""
        return self.patch_size * 2 ** (len(self.channels) - 1)

    def eps_of(self, stage: int) -> float:
        """Eps of the residual blocks of a stage, counted down, middle, up."""
        return self.eps if self.stage_eps is None else self.stage_eps[stage]

    def with_time(
        self, time: TimeConfig | None, *, in_channels: int | None = None, labels: int = 0
    ) -> "UNetConfig":
        """The same network with these layers over frames, input channels and labels: see `unet.inflate`."""
        values = self.model_dump() | {"time": time, "labels": labels}
        values["in_channels"] = in_channels or self.in_channels
        return UNetConfig.model_validate(values)


def enlarging(
    channels: tuple[int, ...], *, layers: int = 1, head: int = 16, time: TimeConfig | None = None
) -> UNetConfig:
    """A network of RGB pixels that sees a small version: convolutions, and attention only in the middle, so
    that a patch stands for the whole. It reads no words; its label is how noisy what it sees is shown."""
    return UNetConfig(
        in_channels=7, out_channels=3, channels=channels, layers=layers, groups=8, labels=1, time=time,
        attention=tuple(False for _ in channels), heads=tuple(width // head for width in channels),
    )  # fmt: skip
