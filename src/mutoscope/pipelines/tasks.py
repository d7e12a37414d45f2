"""Films out of films: to go on, to set a picture in motion, to put frames between.

    Extend        the last frames are known           known | new | new        window after window
    Animate       the first, perhaps also the last    known | new ..  | known
    Interpolate   each second or fourth picture       a film of faded frames, roughly right, is made right

Each says what is known (`condition.Given`) and leaves the rest to a plan of noise levels and any model
(`condition.Maker`). Models of other kinds do some of it in their own way (`ways`): the same settings, and
other parts. A causal autoencoder lets the first latent frame hold one picture and the others
`time_stride`, so what is shown to the model always opens with a picture of its own, as in its training.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.rolling import Stabilised
from mutoscope.pipelines.condition import Agreeing, Given, Latents, Maker, Pictures, take
from mutoscope.pipelines.request import Request
from mutoscope.video import Refusal, Video

if TYPE_CHECKING:
    from mutoscope.pipelines.filmmaker import Filmmaker

Picture = UInt8[Tensor, "1 h w 3"]

__all__ = [
    "Animate",
    "Extend",
    "Interpolate",
    "Part",
    "Rework",
    "Shot",
    "Span",
    "Task",
    "later",
    "levels",
    "without",
]


@dataclass(frozen=True, eq=False)
class Part:
    """How far a task is, in sampling steps of all, and the pictures that are finished since, if any."""

    done: int
    total: int
    pictures: UInt8[Tensor, "f h w 3"] | None = None


class Task(BaseModel, ABC):
    """What to make of films; its fields are settings, and travel in the notes of what is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str

    @classmethod
    def of(cls, task: "Task", maker: Any, films: Sequence[Video]) -> Self:
        """The task as this model does it, complete: what was left out is the model's own.

        Raises:
            Refusal: a setting that the model has no place for.
        """
        return cls(**task.model_dump())

    def settings(self) -> dict[str, Any]:
        """What was said or settled, as plain values: of these the same task can be made again."""
        return {"kind": self.kind} | self.model_dump(mode="json", exclude_unset=True)

    def request(self, maker: "Filmmaker", prompt: str, **settings: Any) -> Request:
        """What is asked of the model; settings that are left out are its own."""
        return maker.request(prompt, **settings)

    @property
    @abstractmethod
    def ending(self) -> str:
        """What is put after the name of a film for that of what is made of it."""

    @abstractmethod
    def shape(self, films: Sequence[Video]) -> dict[str, Any]:
        """`frames`, `size` and `fps` of what is made of these films. Raises Refusal if nothing can be."""

    @abstractmethod
    def parts(self, maker: Any, films: Sequence[Video], request: Request) -> Iterator[Part]:
        """Makes the film, part by part; the pictures of all parts joined are `request.frames` of them.

        maker: the model, of the kind that `of` settled the task for.
        """

    @abstractmethod
    def said(self, names: Sequence[str]) -> str:
        """What is done, in words, to films of these names."""


class Extend(Task):
    """A film goes on for `frames` more pictures.

    context: the last pictures that the model sees at a time. steady: as how noisy it takes what is known
    (`rolling.Stabilised`), in [0, 1). only_new: leave the film itself out.

    What is sampled is decoded in one stream, known latents first, so windows meet without a seam. Between
    windows the known latents are the last ones sampled, bit for bit, but for the first: it must hold one
    picture, and is encoded from the last picture of the latent frame in its place.
    """

    kind: Literal["extend"] = "extend"
    frames: int = Field(ge=0, le=100_000)
    context: int = Field(9, ge=1)
    steady: float = Field(0.0, ge=0, lt=1)
    only_new: bool = False

    @property
    def ending(self) -> str:
        return "extended"

    def shape(self, films: Sequence[Video]) -> dict[str, Any]:
        [film] = films
        if self.only_new and not self.frames:
            raise Refusal("no new frames, and only the new ones are asked for: nothing would be left")
        kept = 0 if self.only_new else len(film)
        return {"frames": kept + self.frames, "size": film.size, "fps": film.fps}

    def said(self, names: Sequence[str]) -> str:
        return f"{names[0]} goes on for {self.frames} frames"

    def parts(self, maker: Maker, films: Sequence[Video], request: Request) -> Iterator[Part]:
        [film] = films
        shown = 1 + (min(self.context, len(film)) - 1) // maker.time_stride * maker.time_stride
        known = film.frames[-shown:]
        if not self.only_new:
            yield Part(0, 1, film.frames)
        if not self.frames:
            return
        latents = [maker.encode(known)]
        for part in self._go_on(maker, latents, request):
            yield part
        whole = request.model_copy(update={"frames": shown + self.frames})
        for new in later(maker.decode(torch.cat(latents, dim=1), whole), shown):
            yield Part(part.total, part.total, new)

    def _go_on(self, maker: Maker, latents: list[Latents], request: Request) -> Iterator[Part]:
        """Appends window after window of new latents."""
        known, window = latents[0], maker.facts.frames
        k = known.shape[1]
        fresh = 1 + -(-(window - 1) // maker.time_stride) - k
        if fresh < 1:
            raise Refusal(
                f"context is {self.context} frames; this model sees {window}, and some must be left to make"
            )
        windows = -(-self.frames // (fresh * maker.time_stride))
        denoiser = _steadied(maker.denoiser(request), self.steady)
        for number in range(windows):
            given = Given(places=range(k), frames=known[None])
            for state in take(maker, request, given, frames=window, number=number, denoiser=denoiser):
                yield Part(number * state.steps + state.step, windows * state.steps)
            film = state.clean[0]
            latents.append(film[:, k:])
            if number + 1 < windows:
                known = self._context(maker, film, request, frames=k)

    def _context(self, maker: Maker, film: Latents, request: Request, *, frames: int) -> Latents:
        """The last `frames` latents, the first of them as that of one picture."""
        before = film[:, : film.shape[1] - frames + 1]
        long = request.model_copy(update={"frames": 1 + (before.shape[1] - 1) * maker.time_stride})
        *_, pictures = maker.decode(before, long)
        opening = maker.encode(pictures[-1:]).to(film)
        return torch.cat([opening, film[:, film.shape[1] - frames + 1 :]], dim=1)


class Animate(Task):
    """A picture begins to move; a second one, if there is one, is what the film ends at, as a still.

    frames: of the whole film, in one window. steady: as for `Extend`.
    """

    kind: Literal["animate"] = "animate"
    frames: int = Field(ge=2, le=100_000)
    fps: float = Field(gt=0, le=1000)
    steady: float = Field(0.0, ge=0, lt=1)

    @property
    def ending(self) -> str:
        return "moving"

    def shape(self, films: Sequence[Video]) -> dict[str, Any]:
        for film in films:
            if film.size != films[0].size:
                first, last = (f"{w}x{h}" for w, h in (films[0].size, film.size))
                raise Refusal(f"the first picture is {first} and the last {last}; they must be of one size")
        return {"frames": self.frames, "size": films[0].size, "fps": self.fps}

    def said(self, names: Sequence[str]) -> str:
        return f"{names[0]} begins to move" + (f" and ends at {names[1]}" if len(names) > 1 else "")

    def parts(self, maker: Maker, films: Sequence[Video], request: Request) -> Iterator[Part]:
        first = films[0].frames[:1]
        known, places = [maker.encode(first)], [0]
        if len(films) > 1:
            if self.frames <= 1 + maker.time_stride:
                least = 2 + maker.time_stride
                raise Refusal(f"frames is {self.frames}; with a last one this model makes {least} or more")
            still = films[1].frames[-1:].expand(1 + 2 * maker.time_stride, -1, -1, -1)
            known, places = [*known, maker.encode(still)[:, -1:]], [0, -1]
        given = Given(places=places, frames=torch.cat(known, dim=1)[None])
        denoiser = _steadied(maker.denoiser(request), self.steady)
        for state in take(maker, request, given, frames=self.frames, number=0, denoiser=denoiser):
            yield Part(state.step, state.steps)
        pictures = torch.cat(list(maker.decode(state.clean[0], request)))
        yield Part(state.steps, state.steps, torch.cat([first, pictures[1:]]))


@dataclass(frozen=True)
class Span:
    """Pictures `first` to `last` of the film that is made, both included."""

    first: int
    last: int

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


class Rework(Task, ABC):
    """A rough film is made right, span by span; neighbours share a picture.

    strength: how much may become of another, in (0, 1]: the noise level at which sampling begins.

        made = agree(rough + decode(sampled) - decode(encode(rough)))

    What the autoencoder loses is in both decodings, so where nothing is changed the rough film stays as it
    was.
    """

    strength: float = Field(gt=0, le=1)

    def request(self, maker: "Filmmaker", prompt: str, **settings: Any) -> Request:
        return super().request(maker, prompt, **{"guidance": 1.0} | settings)

    @abstractmethod
    def rough(self, film: Video, span: Span, request: Request) -> Pictures:
        """The span as it can be had without a model."""

    @abstractmethod
    def agree(self, pictures: Float[Tensor, "f h w 3"], film: Video, *, span: Span) -> Pictures:
        """The pictures, levels from 0 to 255, with what is known of the span put right."""

    def opening(self, rough: Pictures, last: Picture | None) -> Picture | None:
        """The span's first picture if it is known; `last` is the last that was made."""
        return last

    def spans(self, request: Request, window: int) -> list[Span]:
        """The film in spans of up to a window."""
        length = max(self._length(window), 1)
        starts = range(0, max(request.frames - 1, 1), length)
        return [Span(start, min(start + length, request.frames - 1)) for start in starts]

    def parts(self, maker: Maker, films: Sequence[Video], request: Request) -> Iterator[Part]:
        [film] = films
        spans, last = self.spans(request, maker.facts.frames), None
        denoiser = self.denoiser(maker, request)
        for number, span in enumerate(spans):
            shot = self.shot(maker, film, span, request)
            given = shot.given(last)
            for state in take(
                maker, request, given, frames=span.frames, number=number,
                denoiser=shot.denoiser(denoiser, last),
            ):  # fmt: skip
                yield Part(number * state.steps + state.step, len(spans) * state.steps)
            made = shot.finished(given, state.clean[0])
            yield Part((number + 1) * state.steps, len(spans) * state.steps, made[min(number, 1) :])
            last = made[-1:]

    def shot(self, maker: Maker, film: Video, span: Span, request: Request) -> "Shot":
        """A span, ready to be made."""
        return _Agreed(self, maker, film, span, request)

    def denoiser(self, maker: Maker, request: Request) -> Denoiser:
        """Guesses pieces of the film."""
        return maker.denoiser(request)

    def _length(self, window: int) -> int:
        return window - 1


class Shot(ABC):
    """One span being made. `last` is the picture that the span before ended with, None at the beginning."""

    @abstractmethod
    def given(self, last: Picture | None) -> Given:
        """What is known before."""

    @abstractmethod
    def denoiser(self, denoiser: Denoiser, last: Picture | None) -> Denoiser:
        """The denoiser, led by what its pictures must show."""

    @abstractmethod
    def finished(self, given: Given, sampled: Latents) -> Pictures:
        """The span's pictures, of what was given and of the latents that were sampled."""


@dataclass(frozen=True, eq=False)
class _Agreed(Shot):
    """A span that begins from a rough one, and whose every guess is made to agree."""

    task: Rework
    maker: Maker
    film: Video
    span: Span
    request: Request

    @cached_property
    def rough(self) -> Pictures:
        return self.task.rough(self.film, self.span, self.request)

    def given(self, last: Picture | None) -> Given:
        known = self.task.opening(self.rough, last)
        rough = self.maker.encode(self.rough)[None]
        if known is None:
            return Given(rough=rough, strength=self.task.strength)
        frames = self.maker.encode(known)[None]
        return Given(places=[0], frames=frames, rough=rough, strength=self.task.strength)

    def denoiser(self, denoiser: Denoiser, last: Picture | None) -> Denoiser:
        return Agreeing(denoiser, self.maker.encode, self.decoded, lambda seen: self.agree(seen.float()))

    def decoded(self, latents: Latents) -> Pictures:
        shot = self.request.model_copy(update={"frames": self.span.frames})
        return torch.cat(list(self.maker.decode(latents, shot)))

    def agree(self, pictures: Float[Tensor, "f h w 3"]) -> Pictures:
        return self.task.agree(pictures, self.film, span=self.span)

    def finished(self, given: Given, sampled: Latents) -> Pictures:
        assert given.rough is not None
        change = self.decoded(sampled).float() - self.decoded(given.rough[0]).float()
        return self.agree(self.rough.float() + change)


class Interpolate(Rework):
    """A film of T pictures becomes one of factor (T - 1) + 1, in the same time.

    Roughly, the new pictures are those around them, faded into each other. The film's own pictures are put
    back in their places in every guess, and in what comes out, where they are what they were, to the bit.
    """

    kind: Literal["interpolate"] = "interpolate"
    factor: int = Field(default=2, ge=2)
    strength: float = Field(default=0.3, gt=0, le=1)

    @classmethod
    def of(cls, task: Task, maker: Any, films: Sequence[Video]) -> Self:
        made = super().of(task, maker, films)
        if made.factor not in (2, 4):
            raise Refusal(f"factor is {made.factor}; this model puts frames between others by 2 or 4")
        return made

    @property
    def ending(self) -> str:
        return f"{self.factor}x-frames"

    def shape(self, films: Sequence[Video]) -> dict[str, Any]:
        [film] = films
        if len(film) < 2:
            raise Refusal("the film is one picture: nothing is between; mutoscope animate moves a picture")
        return {
            "frames": self.factor * (len(film) - 1) + 1,
            "size": film.size,
            "fps": film.fps * self.factor,
        }

    def said(self, names: Sequence[str]) -> str:
        return f"{names[0]} with {self.factor} times the frames"

    def rough(self, film: Video, span: Span, request: Request) -> Pictures:
        known = self.known(film, span).float()
        share = torch.arange(self.factor) / self.factor
        faded = torch.lerp(known[:-1, None], known[1:, None], rearrange(share, "n -> n 1 1 1"))
        return torch.cat([rearrange(faded, "f n h w c -> (f n) h w c"), known[-1:]]).round().to(torch.uint8)

    def agree(self, pictures: Float[Tensor, "f h w 3"], film: Video, *, span: Span) -> Pictures:
        pictures = levels(pictures)
        pictures[:: self.factor] = self.known(film, span)
        return pictures

    def opening(self, rough: Pictures, last: Picture | None) -> Picture | None:
        return rough[:1]

    def _length(self, window: int) -> int:
        return max((window - 1) // self.factor, 1) * self.factor

    def known(self, film: Video, span: Span) -> Pictures:
        """The film's own pictures of a span."""
        return film.frames[span.first // self.factor : span.last // self.factor + 1]


def without(name: str, task: Task) -> dict[str, Any]:
    """What was said of a task. Raises Refusal if this setting was: the model has no place for it."""
    said = task.model_dump(exclude_unset=True)
    if name in said:
        raise Refusal(f"{name} is {said[name]}; this model makes what is new from noise alone; leave it out")
    return said


def later(parts: Iterator[Pictures], shown: int) -> Iterator[Pictures]:
    """Pictures that come in parts, without the first `shown`."""
    for pictures in parts:
        if len(pictures) > shown:
            yield pictures[shown:]
        shown = max(shown - len(pictures), 0)


def levels(pictures: Float[Tensor, "f h w 3"]) -> Pictures:
    """Numbers as 8-bit levels."""
    return pictures.clamp(0, 255).round().to(torch.uint8)


def _steadied(denoiser: Denoiser, level: float) -> Denoiser:
    return Stabilised(denoiser, level) if level else denoiser
