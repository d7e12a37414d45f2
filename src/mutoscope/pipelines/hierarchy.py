"""Words to a long film, from coarse to fine: key frames, the frames between them, and then every pixel.

    key frames    window after window; each knows the last `context` key frames of the one before
    between       from two known frames the three between them, `rounds` times over: T -> 4 T -> 16 T
    decode        latents to pixels, a chunk of frames at a time
    larger        each chunk `scale` times as wide and high; neighbours fade into each other

The first two stay in latents, a few kilobytes a frame, and the last two are a stream, so a film may be as
long as one likes. A film that is there already comes in at its own rate and size (`like`): it goes on from
its last key frames, or all of it are key frames (`hierarchy_tasks`). Align Your Latents (Blattmann et al.
2023, 2304.08818), section 3; LVDM's hierarchy (He et al. 2022, 2211.13221) is the same with other settings.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.checkpoints.hierarchy_folder import HierarchyModel
from mutoscope.diffusion.known import Known, shrunk
from mutoscope.diffusion.noise import stream
from mutoscope.diffusion.process import Process
from mutoscope.models.precision import Precision, default_device, fast_dtype, prepared
from mutoscope.models.unet import UNet
from mutoscope.pipelines.enlarger import Enlarger, Kept, faded, padded, pieces
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.generate import Step
from mutoscope.pipelines.method import Method
from mutoscope.pipelines.request import Request, asked
from mutoscope.pipelines.rung import Rung, Telling
from mutoscope.video import Refusal, Video

__all__ = ["Hierarchy"]

Latents = Float[Tensor, "1 c f h w"]
TOGETHER = 16
"""Spans between key frames that are sampled at a time: none depends on another."""


class Hierarchy(Filmmaker):
    """A model of several U-Nets, ready to make films. Parts that it lacks are left out.

    Args:
        model: its networks; they are copied and stay as they are, unless `in_place`.
        precision: auto is the fastest of the device, see `models.precision`.
        device: the first GPU or the processor, if not given.
    """

    def __init__(
        self,
        model: HierarchyModel,
        *,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
        in_place: bool = False,
    ) -> None:
        self.device = torch.device(device) if device is not None else default_device()
        self.dtype = fast_dtype(self.device, precision=precision)
        self.facts, self.weights, self.reads = model.facts, model.fingerprint, model.words
        self.chain, self._in_place = model.hierarchy, in_place
        self.autoencoder = prepared(model.autoencoder, self.dtype, device=self.device, in_place=in_place)
        process = model.facts.process
        self._key = self._rung(model.unet, model, process)
        self._finer = None if model.interpolation is None else self._rung(model.interpolation, model, process)
        self.enlarger = None if model.upscaler is None else self._enlarger(model.upscaler, model)
        self.rounds = 0 if self._finer is None else self.chain.rounds

    def _rung(self, unet: UNet, model: HierarchyModel, process: Process) -> Rung:
        words = None if unet.config.text_dim is None else model.words
        return Rung(unet, words, process, dtype=self.dtype, device=self.device, in_place=self._in_place)

    def _enlarger(self, unet: UNet, model: HierarchyModel) -> Enlarger:
        chain = self.chain
        rung = self._rung(unet, model, chain.larger or model.facts.process)
        return Enlarger(rung, chain.scale, chain.small_noise, chain.chunk, chain.overlap, chain.steps_larger)

    @property
    def scale(self) -> int:
        """How much larger the decoded film becomes."""
        return 1 if self.enlarger is None else self.enlarger.scale

    @property
    def stride(self) -> int:
        """Frames of the film from one key frame to the next."""
        return self.chain.every**self.rounds

    @property
    def told(self) -> bool:
        """Whether key frames know those before them."""
        return self._key.told and self.chain.context > 0

    @property
    def sizes(self) -> list[tuple[int, int]]:
        width, height = self.facts.size
        return [self.facts.size, (width // self.scale, height // self.scale)]

    def like(self, *, fps: float, size: tuple[int, int]) -> "Hierarchy":
        """The same networks, for films that come in at this rate and size.

        Each round makes a rate of its own and the upscaler a size; a film is taken for what is nearest to it
        (by ratio). So one at the rate of key frames needs nothing between them, and a small one stays small.
        """
        every, full, own = self.chain.every, self.facts.fps, self.facts.size
        fewer = round(math.log(full / fps, every))
        small = math.prod(size) * self.scale < math.prod(own)
        rounds = min(max(self.rounds - fewer, 0), self.rounds)
        return self.at(rounds=rounds, enlarger=None if small else self.enlarger)

    def at(self, *, rounds: int, enlarger: Enlarger | None, **chain: Any) -> "Hierarchy":
        """The same networks, used in another way."""
        other = copy.copy(self)
        other.rounds, other.enlarger = rounds, enlarger
        other.chain = self.chain.model_copy(update=chain)
        return other

    def request(self, prompt: str, **settings: Any) -> Request:
        """A complete request. Raises Refusal for ways of sampling that a hierarchy has no place for."""
        request = asked(prompt, self.facts, **settings)
        if request.plan != "full" or request.method != Method(noise=self.facts.noise):
            raise Refusal(
                f"plan {request.plan}, {_changed(request.method, self.facts.noise)}: this model makes key "
                "frames and fills in between them, and takes words, seed, length, size, steps, guidance, "
                "negative and sampler; leave the others out"
            )
        return request

    def steps(self, *requests: Request) -> Iterator[Step]:
        """Samples the latents of one film, yielding a `Step` after every step: first of its key frames, then
        of ever more frames between them."""
        if len(requests) != 1:
            raise Refusal(f"{len(requests)} requests together: this model makes one film at a time")
        return self.sampled(requests[0])

    def sampled(self, request: Request, *, known: Latents | None = None, before: int = 0) -> Iterator[Step]:
        """The same, of a film whose first key frames are known, and so many of them stand `before` it."""
        total = self._total(request, 0 if known is None else known.shape[2], before)
        for number, film in enumerate(self._films(request, known, before), start=1):
            yield Step(number, total, film, self, request)

    def _films(self, request: Request, known: Latents | None, before: int) -> Iterator[Latents]:
        """The film as far as it is, after every step."""
        shape = self._shape(request)
        begun = known if known is not None else torch.zeros(1, shape[0], 0, *shape[1:], device=self.device)
        keys = begun[:, :, before:]
        for film in self._key_frames(begun, request, count=self._frames(request, 0) + before):
            keys = film[:, :, before:]
            yield keys
        for number in range(self.rounds):
            made = keys
            for made in self._between(keys, request, number=number):
                yield made
            keys = made

    def _key_frames(self, film: Latents, request: Request, *, count: int) -> Iterator[Latents]:
        """Window after window of key frames, after those of the film."""
        window, shape = self.chain.keys, self._shape(request)
        telling = Telling(
            request, request.steps, request.guidance, self.chain.context_guidance, self.chain.context_noise
        )
        while film.shape[2] < count:
            k = self._seen(film.shape[2])
            seed = stream(request.seed, f"key frames {film.shape[2]}")
            white = self._noise(request, [seed], (shape[0], window, *shape[1:]))
            known = _opening(film[:, :, film.shape[2] - k :], like=white) if self._key.told else None
            before = film
            for state in self._key.films(white, known, telling, seeds=[seed]):
                film = torch.cat([before, state.clean[:, :, k:].float()], dim=2)[:, :, :count]
                yield film

    def _seen(self, made: int) -> int:
        """How many key frames a window knows, of those that are made."""
        return min(self.chain.context, made) if self._key.told else 0

    def _between(self, keys: Latents, request: Request, *, number: int) -> Iterator[Latents]:
        """Round `number` of interpolation: the keys stay what they are, to the bit."""
        assert self._finer is not None
        every, count = self.chain.every, self._frames(request, number + 1)
        spans = _spans(keys, every=every, span=self.chain.span)
        film = keys.repeat_interleave(every, dim=2)[:, :, :count]
        telling = Telling(request, self.chain.steps_between)
        reach = self.chain.span - 1
        for first in range(0, len(spans), TOGETHER):
            known = spans[first : first + TOGETHER]
            numbers = range(first, first + len(known))
            seeds = [stream(request.seed, f"between {number} {span}") for span in numbers]
            white = self._noise(request, seeds, tuple(known.shape[1:]))
            for state in self._finer.films(white, _every(known, every), telling, seeds=seeds):
                new = rearrange(state.clean[:, :, :reach].float(), "s c f h w -> 1 c (s f) h w")
                end = min(first * reach + new.shape[2], count)
                film = torch.cat(
                    [film[:, :, : first * reach], new[:, :, : end - first * reach], film[:, :, end:]], dim=2
                )
                yield film

    def _noise(
        self, request: Request, seeds: list[int], shape: tuple[int, ...]
    ) -> Float[Tensor, "s c f h w"]:
        c, f, h, w = shape
        return request.method.noise.prior(window=f).draw(seeds, (c, f, h, w), device=self.device)

    def _total(self, request: Request, known: int, before: int) -> int:
        """Steps of sampling in all."""
        total, made = 0, known
        while made < self._frames(request, 0) + before:
            total, made = total + request.steps, made + self.chain.keys - self._seen(made)
        length = (self.chain.span - 1) // self.chain.every
        for number in range(self.rounds):
            spans = -(-(self._frames(request, number) - 1) // length)
            total += -(-spans // TOGETHER) * self.chain.steps_between
        return total

    def _frames(self, request: Request, rounds: int) -> int:
        """Frames that a film needs after so many rounds."""
        return 1 + -(-(request.frames - 1) // self.chain.every ** (self.rounds - rounds))

    def _shape(self, request: Request) -> tuple[int, int, int]:
        """Channels, height and width of latents that cover the film, in whole steps of the network."""
        config, stride = self._key.unet.config, self.autoencoder.space_stride * self.scale
        w, h = (-(-side // (stride * config.factor)) * config.factor for side in request.size)
        return config.out_channels, h, w

    def decode(
        self, latents: Float[Tensor, "c f h w"], request: Request, *, kept: Kept | None = None
    ) -> Iterator[UInt8[Tensor, "f h w 3"]]:
        """The pictures of a film, some frames at a time, in memory that does not grow with its length.

        kept: pictures of it that stay what they are.

        Raises:
            Refusal: the latents hold NaN.
        """
        if not bool(latents.isfinite().all()):
            raise Refusal("the latents hold NaN or infinity: they cannot be decoded; sample them again")
        left = request.frames
        for pixels in faded(self._chunks(latents[None].to(self.device), request, kept), self.chain.overlap):
            pictures = self._pictures(pixels[:, :, :left], request)
            yield pictures if kept is None else kept.placed(pictures, request.frames - left)
            left -= pixels.shape[2]
            if left <= 0:
                return

    def _chunks(
        self, latents: Latents, request: Request, kept: Kept | None
    ) -> Iterator[Float[Tensor, "1 3 f h w"]]:
        """Overlapping chunks of pixels, at the film's size."""
        chunk, overlap = self.chain.chunk, self.chain.overlap
        telling = Telling(request, self.chain.steps_larger)
        for number, piece in enumerate(pieces(latents, chunk, overlap)):
            small, first = self._decoded(piece), number * (chunk - overlap)
            yield small if self.enlarger is None else self.enlarger(small, telling, first=first, kept=kept)

    def encode(self, pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "c f h2 w2"]:
        """The latents of pictures, made as small first as a film is before it is enlarged."""
        step = self.autoencoder.space_stride * self._key.unet.config.factor
        chunks = pictures.split(self.chain.chunk)
        return torch.cat([self._encoded(padded(_pixels(part), step * self.scale)) for part in chunks], dim=1)

    def _pictures(self, pixels: Float[Tensor, "1 3 f h w"], request: Request) -> UInt8[Tensor, "f h2 w2 3"]:
        width, height = request.size
        return Video.from_tensor(pixels[0, :, :, :height, :width].float(), fps=request.fps).frames

    @torch.no_grad()
    def _encoded(self, pixels: Float[Tensor, "1 3 f h w"]) -> Float[Tensor, "c f h2 w2"]:
        small = shrunk(pixels.to(self.device), self.scale).to(self.dtype)
        return self.autoencoder.normalise(self.autoencoder.encode(small).mean.float())[0]

    @torch.no_grad()
    def _decoded(self, latents: Latents) -> Float[Tensor, "1 3 f h2 w2"]:
        z = self.autoencoder.denormalise(latents.float()).to(self.dtype)
        return self.autoencoder.decode(z).float().clamp(-1, 1)


def _opening(seen: Float[Tensor, "1 c k h w"], *, like: Latents) -> Known:
    """The first frames of a window are known."""
    film, k = torch.zeros_like(like), seen.shape[2]
    film[:, :, :k] = seen
    return Known.frames(film, torch.arange(like.shape[2], device=like.device).expand(len(like), -1) < k)


def _every(spans: Float[Tensor, "s c f h w"], every: int) -> Known:
    places = torch.arange(spans.shape[2], device=spans.device)
    return Known.frames(spans, (places % every == 0).expand(len(spans), -1))


def _spans(keys: Latents, *, every: int, span: int) -> Float[Tensor, "s c span h w"]:
    """Films of `span` frames, each with its key frames in their places; neighbours share one. The last key is
    repeated to fill the last."""
    length = (span - 1) // every
    count = -(-(keys.shape[2] - 1) // length)
    padded = torch.cat([keys, keys[:, :, -1:].expand(-1, -1, length, -1, -1)], dim=2)
    windows = [padded[0, :, n * length : (n + 1) * length + 1] for n in range(count)]
    if not windows:
        return keys.new_zeros(0, keys.shape[1], span, *keys.shape[3:])
    films = keys.new_zeros(count, keys.shape[1], span, *keys.shape[3:])
    films[:, :, ::every] = torch.stack(windows)
    return films


def _pixels(pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "1 3 f h w"]:
    return Video(pictures, 1.0).tensor()[None]


def _changed(method: Method, noise: Any) -> str:
    own = Method(noise=noise)
    names = [name for name in Method.model_fields if getattr(method, name) != getattr(own, name)]
    return f"{', '.join(names) or 'nothing else'} changed"
