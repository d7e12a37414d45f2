"""Coarse films become finer ones, and what is known of them stays."""

from typing import Any

import pytest
import torch
from einops import reduce

from mutoscope.checkpoints.unet_folder import UNetModel
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.cascade import Stage, between, sharpened
from mutoscope.video import Refusal, Video
from tiny import tiny_unet_model

WORDS = "a man walking in the rain"
QUICK: dict[str, Any] = {"steps": 3, "guidance": 1.0}


def coarse(*, frames: int = 4, side: int = 8, seed: int = 0) -> Video:
    generator = torch.Generator().manual_seed(seed)
    return Video(torch.randint(60, 200, (frames, side, side, 3), generator=generator, dtype=torch.uint8), 6.0)


def pipeline_of(*, known: bool = False) -> Pipeline:
    return Pipeline(tiny_unet_model(known=known), precision="float32", device="cpu")


@pytest.mark.parametrize("known", [True, False], ids=["told what is known", "reconstruction guidance"])
def test_frames_come_between_and_known_ones_stay(known: bool):
    film = coarse(frames=4)
    made = between(pipeline_of(known=known), film, prompt=WORDS, factor=4, **QUICK)
    assert (len(made), made.fps, made.size) == (13, 24, (8, 8))
    assert torch.equal(made.frames[::4], film.frames)
    other = between(pipeline_of(known=known), coarse(frames=4, seed=1), prompt=WORDS, factor=4, **QUICK)
    assert (made.frames[1].int() - other.frames[1].int()).abs().float().mean() > 0.5


def test_nothing_is_between_one_frame_or_for_a_model_that_sees_too_few():
    with pytest.raises(Refusal, match="there must be two frames"):
        between(pipeline_of(), coarse(frames=1), prompt=WORDS)
    with pytest.raises(Refusal, match="a model that sees 9"):
        between(pipeline_of(), coarse(), prompt=WORDS, factor=8)


def shrunk(film: Video) -> torch.Tensor:
    return reduce(film.tensor(), "c f (h y) (w x) -> c f h w", "mean", y=2, x=2)


def test_a_sharpened_film_is_larger_and_nearer_to_the_small_one_than_without_guidance():
    film, pipeline = coarse(), pipeline_of()
    near, far = (
        sharpened(pipeline, film, prompt=WORDS, factor=2, weight=weight, steps=8, guidance=1.0)
        for weight in (None, 0.0)
    )
    assert near.size == far.size == (16, 16) and len(near) == 4
    errors = [float((shrunk(made) - film.tensor()).square().mean()) for made in (near, far)]
    assert errors[0] < 0.8 * errors[1]


def small_model() -> UNetModel:
    return tiny_unet_model(known=True)


def test_a_stage_enlarges_any_film_and_sees_it():
    stage = Stage(small_model(), factor=2, precision="float32")
    film, other = coarse(frames=11), coarse(frames=11, seed=1)
    made = stage(film, prompt=WORDS, **QUICK)
    assert (len(made), made.size, made.fps) == (11, (16, 16), 6.0)
    assert torch.equal(made.frames, stage(film, prompt=WORDS, **QUICK).frames)
    assert not torch.equal(made.frames, stage(other, prompt=WORDS, **QUICK).frames)
    noisier = Stage(small_model(), 2, 0.5, "float32")(film, prompt=WORDS, **QUICK)
    assert not torch.equal(made.frames, noisier.frames)
