"""Films out of films by a hierarchy of U-Nets: every task enters where a film of words passes, too.

    Continued   the last pictures, at the rate of key frames, are the context of the next window of them
    Moved       a picture is a film of one picture, and goes on
    Filled      all pictures are key frames, and only what is between them is made
    Enlarged    pictures go to the upscaler, or to a stage of a cascade (`enlarger`)

A film comes in as small as the networks make it (the mean of every square of pixels, encoded), and what is
made of it is decoded and enlarged. There its own pictures are known at full size: they are held while their
neighbours are enlarged, and stand in the film as they were, to the bit.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch

from mutoscope.pipelines.enlarger import Enlarger, Kept
from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.request import Request, asked
from mutoscope.pipelines.rung import Telling
from mutoscope.pipelines.tasks import Animate, Extend, Interpolate, Part, Task, later, without
from mutoscope.pipelines.upscale import Upscale, times_larger
from mutoscope.video import Refusal, Video

if TYPE_CHECKING:
    from mutoscope.pipelines.filmmaker import Filmmaker

__all__ = ["Continued", "Enlarged", "Enlarging", "Filled", "Moved"]


class Continued(Extend):
    """A film goes on by key frames, and what is between them.

    context: pictures of the film; of these, one at every key frame's place is seen. steady: how noisy key
    frames are shown to those that follow.
    """

    @classmethod
    def of(cls, task: Task, maker: Hierarchy, films: Sequence[Video]) -> Self:
        _check_told(maker)
        [film] = films
        stride = maker.like(fps=film.fps, size=film.size).stride
        own: dict[str, Any] = {"steady": maker.chain.context_noise}
        own["context"] = 1 + (maker.chain.context - 1) * stride
        return cls(**task.model_dump() | own | task.model_dump(exclude_unset=True))

    def parts(self, maker: Hierarchy, films: Sequence[Video], request: Request) -> Iterator[Part]:
        [film] = films
        if not self.only_new:
            yield Part(0, 1, film.frames)
        if self.frames:
            yield from _going_on(maker, film[-self.context :], request, new=self.frames, noise=self.steady)


class Moved(Animate):
    """A picture goes on; `steady` is as for `Continued`."""

    @classmethod
    def of(cls, task: Task, maker: Hierarchy, films: Sequence[Video]) -> Self:
        _check_told(maker)
        if len(films) > 1:
            raise Refusal("this model makes key frames after others and knows no last one; leave --last out")
        own: dict[str, Any] = {"steady": maker.chain.context_noise}
        return cls(**task.model_dump() | own | task.model_dump(exclude_unset=True))

    def parts(self, maker: Hierarchy, films: Sequence[Video], request: Request) -> Iterator[Part]:
        picture = Video(films[0].frames[:1], self.fps)
        yield Part(0, 1, picture.frames)
        yield from _going_on(maker, picture, request, new=self.frames - 1, noise=self.steady)


class Filled(Interpolate):
    """Frames are put between those of a film, by as many rounds as the factor asks for."""

    @classmethod
    def of(cls, task: Task, maker: Hierarchy, films: Sequence[Video]) -> Self:
        every, allowed = maker.chain.every, [maker.chain.every**n for n in range(1, maker.rounds + 1)]
        if not allowed:
            raise Refusal("this model has no interpolation_unet/ that was trained; name another")
        own: dict[str, Any] = {"factor": every}
        made = cls(**own | without("strength", task))
        if made.factor not in allowed:
            able = " or ".join(map(str, allowed))
            raise Refusal(f"factor is {made.factor}; this model puts frames between others by {able}")
        return made

    def request(self, maker: "Filmmaker", prompt: str, **settings: Any) -> Request:
        assert isinstance(maker, Hierarchy)
        if settings.get("guidance", 1) != 1:
            raise Refusal(
                f"guidance is {settings['guidance']:g}; this model guides key frames alone, and here they "
                "are known; leave it out"
            )
        return super().request(maker, prompt, **{"steps": maker.chain.steps_between} | settings)

    def parts(self, maker: Hierarchy, films: Sequence[Video], request: Request) -> Iterator[Part]:
        [film] = films
        near = maker.like(fps=film.fps, size=film.size)
        rounds = [maker.chain.every**n for n in range(maker.rounds + 1)].index(self.factor)
        near = near.at(rounds=rounds, enlarger=near.enlarger, steps_between=request.steps)
        for step in near.sampled(request, known=near.encode(film.frames)[None]):
            yield Part(step.step, step.steps)
        for pictures in near.decode(step.latents[0], request, kept=Kept(film.frames, self.factor)):
            yield Part(step.steps, step.steps, pictures)


class Enlarging(Protocol):
    """A model with a network that makes films larger, or without."""

    enlarger: Enlarger | None


class Enlarged(Upscale):
    """Each chunk of frames is made larger, by the factor that the network was trained for."""

    @classmethod
    def of(cls, task: Task, maker: Enlarging, films: Sequence[Video]) -> Self:
        if maker.enlarger is None:
            raise Refusal("this model has no upscaler_unet/ to make films larger; name another")
        own: dict[str, Any] = {"size": times_larger(task, films, maker.enlarger.scale)}
        return cls(**without("strength", task) | own)

    def request(self, maker: "Filmmaker", prompt: str, **settings: Any) -> Request:
        enlarger = _enlarger(maker)
        if settings.get("guidance", 1) != 1 and enlarger.rung.words is None:
            raise Refusal(f"guidance is {settings['guidance']:g}; this network reads no words; leave it out")
        return asked(prompt, maker.facts, **{"guidance": 1.0, "steps": enlarger.steps} | settings)

    def parts(self, maker: Enlarging, films: Sequence[Video], request: Request) -> Iterator[Part]:
        [film], done = films, 0
        telling = Telling(request, request.steps, request.guidance)
        for pixels in _enlarger(maker).film(film.tensor()[None], telling):
            done += pixels.shape[2]
            yield Part(done, len(film), Video.from_tensor(pixels[0].float(), fps=film.fps).frames)


def _enlarger(maker: Any) -> Enlarger:
    assert maker.enlarger is not None
    return maker.enlarger


def _going_on(maker: Hierarchy, film: Video, request: Request, *, new: int, noise: float) -> Iterator[Part]:
    """`new` pictures after those of the film, of which one at every key frame's place is known."""
    near = maker.like(fps=request.fps, size=request.size)
    near = near.at(rounds=near.rounds, enlarger=near.enlarger, context_noise=noise)
    k = min(near.chain.context, 1 + (len(film) - 1) // near.stride)
    keys = near.encode(film.frames[[near.stride * (n - k + 1) - 1 for n in range(k)]])
    rest = request.model_copy(update={"frames": 1 + new})
    for step in near.sampled(rest, known=keys[None], before=k - 1):
        yield Part(step.step, step.steps)
    # Decoder and upscaler see the film's own last pictures too, so what is new does not begin from nothing.
    seen = film.frames[-max(1, near.chain.overlap) :]
    latents = torch.cat([near.encode(seen), step.latents[0, :, 1:]], dim=1)
    whole = request.model_copy(update={"frames": len(seen) + new})
    for pictures in later(near.decode(latents, whole, kept=Kept(seen)), len(seen)):
        yield Part(step.steps, step.steps, pictures)


def _check_told(maker: Hierarchy) -> None:
    if not maker.told:
        raise Refusal("this model makes key frames that know none before them; it cannot go on from any")
