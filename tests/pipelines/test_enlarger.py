"""Chunks that fade into each other, and pictures that are known while their neighbours are made."""

from dataclasses import replace

import pytest
import torch

from mutoscope.diffusion.process import Process
from mutoscope.pipelines.enlarger import Enlarger, Kept, faded, padded, pieces
from mutoscope.pipelines.request import asked
from mutoscope.pipelines.rung import Rung, Telling
from mutoscope.video import Video
from tiny import FACTS
from tiny_hierarchy import tiny_hierarchy

TELLING = Telling(asked("a man", FACTS, seed=3), steps=2)


@pytest.fixture(scope="module")
def enlarger() -> Enlarger:
    rung = Rung(tiny_hierarchy().upscaler, None, Process(), dtype=torch.float32, device=torch.device("cpu"))
    return Enlarger(rung, 2, 0.1, chunk=4, overlap=2, steps=2)


def pixels(frames: int, side: int = 8, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, side, side, generator=generator) * 2 - 1


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 6, 11])
@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_chunks_of_one_film_fade_to_that_film(frames: int, overlap: int):
    film = torch.randn(1, 2, frames, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = torch.cat(list(faded(pieces(film, 4, overlap), overlap)), dim=2)
    torch.testing.assert_close(made, film, rtol=0, atol=1e-15)


@pytest.mark.parametrize("frames", [1, 3, 9])
def test_a_film_of_any_length_and_size_gets_larger(enlarger: Enlarger, frames: int):
    small = pixels(frames)[..., :7, :5]
    chunks = list(enlarger.film(small, TELLING))
    assert torch.cat(chunks, dim=2).shape == (1, 3, frames, 14, 10)
    assert max(chunk.shape[2] for chunk in chunks) <= enlarger.chunk


def test_it_sees_the_small_film_and_how_noisy_that_is(enlarger: Enlarger):
    usual = enlarger(pixels(3), TELLING, first=0)
    assert torch.equal(usual, enlarger(pixels(3), TELLING, first=0))
    noisier = replace(enlarger, noise=0.4)
    for other in (enlarger(pixels(3, seed=1), TELLING, first=0), noisier(pixels(3), TELLING, first=0)):
        assert not torch.allclose(usual, other, atol=1e-3)


def test_pictures_that_are_known_at_full_size_stand_and_change_their_neighbours(enlarger: Enlarger):
    own = Video.from_tensor(pixels(2, 16, seed=2)[0], fps=1.0).frames
    kept = Kept(own, every=2)
    free, held = (enlarger(pixels(4), TELLING, first=0, kept=k) for k in (None, kept))
    torch.testing.assert_close(held[:, :, ::2], kept.pixels(0, 4), rtol=0, atol=1e-3)
    assert (held - free)[:, :, 1::2].abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("first", "count", "places", "numbers"),
    [(0, 5, [0, 4], [0, 1]), (3, 4, [1], [1]), (5, 3, [], []), (8, 9, [0], [2]), (9, 4, [], [])],
)
def test_known_pictures_have_their_places(first: int, count: int, places: list[int], numbers: list[int]):
    kept = Kept(torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 2, 2, 3), every=4)
    assert list(kept.places(first, count)) == places
    assert kept.within(first, count)[:, 0, 0, 0].tolist() == numbers
    film = torch.full((count, 2, 2, 3), 9, dtype=torch.uint8)
    placed = kept.placed(film, first)[:, 0, 0, 0]
    assert placed[places].tolist() == numbers and (placed == 9).sum() == count - len(places)


def test_sides_are_filled_to_whole_steps_by_their_last_pixels():
    film = pixels(1, 5)
    whole = padded(film, 4)
    assert whole.shape[3:] == (8, 8) and torch.equal(whole[..., :5, :5], film)
    assert torch.equal(whole[..., 7, :5], film[..., 4, :])
