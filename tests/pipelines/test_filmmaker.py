"""What every maker of films has, whatever its networks: here one that paints pictures with the seed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mutoscope.checkpoints.folder import ModelFacts
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.words import Words
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.generate import Step
from mutoscope.pipelines.provenance import provenance_of
from mutoscope.pipelines.request import Request, asked
from mutoscope.video import Refusal
from tiny import CAPTIONS


class Painter(Filmmaker):
    """Every pixel of a film is its seed."""

    def __init__(self, *, words: Words | None = None) -> None:
        self.facts = ModelFacts(name="painter", fps=4, size=(16, 8), frames=3, steps=2)
        self.weights, self.reads = "sha256:paint", words
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def request(self, prompt: str, **settings: Any) -> Request:
        return asked(prompt, self.facts, **settings)

    def steps(self, *requests: Request) -> Iterator[Step]:
        films = torch.tensor([float(request.seed) for request in requests]).view(-1, 1, 1, 1, 1)
        yield Step(1, 1, films, self, requests[0])

    def decode(self, latents: Tensor, request: Request) -> Iterator[Tensor]:
        width, height = request.size
        for _ in range(request.frames):
            yield torch.full((1, height, width, 3), int(latents.max()), dtype=torch.uint8)


def words(padded_to: int) -> Words:
    return Words(Tokenizer.train(CAPTIONS, 280), torch.nn.Module(), padded_to=padded_to)  # type: ignore[arg-type]


def test_a_film_is_decoded_from_the_last_step_and_carries_notes():
    film = Painter().generate("a man", seed=7)
    assert (len(film), film.size, film.fps) == (3, (16, 8), 4) and bool((film.frames == 7).all())
    made = provenance_of(film.notes, name="film")
    assert (made.request.seed, made.model, made.weights) == (7, "painter", "sha256:paint")


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_films_come_in_the_order_asked_for_however_many_together(batch: int):
    maker = Painter()
    requests = [maker.request("a man", seed=seed) for seed in (3, 1, 2)]
    assert [int(film.frames.max()) for film in maker.films(requests, batch=batch)] == [3, 1, 2]
    assert [int(film.frames.max()) for film in maker.generate_many("a man", count=2, seed=5)] == [5, 6]


def test_what_other_weights_made_is_not_made_again():
    maker = Painter()
    made = provenance_of(maker.generate("a man").notes, name="film")
    maker.check_made(made, name="film")
    with pytest.raises(Refusal, match="those of painter are sha256:paint"):
        maker.check_made(replace(made, weights="sha256:other"), name="film")
    maker.weak = "sha256:weak"
    with pytest.raises(Refusal, match="guided by no weaker model, and here there is sha256:weak"):
        maker.check_made(made, name="film")


def test_words_that_are_unknown_or_too_many_are_said():
    maker = Painter(words=words(4))
    unknown, cut = maker.remarks(maker.request("a zeppelin in the rain"))
    assert "'zeppelin'" in unknown and "this model reads 4" in cut
    fine = Painter(words=words(24))
    assert not fine.remarks(fine.request("a man walking in the rain"))
    assert "reads no words" in Painter().remarks(maker.request("a man"))[0]


def test_a_model_that_reads_no_words_needs_none():
    silent, reads = Painter(), Painter(words=words(4))
    film = silent.generate()
    assert film.notes["prompt"] == "a film" and len(list(silent.generate_many(count=2))) == 2
    assert not silent.remarks(silent.request(silent.said("")))
    for ask in (reads.generate, lambda: list(reads.generate_many(count=2))):
        with pytest.raises(Refusal, match="the prompt is empty; say what to show"):
            ask()
