"""From a coarse film of pixels to a finer one, by U-Nets on pixels.

    Between          every so many frames are known and held; the others are made
    Sharpened        the film, shrunk again, must be the small one: reconstruction guidance (Ho et al. 2022,
                     2204.03458, equation 8)
    SpatialStage     a network that was trained to see a small version beside the noise, made a little noisy
                     (cascades, Ho et al. 2021, 2106.15282)
    TemporalStage    a network that was trained to see every fourth frame, say, beside the noise

The first two need no network but the one that makes films. They go span by span, as any `tasks.Rework`, and
so do the films of the last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.checkpoints.unet_folder import StageFacts, UNetModel
from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.noise import stream
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.reconstruction import Reconstruction, Replacement, pooled
from mutoscope.models.precision import Precision, default_device, fast_dtype
from mutoscope.pipelines.condition import Given
from mutoscope.pipelines.enlarger import Enlarger
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.generate import Pipeline
from mutoscope.pipelines.request import Request, asked
from mutoscope.pipelines.rung import Rung
from mutoscope.pipelines.tasks import Interpolate, Shot, Span, Task, without
from mutoscope.pipelines.upscale import Upscale
from mutoscope.video import Refusal, Video

__all__ = ["Between", "Inserted", "Sharpened", "SpatialStage", "Stage", "TemporalStage"]

Pictures = UInt8[Tensor, "f h w 3"]
Latents = Float[Tensor, "c f h w"]


class Between(Interpolate):
    """Frames between those of a film, of which each is held in its place."""

    @classmethod
    def of(cls, task: Task, maker: Pipeline, films: Sequence[Video]) -> Self:
        own: dict[str, Any] = {"factor": 2}
        made = cls(**own | without("strength", task))
        if made.factor >= maker.facts.frames:
            raise Refusal(
                f"factor is {made.factor}; this model sees {maker.facts.frames} frames, and two of them must "
                f"be the film's: up to {maker.facts.frames - 1} will do"
            )
        return made

    def shot(self, maker: Pipeline, film: Video, span: Span, request: Request) -> Shot:
        return _Between(maker, span, request, self.known(film, span), self.factor)


class Inserted(Between):
    """The same by a network that was trained for it, with one factor."""

    @classmethod
    def of(cls, task: Task, maker: "TemporalStage", films: Sequence[Video]) -> Self:
        factor = maker.stage.factor
        own: dict[str, Any] = {"factor": factor}
        made = cls(**own | without("strength", task))
        if made.factor != factor:
            raise Refusal(
                f"factor is {made.factor}; this model puts frames between others by {factor}, or by "
                f"{factor**2} in two turns"
            )
        return made

    def request(self, maker: Filmmaker, prompt: str, **settings: Any) -> Request:
        return asked(prompt, maker.facts, **{"guidance": 1.0} | settings)


class Sharpened(Upscale):
    """A film of whole multiples of another's width and height, the same both ways."""

    @classmethod
    def of(cls, task: Task, maker: Pipeline, films: Sequence[Video]) -> Self:
        made, step, (width, height) = super().of(task, maker, films), maker.step, films[0].size
        factor = made.size[0] // width
        if made.size != (factor * width, factor * height) or any(side % step for side in made.size):
            asked, own = (f"{w}x{h}" for w, h in (made.size, films[0].size))
            raise Refusal(
                f"size is {asked}, and the film is {own}; this model makes it 2, 3, ... times as large, in "
                f"multiples of {step} pixels"
            )
        own_size: dict[str, Any] = {"size": made.size}
        return cls(**without("strength", task) | own_size)

    def denoiser(self, maker: Pipeline, request: Request) -> Denoiser:
        return maker.denoiser(request)

    def shot(self, maker: Pipeline, film: Video, span: Span, request: Request) -> Shot:
        return _Sharpened(maker, span, request, film[span.first : span.last + 1])


@dataclass(frozen=True, eq=False)
class _Sampled(Shot):
    """A span that is made of noise."""

    maker: Pipeline
    span: Span
    request: Request

    def pictures(self, sampled: Latents) -> Pictures:
        request = self.request.model_copy(update={"frames": self.span.frames})
        return torch.cat(list(self.maker.decode(sampled, request)))


@dataclass(frozen=True, eq=False)
class _Between(_Sampled):
    known: Pictures
    factor: int

    def given(self, last: Pictures | None) -> Given:
        places = range(0, self.span.frames, self.factor)
        return Given(places=places, frames=self.maker.encode(self.known)[None])

    def denoiser(self, denoiser: Denoiser, last: Pictures | None) -> Denoiser:
        return denoiser

    def finished(self, given: Given, sampled: Latents) -> Pictures:
        made = self.pictures(sampled)
        made[:: self.factor] = self.known
        return made


@dataclass(frozen=True, eq=False)
class _Sharpened(_Sampled):
    small: Video

    def given(self, last: Pictures | None) -> Given:
        return Given()

    def denoiser(self, denoiser: Denoiser, last: Pictures | None) -> Denoiser:
        """Its guess, shrunk, is led to the small film, and begins with the last picture made.

        The weight is the number of pixels that one is shrunk from, since that is how much weaker each of them
        feels what their mean lacks.
        """
        factor = self.request.size[0] // self.small.size[0]
        small = self.maker.facts.process.coded(self.small.tensor()[None].to(self.maker.device))
        led = Reconstruction(denoiser, pooled(factor), small, float(factor**2))
        if last is None:
            return led
        shape = self.maker.latent_shape(self.request.model_copy(update={"frames": self.span.frames}))
        seeds = [stream(self.request.seed, f"opening {self.span.first}")]
        fresh = Fresh(seeds, shape, self.request.method.noise.prior(), device=self.maker.device)
        return Replacement(led, [0], self.maker.encode(last)[None], fresh)

    def finished(self, given: Given, sampled: Latents) -> Pictures:
        return self.pictures(sampled)


class Stage(Filmmaker):
    """A network of a cascade: it makes of films finer ones, and none of words. stage: how it is used."""

    stage: StageFacts

    def request(self, prompt: str, **settings: Any) -> Request:
        self.refuse()

    def steps(self, *requests: Request) -> Iterator[Any]:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Says what it does, to whoever asks for another thing."""
        raise Refusal(f"{self.facts.name or 'this model'} {self.stage.does}")


class SpatialStage(Stage):
    """A network that was trained on small versions of films, ready to enlarge any; it makes none of words.

    Args:
        model: the network; it is copied and stays as it is, unless `in_place`.
        precision: auto is the fastest of the device, see `models.precision`.
        device: the first GPU or the processor, if not given.

    Raises:
        Refusal: the model is no such stage.
    """

    def __init__(
        self,
        model: UNetModel,
        *,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
        in_place: bool = False,
    ) -> None:
        self.stage = stage = _stage_of(model, kind="larger")
        self.device = torch.device(device) if device is not None else default_device()
        self.dtype = fast_dtype(self.device, precision=precision)
        self.facts, self.weights, self.reads = model.facts, model.fingerprint, model.words
        rung = Rung(
            model.unet, model.words, model.facts.process, dtype=self.dtype, device=self.device,
            in_place=in_place,
        )  # fmt: skip
        self.enlarger: Enlarger | None = Enlarger(
            rung, stage.factor, stage.noise, chunk=model.facts.frames, overlap=model.facts.frames // 4,
            steps=model.facts.steps,
        )  # fmt: skip

    def decode(self, latents: Latents, request: Request) -> Iterator[Pictures]:
        self.refuse()


class TemporalStage(Stage, Pipeline):
    """A network that was trained on films of which some frames are known, ready to put frames between those
    of any; it makes none of words. Arguments and errors are those of `SpatialStage`."""

    def __init__(self, model: UNetModel, **place: Any) -> None:
        self.stage = _stage_of(model, kind="between")
        super().__init__(model, **place)


def _stage_of(model: UNetModel, *, kind: str) -> StageFacts:
    if model.stage is None or model.stage.kind != kind:
        does = "is no stage of a cascade" if model.stage is None else model.stage.does
        raise Refusal(f"{model.facts.name or 'this model'} {does}")
    return model.stage
