"""Words to film.

    pipeline = Pipeline(model)
    video = pipeline.generate("a man walking in the rain", seed=1)

    request = pipeline.request("a man walking in the rain")
    for step in pipeline.steps(request):
        show(step.preview)                              the guess so far: decoded only if looked at
    for pictures in pipeline.decode(step.latents[0], request):
        writer.write(pictures)                          uint8 "f h w 3", a few frames at a time

Prompt to text rows, noise of the seed, a walk down the grid of noise levels (that of diffusers' flow-match
scheduler, so that diffusers makes the same film of the same folder), latents to pixels. A film depends on its
own request alone: made in a batch, it differs from itself made alone by rounding only. Under the plan
"rolling" frames are finished one after another, and `stream` decodes them as they come.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.checkpoints.folder import Model
from mutoscope.checkpoints.unet_folder import UNetModel
from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.plan import Plan
from mutoscope.diffusion.prior import Fresh, Prior
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.sampler import State
from mutoscope.diffusion.schedule import size_shift
from mutoscope.models.precision import Precision, default_device, fast_dtype
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.networks import Networks, UNetNetworks, networks_of
from mutoscope.pipelines.request import Request, asked
from mutoscope.pipelines.sampling import (
    SAMPLERS,
    Lengths,
    guided,
    needs_negative,
    plan_of,
    rolled,
    seen,
    walked,
)
from mutoscope.video import Refusal, Video

__all__ = ["SAMPLERS", "Pipeline", "Step"]


@dataclass(frozen=True, eq=False)
class Step:
    """Where sampling stands after `step` of `steps`.

    latents: the clean films as guessed so far, "b c f h w" in the units of the denoiser; the last step's are
    the result. preview: the middle frame of the first film, uint8 "h w 3", decoded when it is first looked
    at.
    """

    step: int
    steps: int
    latents: Float[Tensor, "b c f h w"]
    _pipeline: Filmmaker = field(repr=False)
    _request: Request = field(repr=False)

    @cached_property
    def preview(self) -> UInt8[Tensor, "h w 3"]:
        """Decoded from the middle latent frame and the one before it, whatever the length of the film."""
        middle = self.latents.shape[2] // 2
        around = self.latents[0, :, max(0, middle - 1) : middle + 1]
        *_, last = self._pipeline.decode(around, self._request.model_copy(update={"frames": 10**6}))
        return last[-1]


class Pipeline(Filmmaker):
    """A model, ready to make films on a device and in a precision.

    Args:
        model: its networks, of either family; they are copied and stay as they are.
        precision: auto is the fastest of the device, see `models.precision`.
        device: the first GPU or the processor, if not given.
        in_place: lower the model's own networks instead of a copy, which saves the memory for one.
        weak: a weaker model of the same latents, to guide by (autoguidance); it then guides every film.

    Raises:
        Refusal: the weak model's latents are others.
    """

    def __init__(
        self,
        model: Model | UNetModel,
        *,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
        in_place: bool = False,
        weak: Model | UNetModel | None = None,
    ) -> None:
        self.device = torch.device(device) if device is not None else default_device()
        self.dtype = fast_dtype(self.device, precision=precision)
        self._networks = networks_of(model, dtype=self.dtype, device=self.device, in_place=in_place)
        self.facts, self.weights, self.reads = model.facts, model.fingerprint, self._networks.words
        self.shift = model.shift if isinstance(model, Model) else model.facts.shift
        self._weak = None if weak is None else self._beside(weak, in_place=in_place)
        self.weak = "" if self._weak is None else self._weak.fingerprint

    def request(self, prompt: str, **settings: Any) -> Request:
        """A complete request: settings are those of `Request` and `Method`, or `seconds`; what is left out is
        the model's own."""
        own = {"weak": self.weak} if self.weak else {}
        return asked(prompt, self.facts, **settings | own)

    def steps(self, *requests: Request) -> Iterator[Step]:
        """Samples the films of one or more requests, yielding a `Step` after every step."""
        first = _alike(requests)
        shape, lengths = self.latent_shape(first), self._lengths(first)
        seeds = [request.seed for request in requests]
        fresh = Fresh(seeds, shape, self.prior(first), device=self.device)
        denoiser = self._guided(requests, together=first.plan == "full")
        words = self._networks.remember([request.prompt for request in requests])
        if first.plan == "rolling":
            window = lengths.rolling(first, shift=self.shift_of(first))
            states = rolled(denoiser, first, window=window, condition=words, fresh=fresh)
        else:
            states = walked(denoiser, first, plan=self.plan(first), condition=words, fresh=fresh)
        return (self._step(state, first) for state in states)

    def stream(self, request: Request) -> Iterator[UInt8[Tensor, "f h w 3"]]:
        """Samples and decodes in one go: under plan "rolling" pictures come while later ones are noise."""
        steps = self.steps(request)
        if request.plan == "rolling":
            return self._decoded((step.latents[0, :, -1:] for step in steps), request)
        *_, last = steps
        return self.decode(last.latents[0], request)

    def plan(self, request: Request) -> Plan:
        """The levels of every latent frame after every step."""
        shift = self.shift_of(request)
        return plan_of(request, self.grid(request), lengths=self._lengths(request), shift=shift)

    def drawn(
        self, kind: str, *, frames: int | None = None, steps: int | None = None, window: int | None = None
    ) -> Plan:
        """A plan as this model would walk it. frames, window: latent frames, unlike those of a request."""
        request = self.request("a plan", plan=kind, steps=steps)
        own = self._frames(self.facts.frames)
        lengths = Lengths(own if frames is None else frames, own=own, window=window)
        return plan_of(request, self.grid(request), lengths=lengths, shift=self.shift_of(request))

    def prior(self, request: Request) -> Prior:
        """How the noise of the request's frames is related, wherever noise is drawn for it."""
        lengths = self._lengths(request)
        return request.method.noise.prior(window=lengths.own if lengths.window is None else lengths.window)

    @property
    def time_stride(self) -> int:
        """How many pictures a latent frame holds; the first holds one."""
        return self._networks.time_stride

    @property
    def of_pixels(self) -> bool:
        """Whether latents are the pixels themselves."""
        return isinstance(self._networks, UNetNetworks)

    @property
    def step(self) -> int:
        """Sides of films that are multiples of so many pixels are made without anything to cut off."""
        return self.space_stride * max(self._networks.patch[1:])

    @property
    def space_stride(self) -> int:
        """How many pixels wide and high a latent is."""
        return self._networks.space_stride

    def grid(self, request: Request) -> Float[Tensor, " levels"]:
        """The levels that a frame walks down."""
        return self._networks.grid(request.steps, shift=self.shift_of(request))

    def shift_of(self, request: Request) -> float:
        """Of the grid towards noise: the model's own, the request's, or as the film's size asks for."""
        shift = request.method.shift
        if shift != "size":
            return self.shift if shift is None else shift
        usual = {"frames": self.facts.frames, "size": self.facts.size}
        own = self.latent_shape(request.model_copy(update=usual))
        return self.shift * size_shift(self.latent_shape(request)[1:], own[1:])

    def denoiser(self, request: Request) -> Denoiser:
        """Guesses films of `words(request)`, guided as the request says, at any time of every frame."""
        denoiser = self._guided([request], together=False)
        return self._networks.holding(denoiser, request, shape=self.latent_shape(request))

    def words(self, request: Request) -> Any:
        """What the denoiser is told: the condition it takes."""
        return self._networks.remember([request.prompt])

    def encode(self, pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "c f2 h2 w2"]:
        """The latents of pictures, as the denoiser knows them and in its whole patches.

        The last picture is repeated until the last latent frame is full; `decode` cuts off what was added.
        """
        return self._networks.encode(pictures)

    def decode(
        self, latents: Float[Tensor, "c f h w"], request: Request
    ) -> Iterator[UInt8[Tensor, "f h w 3"]]:
        """The pictures of one film, a few at a time, in memory that does not grow with its length.

        Raises:
            Refusal: the latents hold NaN.
        """
        return self._decoded([latents], request)

    def _decoded(self, latents: Iterable[Tensor], request: Request) -> Iterator[Tensor]:
        width, height = request.size
        left = request.frames
        for pixels in self._networks.decode(latents):
            chunk = Video.from_tensor(pixels[0, :, :left, :height, :width], fps=request.fps)
            yield chunk.frames
            left -= len(chunk)
            if left <= 0:
                return

    def _guided(self, requests: Sequence[Request], *, together: bool) -> Denoiser:
        first, lengths, own = requests[0], self._lengths(requests[0]), self._networks
        denoiser = self.facts.process.denoiser(own.flow(together=together), dtype=own.takes)
        denoiser = seen(denoiser, first, lengths=lengths)
        negative = own.remember([one.negative for one in requests]) if needs_negative(first) else None
        weak = None
        if first.method.weak and self._weak is not None:
            weak = self._weak.denoiser([one.prompt for one in requests])
            weak = seen(weak, first, lengths=lengths)
        return guided(denoiser, first, frames=lengths.film, negative=negative, weak=weak)

    def _beside(self, weak: Model | UNetModel, *, in_place: bool) -> "_Weak":
        networks = networks_of(weak, dtype=self.dtype, device=self.device, in_place=in_place)
        if networks.channels != self._networks.channels:
            raise Refusal(
                f"the weak model {weak.facts.name} has latents of {networks.channels} channels, this one of "
                f"{self._networks.channels}: name one that was trained on the same autoencoder"
            )
        own, other = self.facts.process, weak.facts.process
        if other.noising_settings != own.noising_settings:
            raise Refusal(
                f"the weak model {weak.facts.name} knows noise of {other.colours} on the schedule "
                f"{other.schedule}, this one of {own.colours} on {own.schedule}: name one of the same process"
            )
        return _Weak(networks, other, weak.fingerprint or "unsaved")

    def _frames(self, pictures: int) -> int:
        """Latent frames of so many pictures, in whole patches."""
        p = self._networks.patch[0]
        return -(-(1 + -(-(pictures - 1) // self.time_stride)) // p) * p

    def _lengths(self, request: Request) -> Lengths:
        window = request.method.window
        return Lengths(
            self._frames(request.frames),
            own=self._frames(self.facts.frames),
            window=None if window is None else self._frames(window),
        )

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of latents that cover the film, in whole patches."""
        (p, q, r), stride = self._networks.patch, self.space_stride
        h, w = -(-request.size[1] // stride // q), -(-request.size[0] // stride // r)
        lengths = self._lengths(request)
        self._networks.check(request, sides=(lengths.at_once(request) // p, h, w))
        return self._networks.channels, lengths.film, h * q, w * r

    def _step(self, state: State, request: Request) -> Step:
        return Step(state.step, state.steps, state.clean, self, request)


@dataclass(frozen=True, eq=False)
class _Weak:
    """The networks of a weaker model, with its own way of reading words and its own kind of prediction."""

    networks: Networks
    process: Process
    fingerprint: str

    def denoiser(self, texts: Sequence[str]) -> Denoiser:
        """What it says under these words, whatever the condition of the model beside it."""
        network, told = self.networks.flow(together=False), self.networks.remember(texts)
        return self.process.denoiser(lambda noisy, t, _: network(noisy, t, told), dtype=self.networks.takes)


def _alike(requests: Sequence[Request]) -> Request:
    """The first request, if all can be sampled together with it."""
    if not requests:
        raise Refusal("no requests: give one for every film")
    own = {"prompt", "negative", "seed"}
    settings = [request.model_dump(exclude=own) for request in requests]
    for other in settings[1:]:
        differing = [name for name in other if other[name] != settings[0][name]]
        if differing:
            raise Refusal(
                f"requests of one batch differ in {', '.join(differing)}; only words and seed may differ"
            )
    return requests[0]
