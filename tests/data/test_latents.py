"""Encoded clips: whole shards or none, one encoder, and captions that are told anew."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutoscope.data import latents
from mutoscope.data.latents import LatentCache, encode_all, on_latent_grid
from mutoscope.data.loader import Batch, WorldSource
from mutoscope.data.world import SMALL
from mutoscope.video import Refusal

SOURCE = WorldSource(SMALL, frames=5, size=(16, 16), seed=2)
FACTS = {"encoder": "0123", "count": 10}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latents, "SHARD", 4)


def encode(video: Tensor) -> Tensor:
    """Two frames of four channels at an eighth of the size: a stand-in for an autoencoder."""
    frames = torch.cat([video[:, :, :1], video[:, :, 1:].mean(2, keepdim=True)], 2)
    small = F.avg_pool3d(frames, (1, 8, 8))
    return torch.cat([small, small[:, :1]], 1)


def made(folder: Path, *, source=SOURCE, count: int = 10, facts=FACTS, encoder=encode) -> list[int]:
    return list(encode_all(source, folder, encode=encoder, count=count, facts=facts, batch=2))


def same(one: LatentCache, other: LatentCache) -> bool:
    return (
        torch.equal(one.clean, other.clean)
        and torch.equal(one.figure, other.figure)
        and one.told == other.told
    )


def test_a_cache_holds_what_the_encoder_made_of_each_clip(tmp_path: Path):
    assert made(tmp_path) == [4, 8, 10]
    cache = LatentCache.load(tmp_path, facts=FACTS)
    batch = SOURCE.batch(0, 10)
    assert len(cache) == 10 and cache.told == batch.scenes
    assert cache.clean.shape == (10, 4, 2, 2, 2) and cache.clean.dtype == torch.bfloat16
    assert torch.equal(cache.clean, encode(batch.video).to(torch.bfloat16))
    assert torch.equal(cache.figure, on_latent_grid(batch.figure, encode(batch.video)))


@pytest.mark.parametrize("shards", [1, 2])
def test_interrupted_and_resumed_is_the_same_as_uninterrupted(tmp_path: Path, shards: int):
    made(tmp_path / "whole")
    run = encode_all(SOURCE, tmp_path / "cut", encode=encode, count=10, facts=FACTS, batch=2)
    for _ in range(shards):
        next(run)
    run.close()
    kept = sorted((tmp_path / "cut").glob("*.safetensors"))
    stamps = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == shards

    made(tmp_path / "cut")
    assert [path.stat().st_mtime_ns for path in kept] == stamps  # what was there is not encoded again
    assert same(LatentCache.load(tmp_path / "cut"), LatentCache.load(tmp_path / "whole"))


def test_an_encoder_that_fails_within_a_shard_leaves_no_half_of_it(tmp_path: Path):
    calls = []

    def failing(video: Tensor) -> Tensor:
        calls.append(len(video))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(video)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, encoder=failing)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["shard-00000.safetensors"]
    made(tmp_path)
    made(tmp_path / "whole")
    assert same(LatentCache.load(tmp_path), LatentCache.load(tmp_path / "whole"))
    assert not list(tmp_path.glob("*.partial"))


def test_a_finished_cache_is_not_encoded_again(tmp_path: Path):
    made(tmp_path)

    def never(video: Tensor) -> Tensor:
        raise AssertionError("encoded again")

    assert made(tmp_path, encoder=never) == [4, 8, 10]


def test_another_encoder_is_refused_by_name(tmp_path: Path):
    made(tmp_path)
    other = FACTS | {"encoder": "4567"}
    with pytest.raises(Refusal, match=r"encoder = '0123', this run needs '4567'"):
        made(tmp_path, facts=other)
    with pytest.raises(Refusal, match="encoder"):
        LatentCache.load(tmp_path, facts=other)
    with pytest.raises(Refusal, match=r"data = None, this run needs 'films'"):
        LatentCache.load(tmp_path, facts=FACTS | {"data": "films"})
    assert len(LatentCache.load(tmp_path)) == 10  # the refusals changed nothing


def test_facts_are_compared_as_they_are_written(tmp_path: Path):
    facts = FACTS | {"size": (16, 16)}
    made(tmp_path, facts=facts)
    assert len(LatentCache.load(tmp_path, facts=facts)) == 10


def test_a_folder_without_a_cache_is_refused(tmp_path: Path):
    with pytest.raises(Refusal, match="holds no encoded clips"):
        LatentCache.load(tmp_path)


def test_the_figure_on_the_latent_grid_is_its_share_of_each_cell():
    figure = torch.zeros(1, 5, 16, 16)
    figure[:, 0, :8, :8] = 1  # first frame: the whole upper left cell
    figure[:, 1:3, 8:, 8:12] = 1  # half of the lower right cell, in half of the later frames
    found = on_latent_grid(figure, torch.zeros(1, 4, 2, 2, 2))
    assert found.dtype == torch.bfloat16 and found.shape == (1, 2, 2, 2)
    assert found[0].tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 0.25]]]


def test_the_figure_of_an_image_is_that_of_the_first_frame():
    figure = torch.rand(2, 1, 16, 24)
    found = on_latent_grid(figure, torch.zeros(2, 4, 1, 2, 3))
    assert torch.allclose(found[:, 0].float(), F.avg_pool2d(figure, 8)[:, 0], atol=4e-3)


def test_captions_of_scenes_are_told_anew_at_every_view(tmp_path: Path):
    made(tmp_path)
    cache = LatentCache.load(tmp_path)
    random = np.random.default_rng(0)
    texts = [cache.caption(3, random) for _ in range(20)]
    assert len(set(texts)) > 10
    assert all(cache.told[3].subject in text for text in texts)
    assert texts[0] == cache.caption(3, np.random.default_rng(0))


class Real:
    """A source of clips that came with one text each."""

    def batch(self, step: int, count: int) -> Batch:
        drawn = SOURCE.batch(step, count)
        return replace(
            drawn, scenes=[], captions=[f"clip {step * count + k}\nüber" for k in range(count)]
        )


def test_real_clips_keep_the_text_they_came_with(tmp_path: Path):
    made(tmp_path, source=Real())
    cache = LatentCache.load(tmp_path)
    assert cache.told == [f"clip {k}\nüber" for k in range(10)]
    assert cache.caption(7, np.random.default_rng(0)) == "clip 7\nüber"


def test_a_cache_moves_and_fits_on_the_processor(tmp_path: Path):
    made(tmp_path)
    cache = LatentCache.load(tmp_path)
    assert cache.fits("cpu") and same(cache.to("cpu"), cache)
    assert json.loads((tmp_path / "facts.json").read_text()) == FACTS
