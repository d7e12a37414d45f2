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
own request alone: made in a batch, it differs from itself made alone by rounding only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mutoscope.checkpoints.folder import Model
from mutoscope.diffusion.denoiser import Denoiser, Network, NetworkDenoiser
from mutoscope.diffusion.guidance import ClassifierFree
from mutoscope.diffusion.multistep import Multistep2Sde, UniPc
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import planned, public
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.sampler import Euler, Heun, Multistep2, Sampler, State, sample
from mutoscope.diffusion.stochastic import Ancestral, Ddim
from mutoscope.models.precision import Precision, default_device, fast_dtype, prepared
from mutoscope.models.transformer import TextMemory
from mutoscope.pipelines.provenance import Provenance, machine, notes_of
from mutoscope.pipelines.request import Request, asked
from mutoscope.video import Refusal, Video

__all__ = ["Pipeline", "Step"]

SAMPLERS: dict[str, Sampler] = {
    "euler": Euler(), "heun": Heun(), "multistep": Multistep2(), "unipc": UniPc(),
    "ddpm": Ddim(eta=1.0), "ancestral": Ancestral(corrector=0.1), "sde": Multistep2Sde(),
}  # fmt: skip


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
    _pipeline: "Pipeline" = field(repr=False)
    _request: Request = field(repr=False)

    @cached_property
    def preview(self) -> UInt8[Tensor, "h w 3"]:
        """Decoded from the middle latent frame and the one before it, whatever the length of the film."""
        middle = self.latents.shape[2] // 2
        around = self.latents[0, :, max(0, middle - 1) : middle + 1]
        *_, last = self._pipeline.decode(around, self._request.model_copy(update={"frames": 10**6}))
        return last[-1]


class Pipeline:
    """A model, ready to make films on a device and in a precision.

    Args:
        model: its networks; they are copied and stay as they are.
        precision: auto is the fastest of the device, see `models.precision`.
        device: the first GPU or the processor, if not given.
        in_place: lower the model's own networks instead of a copy, which saves the memory for one.
    """

    def __init__(
        self,
        model: Model,
        *,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
        in_place: bool = False,
    ) -> None:
        self.device = torch.device(device) if device is not None else default_device()
        self.dtype = fast_dtype(self.device, precision=precision)
        self._transformer = prepared(model.transformer, self.dtype, device=self.device, in_place=in_place)
        self._autoencoder = prepared(model.autoencoder, self.dtype, device=self.device, in_place=in_place)
        self._words = model.words
        self.facts, self.shift, self.weights = model.facts, model.shift, model.fingerprint

    def request(self, prompt: str, **settings: Any) -> Request:
        """A complete request: settings are those of `Request`, or `seconds`; what is left out is the model's
        own."""
        return asked(prompt, self.facts, **settings)

    def generate(self, prompt: str, **settings: Any) -> Video:
        """The film of a prompt, with notes on how it was made.

        Args:
            prompt: what to show.
            settings: seed, frames or seconds, size (width, height), fps, steps, guidance, sampler, negative,
                plan.

        Raises:
            Refusal: a setting out of range, or a size that the model cannot do.
        """
        [video] = self.films([self.request(prompt, **settings)])
        return video

    def generate_many(self, prompt: str, *, count: int, seed: int = 0, **settings: Any) -> Iterator[Video]:
        """`count` films of a prompt, one after the other: film i is what `generate` makes with seed + i."""
        requests = [self.request(prompt, seed=seed + i, **settings) for i in range(count)]
        return self.films(requests)

    def films(self, requests: Sequence[Request], *, batch: int = 1) -> Iterator[Video]:
        """The film of each request.

        batch: how many to sample at a time, which pays on GPUs; requests sampled together must agree in all
        but words, negative words and seed. At 1 each film is bit for bit what it is alone.
        """
        for start in range(0, len(requests), batch):
            together = requests[start : start + batch]
            *_, last = self.steps(*together)
            for latents, request in zip(last.latents, together, strict=True):
                frames = torch.cat(list(self.decode(latents, request)))
                yield Video(frames, request.fps, self.notes(request))

    def steps(self, *requests: Request) -> Iterator[Step]:
        """Samples the films of one or more requests, yielding a `Step` after every step."""
        first = _alike(requests)
        shape = self.latent_shape(first)
        seeds = [request.seed for request in requests]
        noise = draw(seeds, shape, device=self.device)
        plan = planned(first.plan, self.grid(first), shape[1])
        guided = self._guided(requests, self._flow(first))
        words = self._remember([request.prompt for request in requests])
        states = sample(
            guided, noise, plan=plan, condition=words, sampler=SAMPLERS[first.sampler],
            fresh=Fresh(seeds, shape, device=self.device),
        )  # fmt: skip
        return (self._step(state, first) for state in states)

    @property
    def time_stride(self) -> int:
        """How many pictures a latent frame holds; the first holds one."""
        return self._autoencoder.time_stride

    @property
    def space_stride(self) -> int:
        """How many pixels wide and high a latent is."""
        return self._autoencoder.space_stride

    def grid(self, request: Request) -> Float[Tensor, " levels"]:
        """The levels that a frame walks down."""
        return public(request.steps, shift=self.shift)

    def denoiser(self, request: Request) -> Denoiser:
        """Guesses films of `words(request)`, guided as the request says, at any time of every frame."""
        return self._guided([request], self._flow_of_frames)

    def words(self, request: Request) -> TextMemory:
        """What the denoiser is told: the condition it takes."""
        return self._remember([request.prompt])

    @torch.no_grad()
    def encode(self, pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "c f2 h2 w2"]:
        """The latents of pictures, as the denoiser knows them and in its whole patches.

        The last picture is repeated until the last latent frame is full; `decode` cuts off what was added.
        """
        pixels = Video(pictures, 1.0).tensor()[None].to(self.device, self.dtype)
        z = self._autoencoder.encode(pixels.contiguous(memory_format=torch.channels_last_3d)).mode()
        z = self._autoencoder.normalise(z.float())
        _, q, r = self._transformer.config.patch_size
        added = (0, -z.shape[4] % r, 0, -z.shape[3] % q, 0, 0)
        return functional.pad(z, added, mode="replicate")[0] if any(added) else z[0]

    def decode(
        self, latents: Float[Tensor, "c f h w"], request: Request
    ) -> Iterator[UInt8[Tensor, "f h w 3"]]:
        """The pictures of one film, a few at a time, in memory that does not grow with its length.

        Raises:
            Refusal: the latents hold NaN.
        """
        width, height = request.size
        left = request.frames
        z = self._autoencoder.denormalise(rearrange(latents.to(self.device), "c f h w -> 1 c f h w"))
        z = z.to(self.dtype).contiguous(memory_format=torch.channels_last_3d)
        for pixels in self._autoencoder.stream_decode([z]):
            chunk = Video.from_tensor(pixels[0, :, :left, :height, :width], fps=request.fps)
            yield chunk.frames
            left -= len(chunk)
            if left <= 0:
                return

    def notes(self, request: Request) -> dict[str, str]:
        """How the film of a request is made here, as the notes it carries."""
        return notes_of(
            Provenance(
                request=request,
                weights=self.weights or "unsaved",
                model=self.facts.name,
                precision="bfloat16" if self.dtype == torch.bfloat16 else "float32",
                machine=self.machine,
            )
        )

    def check_made(self, made: Provenance, *, name: object) -> None:
        """Refuses to make a film again that other weights made."""
        if made.weights != self.weights:
            raise Refusal(
                f"{name} was made by {made.model or 'a model'} with the weights {made.weights}; those of "
                f"{self.facts.name or 'this model'} are {self.weights or 'not saved'}; name the folder of "
                "the others with --model"
            )

    @property
    def machine(self) -> dict[str, str]:
        """What may change the last bits of a film."""
        return machine(self.device)

    def remarks(self, request: Request) -> list[str]:
        """What a user should know before it is made: words the model never saw, and words that do not fit."""
        tokenizer, said = self._words.tokenizer, []
        for text in (request.prompt, request.negative):
            if unknown := tokenizer.unknown_words(text):
                words = ", ".join(repr(word) for word in unknown)
                said.append(f"this model does not know {words}; it knows: {_some(tokenizer.words)}")
            tokens = tokenizer.encode([text], at_most=10**6).ids.shape[1]
            if tokens > self._words.padded_to:
                said.append(
                    f"the words are cut: {tokens} tokens, and this model reads {self._words.padded_to}"
                )
        return said

    def _guided(self, requests: Sequence[Request], flow: Network) -> Denoiser:
        scale, negative = requests[0].guidance, [request.negative for request in requests]
        denoiser = NetworkDenoiser(flow, dtype=self.dtype)
        return ClassifierFree(denoiser, scale, negative=self._remember(negative) if scale != 1 else None)

    def _flow_of_frames(self, noisy: Tensor, t: Tensor, words: TextMemory) -> Tensor:
        return self._transformer(noisy, t, text=words)

    def _flow(self, request: Request) -> Network:
        # Where all frames move together, their one time is enough and costs less than one for each.
        if request.plan != "full":
            return self._flow_of_frames

        def flow(noisy: Tensor, t: Tensor, words: TextMemory) -> Tensor:
            return self._transformer(noisy, t[:, :1], text=words)

        return flow

    @torch.no_grad()
    def _remember(self, texts: Sequence[str]) -> TextMemory:
        text = self._words.say(texts)
        text = replace(text, rows=text.rows.to(self.device), mask=text.mask.to(self.device))
        return self._transformer.remember(text)

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of latents that cover the film, in whole patches."""
        config, stride = self._transformer.config, self._autoencoder.space_stride
        frames = 1 + -(-(request.frames - 1) // self._autoencoder.time_stride)
        sides = (frames, -(-request.size[1] // stride), -(-request.size[0] // stride))
        f, h, w = (-(-side // patch) for side, patch in zip(sides, config.patch_size, strict=True))
        if max(f, h, w) > config.rope_max:
            raise Refusal(
                f"{request.frames} frames of {request.size[0]}x{request.size[1]}: this model has "
                f"{config.rope_max} places each way, and {max(f, h, w)} are needed; ask for a shorter or "
                "smaller film"
            )
        p, q, r = config.patch_size
        return config.in_channels, f * p, h * q, w * r

    def _step(self, state: State, request: Request) -> Step:
        return Step(state.step, state.steps, state.clean, self, request)


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


def _some(words: Sequence[str], *, most: int = 150) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
