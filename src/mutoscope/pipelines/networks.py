"""The networks of a model, ready on a device: all that a pipeline has to know of a family of models.

    remember(texts) -> what the network is told       flow(noisy, t, told) -> its prediction
    encode(pictures) -> latents                       decode(latents, ...) -> pixels, a few frames at a time

Two families stand here: transformers on the latents of a causal autoencoder, and U-Nets on pixels, whose
latents are the pixels themselves.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import lcm
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mutoscope.checkpoints.folder import Model
from mutoscope.checkpoints.unet_folder import UNetModel
from mutoscope.diffusion.denoiser import Denoiser, Network
from mutoscope.diffusion.known import Condition, Conditioned, Known
from mutoscope.diffusion.noise import stream
from mutoscope.diffusion.plan import public, uniform
from mutoscope.diffusion.prior import Fresh
from mutoscope.models.precision import prepared
from mutoscope.models.text import Text
from mutoscope.models.transformer import TextMemory
from mutoscope.models.words import Words
from mutoscope.pipelines.held import Held
from mutoscope.pipelines.request import Request
from mutoscope.video import Refusal, Video

__all__ = ["Networks", "TransformerNetworks", "UNetNetworks", "networks_of"]


class Networks(ABC):
    """The networks of a model, on their device and in their dtype.

    words: tokenizer and text encoder, None for a model that reads no words. time_stride: pictures in a latent
    frame; the first holds one. space_stride: pixels across a latent. channels: of latents. patch: frames,
    height and width of what the network sees as one. takes: the dtype of the films that `flow` is given.
    """

    words: Words | None
    time_stride: int
    space_stride: int
    channels: int
    patch: tuple[int, int, int]
    takes: torch.dtype

    @abstractmethod
    def remember(self, texts: Sequence[str]) -> Any:
        """What the network is told of these texts: the condition that `flow` takes."""

    @abstractmethod
    def flow(self, *, together: bool) -> Network:
        """The network as (noisy, t, condition) -> prediction. together: all frames have one time."""

    @abstractmethod
    def grid(self, steps: int, *, shift: float) -> Float[Tensor, " levels"]:
        """The levels that a frame walks down in so many steps."""

    @abstractmethod
    def holding(self, denoiser: Denoiser, request: Request, *, shape: tuple[int, int, int, int]) -> Denoiser:
        """A denoiser of these networks for films of which some frames are known: those whose time is 0."""

    @abstractmethod
    def encode(self, pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "c f2 h2 w2"]:
        """The latents of pictures, in whole patches; the last picture is repeated to fill them."""

    @abstractmethod
    def decode(self, latents: Iterable[Float[Tensor, "c f h w"]]) -> Iterator[Float[Tensor, "1 3 f2 h2 w2"]]:
        """Pixels in [-1, 1] of latents that come piece by piece."""

    @abstractmethod
    def check(self, request: Request, *, sides: tuple[int, int, int]) -> None:
        """Raises Refusal for a film that the network cannot see: sides are patches, over frames at once,
        height and width."""


class TransformerNetworks(Networks):
    """A transformer on the latents of a causal autoencoder."""

    def __init__(self, model: Model, *, dtype: torch.dtype, device: torch.device, in_place: bool) -> None:
        self.dtype, self.device, self.words = dtype, device, model.words
        self.takes = dtype
        self.transformer = prepared(model.transformer, dtype, device=device, in_place=in_place)
        self.autoencoder = prepared(model.autoencoder, dtype, device=device, in_place=in_place)
        config = self.transformer.config
        self.time_stride, self.space_stride = self.autoencoder.time_stride, self.autoencoder.space_stride
        self.channels, self.patch = config.in_channels, config.patch_size

    @torch.no_grad()
    def remember(self, texts: Sequence[str]) -> TextMemory:
        assert self.words is not None
        return self.transformer.remember(_on(self.words.say(texts), self.device))

    def flow(self, *, together: bool) -> Network:
        # Where all frames move together, their one time is enough and costs less than one for each.
        return lambda noisy, t, words: self.transformer(noisy, t[:, :1] if together else t, text=words)

    def grid(self, steps: int, *, shift: float) -> Float[Tensor, " levels"]:
        return public(steps, shift=shift)

    def holding(self, denoiser: Denoiser, request: Request, *, shape: tuple[int, int, int, int]) -> Denoiser:
        return denoiser  # it was trained with a time for every frame

    @torch.no_grad()
    def encode(self, pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "c f2 h2 w2"]:
        pixels = Video(pictures, 1.0).tensor()[None].to(self.device, self.dtype)
        z = self.autoencoder.encode(pixels.contiguous(memory_format=torch.channels_last_3d)).mode()
        return _padded(self.autoencoder.normalise(z.float())[0], self.patch)

    def decode(self, latents: Iterable[Float[Tensor, "c f h w"]]) -> Iterator[Float[Tensor, "1 3 f2 h2 w2"]]:
        return self.autoencoder.stream_decode(map(self._ready, latents))

    def _ready(self, latents: Tensor) -> Tensor:
        z = self.autoencoder.denormalise(rearrange(latents.to(self.device), "c f h w -> 1 c f h w"))
        return z.to(self.dtype).contiguous(memory_format=torch.channels_last_3d)

    def check(self, request: Request, *, sides: tuple[int, int, int]) -> None:
        places, (width, height) = self.transformer.config.rope_max, request.size
        if max(sides) > places:
            raise Refusal(
                f"{request.frames} frames of {width}x{height}: this model has {places} places each way, and "
                f"{max(sides)} are needed; ask for a shorter or smaller film, or for a window"
            )


class UNetNetworks(Networks):
    """A U-Net on pixels. One that has channels for known frames is told them; for another, known frames pull
    the others towards what would explain them (reconstruction guidance)."""

    time_stride, space_stride = 1, 1
    takes = torch.float32  # it rounds what it sees itself, once a first guess is subtracted

    def __init__(self, model: UNetModel, *, dtype: torch.dtype, device: torch.device, in_place: bool) -> None:
        self.dtype, self.device, self.words = dtype, device, model.words
        self.unet = prepared(model.unet, dtype, device=device, in_place=in_place)
        linear = None if model.linear is None else model.linear.to(device)
        side = lcm(self.unet.config.factor, 1 if linear is None else linear.patch)
        self.channels, self.patch = self.unet.config.out_channels, (1, side, side)
        self.told, self.process = model.told, model.facts.process
        self.network = Conditioned(self.unet, self.process, linear)

    @torch.no_grad()
    def remember(self, texts: Sequence[str]) -> Condition:
        return Condition(None if self.words is None else _on(self.words.say(texts), self.device))

    def flow(self, *, together: bool) -> Network:
        def flow(noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
            if self.told:
                condition = replace(condition, known=Known.frames(noisy, t == 0))
            return self.network(noisy, t, condition)

        return flow

    def grid(self, steps: int, *, shift: float) -> Float[Tensor, " levels"]:
        return uniform(steps, shift=shift)

    def holding(self, denoiser: Denoiser, request: Request, *, shape: tuple[int, int, int, int]) -> Denoiser:
        if self.told:
            return denoiser
        fresh = Fresh([stream(request.seed, "held")], shape, request.method.noise.prior(), self.device)
        return Held(denoiser, fresh)

    def encode(self, pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "c f2 h2 w2"]:
        film = self.process.coded(Video(pictures, 1.0).tensor().to(self.device))
        return _padded(film, self.patch)

    def decode(self, latents: Iterable[Float[Tensor, "c f h w"]]) -> Iterator[Float[Tensor, "1 3 f2 h2 w2"]]:
        return (self.process.decoded(film)[None] for film in latents)

    def check(self, request: Request, *, sides: tuple[int, int, int]) -> None:
        if request.plan != "full":
            raise Refusal(
                f"plan is {request.plan}: this model was trained with one time for all frames; take plan full"
            )


def networks_of(
    model: Model | UNetModel, *, dtype: torch.dtype, device: torch.device, in_place: bool
) -> Networks:
    """The networks of a model of either family."""
    ready = UNetNetworks if isinstance(model, UNetModel) else TransformerNetworks
    return ready(model, dtype=dtype, device=device, in_place=in_place)  # type: ignore[arg-type]


def _on(text: Text, device: torch.device) -> Text:
    return replace(text, rows=text.rows.to(device), mask=text.mask.to(device))


def _padded(film: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Height and width to whole patches."""
    _, q, r = patch
    added = (0, -film.shape[3] % r, 0, -film.shape[2] % q, 0, 0)
    return functional.pad(film[None], added, mode="replicate")[0] if any(added) else film
