"""Whoever makes films of requests, whatever the networks: `steps` samples, `decode` shows, and from these two
comes the rest, films with notes that say how they were made.

    for step in maker.steps(request):
        show(step.preview)
    for pictures in maker.decode(step.latents[0], request):
        writer.write(pictures)
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.checkpoints.folder import ModelFacts
from mutoscope.models.words import Words
from mutoscope.pipelines.provenance import Provenance, machine, notes_of
from mutoscope.pipelines.request import Request
from mutoscope.video import Refusal, Video

if TYPE_CHECKING:
    from mutoscope.pipelines.generate import Step

__all__ = ["Filmmaker"]

UNREAD = "a film"


class Filmmaker(ABC):
    """facts: of the model. weights: its fingerprint. reads: the words it knows, None if it reads none. weak:
    the fingerprint of a weaker model that guides it, if one does."""

    facts: ModelFacts
    weights: str
    device: torch.device
    dtype: torch.dtype
    reads: Words | None
    weak: str = ""

    @abstractmethod
    def request(self, prompt: str, **settings: Any) -> Request:
        """A complete request: settings are those of `Request` and `Method`, or `seconds`; what is left out is
        the model's own."""

    @abstractmethod
    def steps(self, *requests: Request) -> "Iterator[Step]":
        """Samples the films of one or more requests, yielding a `Step` after every step."""

    @abstractmethod
    def decode(
        self, latents: Float[Tensor, "c f h w"], request: Request
    ) -> Iterator[UInt8[Tensor, "f h w 3"]]:
        """The pictures of one film, a few at a time."""

    def said(self, prompt: str) -> str:
        """The words of a request: the prompt, or some where nothing is said and nobody would read it."""
        return prompt if prompt or self.reads is not None else UNREAD

    def generate(self, prompt: str = "", **settings: Any) -> Video:
        """The film of a prompt, with notes on how it was made.

        Args:
            prompt: what to show; only a model that reads no words may be told nothing.
            settings: seed, frames or seconds, size (width, height), fps, steps, guidance, sampler, negative,
                plan; and those of `Method`: noise, window, guidance_kind, ...

        Raises:
            Refusal: a setting out of range, or a size that the model cannot do.
        """
        [video] = self.films([self.request(self.said(prompt), **settings)])
        return video

    def generate_many(
        self, prompt: str = "", *, count: int, seed: int = 0, **settings: Any
    ) -> Iterator[Video]:
        """`count` films of a prompt, one after the other: film i is what `generate` makes with seed + i."""
        words = self.said(prompt)
        requests = [self.request(words, seed=seed + i, **settings) for i in range(count)]
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
        if made.request.method.weak != self.weak:
            raise Refusal(
                f"{name} was guided by {made.request.method.weak or 'no weaker model'}, and here there is "
                f"{self.weak or 'none'}; name the folder of the one it had with --weak"
            )

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The sizes of films that the model was made for."""
        return [self.facts.size]

    @property
    def machine(self) -> dict[str, str]:
        """What may change the last bits of a film."""
        return machine(self.device)

    def remarks(self, request: Request) -> list[str]:
        """What a user should know before it is made: words the model never saw, and words that do not fit."""
        if (words := self.reads) is None:
            unread = "this model reads no words: the prompt changes nothing"
            return [] if request.prompt == UNREAD else [unread]
        tokenizer, said = words.tokenizer, []
        for text in (request.prompt, request.negative):
            if unknown := tokenizer.unknown_words(text):
                strange = ", ".join(repr(word) for word in unknown)
                said.append(f"this model does not know {strange}; it knows: {_some(tokenizer.words)}")
            tokens = tokenizer.encode([text], at_most=10**6).ids.shape[1]
            if tokens > words.padded_to:
                said.append(f"the words are cut: {tokens} tokens, and this model reads {words.padded_to}")
        return said


def _some(words: Sequence[str], *, most: int = 150) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
