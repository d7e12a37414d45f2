"""Coarse films of pixels become finer ones, and what is known of them stays."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import reduce

from mutoscope.checkpoints.unet_folder import StageFacts, UNetModel
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.cascade import Between, Inserted, Sharpened, SpatialStage, TemporalStage
from mutoscope.pipelines.revision import Work, revise
from mutoscope.pipelines.sheets import stage_sheet
from mutoscope.pipelines.tasks import Animate, Extend, Interpolate
from mutoscope.pipelines.upscale import Upscale
from mutoscope.pipelines.ways import as_done_by
from mutoscope.video import Refusal, Video
from tiny import tiny_unet_model

QUICK: dict[str, Any] = {"prompt": "a man walking in the rain", "steps": 3}


def coarse(*, frames: int = 4, side: int = 8, seed: int = 0) -> Video:
    generator = torch.Generator().manual_seed(seed)
    return Video(torch.randint(60, 200, (frames, side, side, 3), generator=generator, dtype=torch.uint8), 6.0)


def pipeline_of(*, known: bool = False) -> Pipeline:
    return Pipeline(tiny_unet_model(known=known), precision="float32", device="cpu")


@pytest.mark.parametrize("known", [True, False], ids=["told what is known", "reconstruction guidance"])
def test_frames_come_between_and_known_ones_stay(known: bool):
    """Thirteen frames of a model that sees eight: two spans of five, and one."""
    film, pipeline = coarse(frames=4), pipeline_of(known=known)
    made = revise(pipeline, Interpolate(factor=4), films=film, **QUICK)
    assert (len(made), made.fps, made.size) == (13, 24, (8, 8))
    assert torch.equal(made.frames[::4], film.frames)
    other = revise(pipeline, Interpolate(factor=4), films=coarse(frames=4, seed=1), **QUICK)
    assert (made.frames[1].int() - other.frames[1].int()).abs().float().mean() > 0.5


def shrunk(film: Video) -> torch.Tensor:
    return reduce(film.tensor(), "c f (h y) (w x) -> c f h w", "mean", y=2, x=2)


def test_a_sharpened_film_is_larger_and_nearer_to_the_small_one_than_a_film_of_words():
    film, pipeline = coarse(), pipeline_of()
    near = revise(pipeline, Upscale(size=(16, 16)), films=film, **QUICK | {"steps": 8})
    assert near.size == (16, 16) and len(near) == 4
    far = pipeline.generate(**QUICK | {"steps": 8}, frames=4, guidance=1.0)
    errors = [float((shrunk(made) - film.tensor()).square().mean()) for made in (near, far)]
    assert errors[0] < 0.8 * errors[1]


def test_a_long_film_is_sharpened_span_by_span():
    """Of ten frames the last three open with the eighth, which the first span made."""
    pipeline, film = pipeline_of(), coarse(frames=10)
    made = revise(pipeline, Upscale(size=(16, 16)), films=film, **QUICK)
    assert len(made) == 10
    first = revise(pipeline, Upscale(size=(16, 16)), films=film[:8], **QUICK)
    assert torch.equal(made.frames[:8], first.frames)
    changed = film.frames.clone()
    changed[7] = 255 - changed[7]
    other = revise(pipeline, Upscale(size=(16, 16)), films=Video(changed, 6.0), **QUICK)
    assert not torch.equal(made.frames[9], other.frames[9])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Interpolate(factor=8), r"factor is 8; this model sees 8 frames, .* up to 7 will do"),
        (Interpolate(strength=0.5), "strength is 0.5"),
        (Upscale(strength=0.5, size=(16, 16)), "strength is 0.5"),
        (Upscale(size=(16, 24)), r"2, 3, \.\.\. times as large, in multiples of 2 pixels"),
        (Upscale(), "say which with --size, like 16x16"),
        (Upscale(size=(8, 8)), "a larger one can be made"),
    ],
    ids=str,
)
def test_what_a_model_of_films_cannot_do_is_refused(task: Any, said: str):
    with pytest.raises(Refusal, match=said):
        revise(pipeline_of(), task, films=coarse(), **QUICK)


def test_the_way_of_a_task_is_that_of_the_model():
    pipeline, films = pipeline_of(), [coarse()]
    assert type(as_done_by(Interpolate(), pipeline, films)) is Between
    assert type(as_done_by(Upscale(size=(16, 16)), pipeline, films)) is Sharpened
    assert type(as_done_by(Extend(frames=2), pipeline, films)) is Extend


def stage_model(**facts: Any) -> UNetModel:
    model = tiny_unet_model(known=True, words=facts.pop("words", True))
    return replace(model, stage=StageFacts(**facts))


@pytest.fixture(scope="module")
def stage() -> SpatialStage:
    return SpatialStage(stage_model(), precision="float32", device="cpu")


def test_a_stage_enlarges_any_film_and_sees_it(stage: SpatialStage):
    film, other = coarse(frames=11), coarse(frames=11, seed=1)
    made = revise(stage, Upscale(), films=film, **QUICK)
    assert (len(made), made.size, made.fps) == (11, (16, 16), 6.0)
    assert torch.equal(made.frames, revise(stage, Upscale(size=(16, 16)), films=film, **QUICK).frames)
    assert not torch.equal(made.frames, revise(stage, Upscale(), films=other, **QUICK).frames)
    noisier = SpatialStage(stage_model(noise=0.5), precision="float32", device="cpu")
    assert not torch.equal(made.frames, revise(noisier, Upscale(), films=film, **QUICK).frames)
    said = revise(stage, Upscale(), films=film, **QUICK | {"prompt": "a child at night"})
    assert not torch.equal(made.frames, said.frames)


def test_a_stage_that_reads_no_words_needs_none():
    silent = SpatialStage(stage_model(words=False), precision="float32", device="cpu")
    work = Work.of(silent, Upscale(), [coarse(frames=2)], steps=1)
    assert work.made(silent).size == (16, 16)
    told = Work.of(silent, Upscale(), [coarse(frames=2)], steps=1, prompt="a man")
    said = [any("reads no words" in remark for remark in one.remarks(silent)) for one in (work, told)]
    assert said == [False, True], "of words that were given"
    with pytest.raises(Refusal, match="guidance is 2"):
        Work.of(silent, Upscale(), [coarse(frames=2)], guidance=2.0)


def test_a_stage_does_nothing_else(stage: SpatialStage):
    for task in (Extend(frames=1), Animate(frames=2, fps=2), Interpolate()):
        with pytest.raises(Refusal, match="makes films larger, and does nothing else"):
            revise(stage, task, films=coarse(), **QUICK)
    for call in (stage.request, stage.steps):
        with pytest.raises(Refusal, match="mutoscope upscale"):
            call("a man")
    with pytest.raises(Refusal, match=r"size is 24x24, .* 2 times as wide and high: 16x16"):
        revise(stage, Upscale(size=(24, 24)), films=coarse(), **QUICK)
    with pytest.raises(Refusal, match="is no stage"):
        SpatialStage(tiny_unet_model())
    with pytest.raises(Refusal, match="makes films larger, and does nothing else"):
        TemporalStage(stage_model())


def test_a_stage_needs_channels_for_what_it_is_shown():
    with pytest.raises(Refusal, match="takes 3 channels; a stage, which sees a coarse film, takes 7"):
        replace(tiny_unet_model(), stage=StageFacts())


@pytest.fixture(scope="module")
def between() -> TemporalStage:
    return TemporalStage(stage_model(kind="between", factor=4), precision="float32", device="cpu")


def test_a_stage_puts_frames_between_those_of_any_film_and_sees_them(between: TemporalStage):
    film, other = coarse(frames=4), coarse(frames=4, seed=1)
    made = revise(between, Interpolate(factor=4), films=film, **QUICK)
    assert (len(made), made.fps, made.size) == (13, 24, (8, 8))
    assert torch.equal(made.frames[::4], film.frames)
    assert type(as_done_by(Interpolate(), between, [film])) is Inserted
    work = Work.of(between, Interpolate(), [film], **QUICK)
    assert (work.request.guidance, torch.equal(work.made(between).frames, made.frames)) == (1.0, True)
    assert not torch.equal(made.frames, revise(between, Interpolate(), films=other, **QUICK).frames)


def test_such_a_stage_does_nothing_else(between: TemporalStage):
    for task in (Extend(frames=1), Animate(frames=2, fps=2), Upscale(size=(16, 16))):
        with pytest.raises(Refusal, match="puts frames between those of films, and does nothing else"):
            revise(between, task, films=coarse(), **QUICK)
    for call in (between.request, between.steps):
        with pytest.raises(Refusal, match="mutoscope interpolate"):
            call("a man")
    with pytest.raises(Refusal, match=r"factor is 2; .* by 4, or by 16 in two turns"):
        revise(between, Interpolate(factor=2), films=coarse(), **QUICK)
    with pytest.raises(Refusal, match="puts frames between those of films"):
        SpatialStage(stage_model(kind="between"))


@pytest.mark.parametrize("kind", ["larger", "between"])
def test_a_sheet_shows_what_a_stage_makes(tmp_path, kind: str):
    from mutoscope.data.loader import WorldSource
    from mutoscope.data.world import SMALL

    source = WorldSource(SMALL, frames=3, size=(32, 16), fps=6.0, seed=1)
    model = stage_model(kind=kind)
    model = replace(model, facts=model.facts.model_copy(update={"steps": 1}))
    path = stage_sheet(model, source, path=tmp_path / "sheet.png", count=1)
    assert path.stat().st_size > 0
