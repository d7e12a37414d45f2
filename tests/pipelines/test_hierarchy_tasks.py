"""Films out of films by a hierarchy: lengths and sizes, what stays, what is seen, and plain refusals."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.revision import Work, revise
from mutoscope.pipelines.tasks import Animate, Extend, Interpolate
from mutoscope.pipelines.upscale import Upscale
from mutoscope.video import Refusal, Video
from tiny_hierarchy import CHAIN, tiny_hierarchy

QUICK: dict[str, Any] = {"prompt": "a man walking in the rain", "steps": 1}
SHORT = CHAIN.model_copy(update={"context_guidance": 1.0, "steps_between": 1, "steps_larger": 1})
MODEL = tiny_hierarchy(chain=SHORT)  # 12 frames a second, 3 of them key frames; decoded 8x8, finished 16x16


@pytest.fixture(scope="module")
def maker() -> Hierarchy:
    return Hierarchy(MODEL, precision="float32", device="cpu")


def clip(frames: int, *, width: int = 16, height: int = 16, fps: float = 12.0, seed: int = 5) -> Video:
    generator = torch.Generator().manual_seed(seed)
    shape = (frames, height, width, 3)
    return Video(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), fps)


@pytest.mark.parametrize(
    ("film", "new"),
    [(clip(3), 14), (clip(6, width=8, height=8, fps=6.0), 5), (clip(2, width=21, height=10, fps=3.0), 1)],
    ids=str,
)
def test_a_film_goes_on_and_stays_what_it_was(maker: Hierarchy, film: Video, new: int):
    longer = revise(maker, Extend(frames=new), films=film, **QUICK)
    assert (len(longer), longer.size, longer.fps) == (len(film) + new, film.size, film.fps)
    assert torch.equal(longer.frames[: len(film)], film.frames)
    assert longer.frames[len(film) :].float().std() > 1


def test_nothing_new_is_the_film_itself(maker: Hierarchy):
    assert torch.equal(revise(maker, Extend(frames=0), films=clip(4), **QUICK).frames, clip(4).frames)


def changed(film: Video, frame: int) -> Video:
    frames = film.frames.clone()
    frames[frame] = 255 - frames[frame]
    return Video(frames, film.fps)


def test_what_follows_depends_on_the_context_at_the_places_of_key_frames(maker: Hierarchy):
    """At half the rate every second picture is a key frame: of five the third and the last are seen. The one
    between them is seen by the decoder, and the first two by nobody."""

    def new(film: Video, **settings: Any) -> torch.Tensor:
        return revise(maker, Extend(frames=1, only_new=True, **settings), films=film, **QUICK).frames

    film = clip(5, width=8, height=8, fps=6.0)
    usual = new(film)
    assert torch.equal(usual, new(changed(film, 1)))
    assert not torch.equal(usual, new(changed(film, 2))) and not torch.equal(usual, new(changed(film, 3)))
    assert torch.equal(new(film, context=2), new(changed(film, 2), context=2))


def test_seed_and_words_change_what_follows(maker: Hierarchy):
    film = clip(2, width=8, height=8, fps=6.0)
    usual, same, *others = (
        revise(maker, Extend(frames=2), films=film, **QUICK | settings).frames[2:]
        for settings in ({}, {}, {"seed": 1}, {"prompt": "a child at night"})
    )
    assert torch.equal(usual, same) and all(not torch.equal(usual, other) for other in others)


def test_a_picture_begins_to_move(maker: Hierarchy):
    film = revise(maker, Animate(frames=6, fps=12), films=clip(3), **QUICK)
    assert (len(film), film.fps, film.size) == (6, 12, (16, 16))
    assert torch.equal(film.frames[0], clip(3).frames[0]) and not torch.equal(film.frames[2], film.frames[5])


@pytest.mark.parametrize(("factor", "size"), [(2, (16, 16)), (4, (9, 8))], ids=["large", "small"])
def test_frames_come_between_those_of_a_film(maker: Hierarchy, factor: int, size: tuple[int, int]):
    film = clip(3, width=size[0], height=size[1], fps=3.0)
    one, same, other, longer = (
        revise(maker, Interpolate(factor=factor), films=film, **QUICK | settings)
        for settings in ({}, {}, {"seed": 2}, {"steps": 3})
    )
    assert (len(one), one.size, one.fps) == (factor * 2 + 1, size, 3.0 * factor)
    assert torch.equal(one.frames[::factor], film.frames)
    assert torch.equal(one.frames, same.frames)
    assert not torch.equal(one.frames, other.frames) and not torch.equal(one.frames, longer.frames)


def test_a_film_gets_larger_whatever_its_size(maker: Hierarchy):
    film = clip(7, width=11, height=8, fps=3.0)
    one, other = (revise(maker, Upscale(), films=film, seed=seed, **QUICK) for seed in (1, 2))
    assert (len(one), one.size, one.fps) == (7, (22, 16), 3.0)
    assert not torch.equal(one.frames, other.frames)
    assert torch.equal(revise(maker, Upscale(size=(22, 16)), films=film, seed=1, **QUICK).frames, one.frames)
    assert torch.equal(revise(maker, Upscale(), films=film[:4], seed=1, **QUICK).frames[:2], one.frames[:2])


def test_what_is_left_out_is_the_models_own(maker: Hierarchy):
    def work(task: Any, **settings: Any) -> Work:
        return Work.of(maker, task, [clip(5, width=8, height=8, fps=6.0)], prompt="a man", **settings)

    extend = work(Extend(frames=2))
    own = {"context": 3, "steady": SHORT.context_noise, "only_new": False}
    assert extend.task.settings() == {"kind": "extend", "frames": 2, **own}
    assert (extend.request.steps, extend.request.guidance) == (MODEL.facts.steps, MODEL.facts.guidance)
    between, larger = work(Interpolate()), work(Upscale())
    assert between.task.settings() == {"kind": "interpolate", "factor": 2}
    assert larger.task.settings() == {"kind": "upscale", "size": [16, 16]}
    assert (between.request.steps, larger.request.steps) == (SHORT.steps_between, SHORT.steps_larger)
    assert extend.remarks(maker) == []


def test_a_task_counts_its_steps_to_the_end(maker: Hierarchy):
    for task in (Extend(frames=5), Interpolate(factor=2), Upscale()):
        work = Work.of(maker, task, [clip(2)], prompt="a man", steps=1)
        parts = list(work.task.parts(maker, work.films, work.request))
        assert parts[-1].done == parts[-1].total
        assert sum(len(part.pictures) for part in parts if part.pictures is not None) == work.request.frames


ALONE = Hierarchy(tiny_hierarchy(parts=()), precision="float32", device="cpu")
ALOOF = Hierarchy(
    replace(MODEL, hierarchy=SHORT.model_copy(update={"context": 0})), precision="float32", device="cpu"
)


@pytest.mark.parametrize(
    ("task", "settings", "model", "said"),
    [
        (Interpolate(factor=3), {}, None, "factor is 3; this model puts frames between others by 2 or 4"),
        (Interpolate(factor=8), {}, None, "by 2 or 4"),
        (Interpolate(strength=0.4), {}, None, "strength is 0.4; this model makes what is new from noise"),
        (Interpolate(), {"guidance": 2.0}, None, "guides key frames alone"),
        (Interpolate(), {}, ALONE, "interpolation_unet/"),
        (Upscale(size=(16, 20)), {}, None, "size is 16x20, and the film is 8x8; .* 2 times .*: 16x16"),
        (Upscale(strength=0.4), {}, None, "strength is 0.4"),
        (Upscale(), {"guidance": 2.0}, None, "this network reads no words"),
        (Upscale(), {}, ALONE, "upscaler_unet/"),
        (Extend(frames=3), {}, ALOOF, "cannot go on from any"),
        (Animate(frames=3, fps=2), {}, ALOOF, "cannot go on from any"),
    ],
    ids=lambda value: "alone" if value is ALONE else "aloof" if value is ALOOF else str(value),
)
def test_what_a_model_cannot_do_is_refused(maker: Hierarchy, task, settings, model, said):
    with pytest.raises(Refusal, match=said):
        revise(model or maker, task, films=clip(2, width=8, height=8), prompt="a man", **settings)


def test_a_last_picture_is_refused(maker: Hierarchy):
    with pytest.raises(Refusal, match="leave --last out"):
        revise(maker, Animate(frames=5, fps=12), films=[clip(1), clip(1)], **QUICK)
