"""Words to a long film, from coarse to fine: key frames, the frames between them, and then every pixel.

    key frames    window after window; each knows the last `context` key frames of the one before
    between       from two known frames the three between them, `rounds` times over: T -> 4 T -> 16 T
    decode        latents to pixels, a chunk of frames at a time
    larger        each chunk `scale` times as wide and high; neighbours fade into each other

The first two stay in latents, a few kilobytes a frame, and the last two are a stream, so a film may be as
long as one likes. Align Your Latents (Blattmann et al. 2023, 2304.08818), section 3; LVDM's hierarchy (He et
al. 2022, 2211.13221) is the same with other settings.
"""

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mutoscope.checkpoints.hierarchy_folder import HierarchyModel
from mutoscope.diffusion.known import Known
from mutoscope.diffusion.noise import stream
from mutoscope.models.precision import Precision, default_device, fast_dtype, prepared
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.generate import Step
from mutoscope.pipelines.method import Method
from mutoscope.pipelines.request import Request, asked
from mutoscope.pipelines.rung import Rung, Telling, framewise_noise
from mutoscope.video import Refusal, Video

__all__ = ["Hierarchy", "faded"]

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
        self._key = self._rung(model.unet, model)
        self._finer = None if model.interpolation is None else self._rung(model.interpolation, model)
        self._larger = None if model.upscaler is None else self._rung(model.upscaler, model)
        self.rounds = 0 if self._finer is None else self.chain.rounds
        self.scale = 1 if self._larger is None else self.chain.scale

    def _rung(self, unet: Any, model: HierarchyModel) -> Rung:
        words = None if unet.config.text_dim is None else model.words
        return Rung(
            unet, words, model.facts.process, dtype=self.dtype, device=self.device, in_place=self._in_place
        )

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
        [request] = requests
        total = self._total(request)
        for number, film in enumerate(self._films(request), start=1):
            yield Step(number, total, film, self, request)

    def _films(self, request: Request) -> Iterator[Latents]:
        """The film as far as it is, after every step."""
        known = torch.empty(0)
        for known in self._key_frames(request):
            yield known
        for number in range(self.rounds):
            made = known
            for made in self._between(known, request, number=number):
                yield made
            known = made

    def _key_frames(self, request: Request) -> Iterator[Latents]:
        """Window after window of key frames."""
        count, window, shape = self._frames(request, 0), self.chain.keys, self._shape(request)
        film = torch.zeros(1, shape[0], 0, *shape[1:], device=self.device)
        telling = Telling(
            request, request.steps, request.guidance, self.chain.context_guidance, self.chain.context_noise
        )
        while film.shape[2] < count:
            k = min(self.chain.context, film.shape[2]) if self._key.told else 0
            seed = stream(request.seed, f"key frames {film.shape[2]}")
            white = self._noise(request, [seed], (shape[0], window, *shape[1:]))
            known = _opening(film[:, :, film.shape[2] - k :], like=white) if self._key.told else None
            before = film
            for state in self._key.films(white, known, telling, seeds=[seed]):
                film = torch.cat([before, state.clean[:, :, k:].float()], dim=2)[:, :, :count]
                yield film

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

    def _total(self, request: Request) -> int:
        """Steps of sampling in all."""
        count, window, k = self._frames(request, 0), self.chain.keys, self.chain.context
        new = window - (k if self._key.told else 0)
        windows = 1 + -(-max(0, count - window) // new)
        total, length = windows * request.steps, (self.chain.span - 1) // self.chain.every
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
        self, latents: Float[Tensor, "c f h w"], request: Request
    ) -> Iterator[UInt8[Tensor, "f h w 3"]]:
        """The pictures of a film, some frames at a time, in memory that does not grow with its length.

        Raises:
            Refusal: the latents hold NaN.
        """
        if not bool(latents.isfinite().all()):
            raise Refusal("the latents hold NaN or infinity: they cannot be decoded; sample them again")
        left = request.frames
        for pixels in faded(self._chunks(latents[None].to(self.device), request), self.chain.overlap):
            yield self._pictures(pixels[:, :, :left], request)
            left -= pixels.shape[2]
            if left <= 0:
                return

    def finer(self, film: Video, *, prompt: str, **settings: Any) -> Video:
        """A small film, of any size, with `every` times the frames; its own pictures stay as they are.

        Raises Refusal for a film of one frame, or a model without that part.
        """
        if self._finer is None or len(film) < 2:
            raise Refusal(f"{len(film)} frames: a model with interpolation_unet/ puts some between two")
        every, config = self.chain.every, self._finer.unet.config
        shape = {"frames": every * (len(film) - 1) + 1, "fps": film.fps * every, "size": film.size}
        request = self.request(prompt, **settings | shape)
        pixels = _padded(film.tensor()[None], self.autoencoder.space_stride * config.factor)
        keys = torch.cat([self._encoded(chunk) for chunk in pixels.split(self.chain.chunk, dim=2)], dim=2)
        *_, latents = self._between(keys, request, number=self.rounds - 1)
        made = faded(map(self._decoded, self._pieces(latents)), self.chain.overlap)
        pictures = self._pictures(torch.cat(list(made), dim=2), request)
        pictures[::every] = film.frames
        return Video(pictures, request.fps, self.notes(request))

    def larger(self, film: Video, *, prompt: str, **settings: Any) -> Video:
        """A film `scale` times as wide and high, a chunk at a time. Raises Refusal for a model without that
        part."""
        if self._larger is None:
            raise Refusal("this model has no upscaler_unet/ to make films larger; name another")
        width, height = (side * self.scale for side in film.size)
        shape = {"frames": len(film), "fps": film.fps, "size": (width, height)}
        request = self.request(prompt, **settings | shape)
        pixels = _padded(film.tensor()[None], self._larger.unet.config.factor).to(self.device)
        starts = range(0, len(film), self.chain.chunk - self.chain.overlap)
        chunks = (
            self._enlarged(piece, request, first=first)
            for first, piece in zip(starts, self._pieces(pixels), strict=False)
        )
        pictures = [self._pictures(chunk, request) for chunk in faded(chunks, self.chain.overlap)]
        return Video(torch.cat(pictures), request.fps, self.notes(request))

    def _chunks(self, latents: Latents, request: Request) -> Iterator[Float[Tensor, "1 3 f h w"]]:
        """Overlapping chunks of pixels, at the film's size."""
        for number, piece in enumerate(self._pieces(latents)):
            small, first = self._decoded(piece), number * (self.chain.chunk - self.chain.overlap)
            yield small if self._larger is None else self._enlarged(small, request, first=first)

    def _pieces(self, film: Latents) -> Iterator[Latents]:
        """Overlapping chunks of frames."""
        fresh = self.chain.chunk - self.chain.overlap
        for first in range(0, max(1, film.shape[2] - self.chain.overlap), fresh):
            yield film[:, :, first : first + self.chain.chunk]

    def _pictures(self, pixels: Float[Tensor, "1 3 f h w"], request: Request) -> UInt8[Tensor, "f h2 w2 3"]:
        width, height = request.size
        return Video.from_tensor(pixels[0, :, :, :height, :width].float(), fps=request.fps).frames

    @torch.no_grad()
    def _encoded(self, pixels: Float[Tensor, "1 3 f h w"]) -> Float[Tensor, "1 c f h2 w2"]:
        mean = self.autoencoder.encode(pixels.to(self.device, self.dtype)).mean
        return self.autoencoder.normalise(mean.float())

    @torch.no_grad()
    def _decoded(self, latents: Latents) -> Float[Tensor, "1 3 f h2 w2"]:
        z = self.autoencoder.denormalise(latents.float()).to(self.dtype)
        return self.autoencoder.decode(z).float().clamp(-1, 1)

    def _enlarged(
        self, small: Float[Tensor, "1 3 f h w"], request: Request, *, first: int
    ) -> Float[Tensor, "1 3 f h2 w2"]:
        """Frames `first` and on, larger. Their noise is that of their numbers, so that what two chunks say
        of a frame they share can be faded."""
        assert self._larger is not None
        height, width = (side * self.scale for side in small.shape[3:])
        known = Known.small(small, height=height, width=width)
        seed = stream(request.seed, "larger")
        white, own = (
            framewise_noise(s, (3, height, width), first=first, count=small.shape[2], device=self.device)
            for s in (seed, stream(seed, "known"))
        )
        level = torch.full((1,), self.chain.small_noise, device=self.device)
        known = known.noised(level, own, schedule=self._larger.schedule)
        telling = Telling(request, self.chain.steps_larger)
        *_, last = self._larger.films(white, known, telling, seeds=[stream(seed, f"chunk {first}")])
        return last.clean.clamp(-1, 1)


def faded(
    chunks: Iterator[Float[Tensor, "1 c f h w"]], overlap: int
) -> Iterator[Float[Tensor, "1 c f h w"]]:
    """Chunks that share `overlap` frames with the next, joined: shared frames fade from one to the other."""
    tail = None
    for chunk in chunks:
        if tail is not None and overlap:
            share = rearrange(torch.arange(1, overlap + 1).to(chunk) / (overlap + 1), "f -> f 1 1")
            chunk = torch.cat([torch.lerp(tail, chunk[:, :, :overlap], share), chunk[:, :, overlap:]], dim=2)
        keep = chunk.shape[2] - overlap
        if keep > 0:
            yield chunk[:, :, :keep]
        tail = chunk[:, :, max(keep, 0) :]
    if tail is not None and tail.shape[2]:
        yield tail


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


def _padded(film: Float[Tensor, "1 3 f h w"], step: int) -> Float[Tensor, "1 3 f h2 w2"]:
    """Height and width to whole steps, by repeating the last row and column."""
    h, w = film.shape[3:]
    return functional.pad(film, (0, -w % step, 0, -h % step, 0, 0), mode="replicate")


def _changed(method: Method, noise: Any) -> str:
    own = Method(noise=noise)
    names = [name for name in Method.model_fields if getattr(method, name) != getattr(own, name)]
    return f"{', '.join(names) or 'nothing else'} changed"
