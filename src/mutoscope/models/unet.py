"""A U-Net over space and time: an image network, a video network, or one that grew from the other.

    down    at each resolution some layers, then half the height and width
    middle  two layers, attention between
    up      the same resolutions back; every layer also sees what its twin on the way down made
    end     where the config asks for them, convolutions of pixels (`Finish`)

Frames are folded into the batch, and only the layers of `temporal.py` mix them. One class and four uses,
by `UNetConfig.time`: image models (Stable Diffusion 1.5 and 2.1; none), Video Diffusion Models (`vdm`), image
models with layers over frames put in (`align`, see `inflate`), and the public video models of ModelScope and
SVD. Folders of all of them are read and written by the cards in `checkpoints/`.

What is predicted (noise, velocity) is the business of `diffusion/`; t is the number that the model's
sinusoids embed, whatever it means: 0..999, ln(sigma)/4, or 1000 times a time in [0, 1].
"""

from collections.abc import Iterable, Iterator

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mutoscope.models.normed import FrameNorm, LayerNorm, RowNorm
from mutoscope.models.temporal import TEMPORAL, Frames, NumberEmbedding, Scene, each_group, in_order
from mutoscope.models.text import Text
from mutoscope.models.unet_attention import Feed, Words, attended, zeroed
from mutoscope.models.unet_blocks import (
    Finish,
    Layer,
    Stage,
    Upsample,
    as_maps,
    as_rows,
    time_attention,
)
from mutoscope.models.unet_config import UNetConfig
from mutoscope.video import Refusal

__all__ = ["UNet", "UNetConfig", "inflate"]


FORMS = 256
"""Parts of layers times shapes that a compiler may keep code for."""
SMALL = (RowNorm, LayerNorm, Feed)
"""Parts that move more numbers than they multiply."""


class UNet(nn.Module):
    """Noisy frames, times and conditions to what the network was trained to predict.

    `checkpointing`: give up what layers computed and compute it again for gradients, for less memory.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.channels[0], config.patch_size**2
        self.first = nn.Conv2d(config.in_channels * patch, width, 3, padding=1)
        self.time = NumberEmbedding(width, hidden=4 * width, out=4 * width)
        self.labels = self._label_embedding()
        entry = config.time is not None and config.time.entry
        heads = config.heads[0]
        self.entry = time_attention(width, heads=heads, config=config, entry=True) if entry else None
        skips = [width]
        # A list of modules does not know what they are; whoever loops over these should.
        self.down: Iterable[Stage] = nn.ModuleList(_down_stages(config, skips))  # type: ignore[assignment]
        self.middle = _middle_stage(config)
        self.up: Iterable[Stage] = nn.ModuleList(_up_stages(config, skips))  # type: ignore[assignment]
        self.norm_out = FrameNorm(config.groups, width, eps=config.eps)
        self.last = nn.Conv2d(width, (config.out_channels + config.hints) * patch, 3, padding=1)
        zeroed(self.last)
        self.finish = None
        if config.finish:
            seen, out = config.in_channels + config.hints, config.out_channels
            self.finish = Finish(seen, out, width=config.finish, time_dim=4 * width)
        self.checkpointing = False
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _label_embedding(self) -> NumberEmbedding | None:
        config, width = self.config, 4 * self.config.channels[0]
        if not config.labels:
            return None
        embedding = NumberEmbedding(config.label_dim, hidden=width, out=width, numbers=config.labels)
        return embedding.start_at_zero()

    def temporal_parameters(self) -> list[nn.Parameter]:
        """The weights that an image model does not have: layers over frames, their merges, and labels.

        Train these and freeze the rest (`requires_grad_(False)`), and single frames stay what they were.
        """
        added = [m for m in self.modules() if isinstance(m, TEMPORAL) or (m is self.labels and m is not None)]
        return list({id(p): p for module in added for p in module.parameters()}.values())

    def forward(
        self,
        noisy: Float[Tensor, "b c f h w"],
        t: Float[Tensor, "b _"],
        *,
        text: Text | Float[Tensor, "n m d"] | None = None,
        images: Bool[Tensor, "b f"] | None = None,
        labels: Float[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, "b out f h w"]:
        """The prediction, in the dtype of `noisy`.

        Args:
            noisy: frames, height and width multiples of `config.factor`.
            t: what the sinusoids embed: "b 1", one for each sample, or "b f", one for each frame.
            text: rows that are attended as they are, or a `Text`; None is the empty text. One text for every
                sample, or for every frame of every sample (n = b f, sample after sample).
            images: frames that are independent images: they see no other frame and no other frame sees
                them. The others are one clip, in the order in which they stand. Flags are read by the
                processor; on a GPU it waits for them.
            labels: micro-conditioning, `config.labels` numbers (SVD: fps - 1, motion bucket, noise level).

        Raises ValueError for what does not fit the config.
        """
        self._check(noisy, t, text=text, labels=labels)
        words = None if text is None else attended(text)
        if images is None:
            return self._predict(noisy, t, Frames(noisy.shape[2]), words=words, labels=labels)

        def group(samples: list[int], order: Int[Tensor, "n f"], frames: Frames) -> Tensor:
            times = t.expand(-1, frames.count)[samples].gather(1, order.to(t.device))
            told = None if words is None else words.ordered(samples, order, batch=len(noisy))
            marks = None if labels is None else labels[samples]
            return self._predict(in_order(noisy[samples], order), times, frames, words=told, labels=marks)

        return each_group(images, group)

    def compile_blocks(self, *, small: bool = False) -> "UNet":
        """Compile the parts of layers; parts of one shape share their code. The first step waits for that.

        Each shape gets code by itself: sizes are few, and code for one size is the fastest. Of `small` parts,
        norms and feed-forward networks, which move more numbers than they multiply, each kind gets one code
        for all shapes, which takes seconds and not minutes. Values are the same up to rounding.
        """
        # To the compiler all parts are calls of one function, of which it keeps eight forms unless told.
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, FORMS)
        layers = [layer for stage in (*self.down, self.middle, *self.up) for layer in stage.layers]
        parts = (part for layer in layers for part in layer.children())
        for part in (m for m in self.modules() if isinstance(m, SMALL)) if small else parts:
            part.compile(dynamic=small)
        return self

    def _check(self, noisy: Tensor, t: Tensor, *, text: Text | Tensor | None, labels: Tensor | None) -> None:
        (f, h, w), factor, config = noisy.shape[2:], self.config.factor, self.config
        if h % factor or w % factor:
            raise ValueError(f"frames of {h}x{w} do not divide by {factor}; pad or crop them")
        if t.ndim != 2 or t.shape[1] not in (1, f):
            raise ValueError(f"times have shape {tuple(t.shape)}; needed is (batch, 1) or (batch, {f})")
        if text is not None and config.text_dim is None:
            raise ValueError("text is given, and the model has no layer for it (text_dim is None)")
        given = 0 if labels is None else labels.shape[1]
        if given != config.labels:
            raise ValueError(f"{given} labels are given, and the model wants {config.labels}")

    def _predict(
        self, noisy: Tensor, t: Tensor, frames: Frames, *, words: Words | None, labels: Tensor | None
    ) -> Tensor:
        scene = Scene.of(frames, F.silu(self._time(t, frames, labels)), words)
        typed, p = noisy.to(self.first.weight.dtype), self.config.patch_size
        maps = rearrange(typed, "b c f (h p) (w q) -> (b f) h w (c p q)", p=p, q=p).contiguous()
        x = self.first(maps.movedim(-1, 1)).contiguous(memory_format=torch.channels_last)
        if self.entry is not None:
            x = as_maps(self.entry(as_rows(x, frames), scene), x)
        x = self._up(*self._down(x, scene), scene)
        out = self.last(self.norm_out(x, silu=True)).movedim(1, -1)
        said = rearrange(out, "n h w (c p q) -> n c (h p) (w q)", p=p, q=p)
        if self.finish is not None:
            said, hints = said.split((self.config.out_channels, self.config.hints), dim=1)
            beside = torch.cat([hints, rearrange(typed, "b c f h w -> (b f) c h w")], dim=1)
            said = said + self.finish(said, beside, scene)
        return rearrange(said, "(b f) c h w -> b c f h w", f=frames.count).to(noisy.dtype)

    def _time(self, t: Tensor, frames: Frames, labels: Tensor | None) -> Float[Tensor, "b f e"]:
        time = rearrange(self.time(t.reshape(-1, 1)), "(b f) e -> b f e", b=len(t))
        if self.labels is None or labels is None:
            return time
        told = self.labels(labels).unsqueeze(1)
        time_config = self.config.time
        if frames.images and time_config is not None and time_config.merge == "alpha":
            # Images see the image model.
            told = F.pad(told.expand(-1, frames.film, -1), (0, 0, 0, frames.images))
        return time + told

    def _down(self, x: Tensor, scene: Scene) -> tuple[Tensor, list[Tensor]]:
        skips = [x]
        for stage in self.down:
            for layer in stage.layers:
                x = self._run(layer, x, scene)
                skips.append(x)
            if stage.shrink is not None:
                x = stage.shrink(x)
                skips.append(x)
        return x, skips

    def _up(self, x: Tensor, skips: list[Tensor], scene: Scene) -> Tensor:
        for layer in self.middle.layers:
            x = self._run(layer, x, scene)
        for stage in self.up:
            for layer in stage.layers:
                x = self._run(layer, torch.cat([x, skips.pop()], dim=1), scene)
            if stage.grow is not None:
                x = stage.grow(x)
        return x

    def _run(self, layer: Layer, x: Tensor, scene: Scene) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, x, scene, use_reentrant=False)
        return layer(x, scene)


def _down_stages(config: UNetConfig, skips: list[int]) -> Iterator[Stage]:
    """Stages on the way down; what they leave for the way up is written to `skips`."""
    for level, width in enumerate(config.channels):
        layers = []
        for _ in range(config.layers):
            layers.append(Layer(skips[-1], width, level=level, config=config, eps=config.eps_of(level)))
            skips.append(width)
        shrink = None
        if level + 1 < len(config.channels):
            shrink = nn.Conv2d(width, width, 3, stride=2, padding=1)
            skips.append(width)
        yield Stage(layers, shrink=shrink, grow=None)


def _middle_stage(config: UNetConfig) -> Stage:
    """Two layers; the first attends whatever its level does."""
    level, width = len(config.channels) - 1, config.channels[-1]
    eps = config.eps_of(len(config.channels))
    everywhere = {"attention": (True,) * (level + 1)}
    if config.time is not None and config.time.levels is not None:
        everywhere["time"] = config.time.model_copy(update={"levels": (True,) * (level + 1)})  # type: ignore[assignment]
    attending = config.model_copy(update=everywhere)
    layers = [
        Layer(width, width, level=level, config=attending, eps=eps, attends=attends)
        for attends in (True, False)
    ]
    return Stage(layers, shrink=None, grow=None)


def _up_stages(config: UNetConfig, skips: list[int]) -> Iterator[Stage]:
    """Stages on the way up, which take from the end of `skips`."""
    levels = len(config.channels)
    width = config.channels[-1]
    for index, level in enumerate(reversed(range(levels))):
        layers = []
        for _ in range(config.layers + 1):
            out = config.channels[level]
            eps = config.eps_of(levels + 1 + index)
            layers.append(Layer(width + skips.pop(), out, level=level, config=config, eps=eps))
            width = out
        yield Stage(layers, shrink=None, grow=Upsample(width) if level else None)


ENTRY = ("first.weight", "finish.first.weight")
"""Weights whose second axis ends with the channels of the input."""


def _widened(weight: Tensor, channels: int) -> Tensor:
    """With zeros for the channels that come after the others."""
    missing = weight.new_zeros(len(weight), channels - weight.shape[1], *weight.shape[2:])
    return torch.cat([weight, missing], dim=1)


def inflate(image: UNet, config: UNetConfig) -> UNet:
    """A model of `config` that holds the weights of `image`, a network without layers over frames.

    It starts as the image model on every frame. Input channels beyond those of the image model come last
    and start at zero. Refusal where the two differ in anything but layers over frames, labels and input.
    """
    model = UNet(config)
    own = model.state_dict()
    for name, weight in image.state_dict().items():
        if name in ENTRY and name in own and weight.shape[1] < own[name].shape[1]:
            weight = _widened(weight, own[name].shape[1])
        if name not in own or own[name].shape != weight.shape:
            there = tuple(own[name].shape) if name in own else "not there"
            raise Refusal(
                f"{name} is {tuple(weight.shape)} in the image model and {there} in the other; "
                "make its config by `image.config.with_time(...)`"
            )
        own[name].copy_(weight)
    return model
