"""Films out of films of a tiny random model: lengths, what stays, and what a longer one begins with."""

from itertools import pairwise

import pytest
import torch

from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.condition import Given
from mutoscope.pipelines.revision import revise
from mutoscope.pipelines.tasks import Animate, Extend, Interpolate, Span, levels
from mutoscope.video import Refusal, Video
from tiny import tiny_model

WORDS = "a man walking in the rain"
QUICK = {"prompt": WORDS, "steps": 2, "guidance": 1.0}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_model(), precision="float32", device="cpu")


def clip(frames: int, size: tuple[int, int] = (32, 32), *, fps: float = 12.0) -> Video:
    """Smooth colours that drift."""
    generator = torch.Generator().manual_seed(frames)
    waves = torch.rand(3, 3, generator=generator)
    f, h, w = (torch.linspace(0, 3, side) for side in (frames, size[1], size[0]))
    phase = torch.einsum("fhwk,kc->fhwc", torch.stack(torch.meshgrid(f, h, w, indexing="ij"), -1), waves)
    return Video((127.5 + 120 * torch.sin(phase)).to(torch.uint8), fps)


@pytest.mark.parametrize(("old", "new", "context"), [(9, 4, 9), (9, 17, 5), (1, 3, 9), (6, 5, 4), (2, 1, 1)])
def test_a_film_goes_on_as_long_as_asked_and_stays_what_it_was(pipeline, old, new, context):
    film = clip(old)
    longer = revise(pipeline, Extend(frames=new, context=min(context, 5)), films=film, **QUICK)
    assert (len(longer), longer.size, longer.fps) == (old + new, film.size, film.fps)
    assert torch.equal(longer.frames[:old], film.frames)
    assert longer.frames[old:].float().std() > 5


def test_no_new_frames_is_the_film_itself(pipeline):
    film = clip(5)
    assert torch.equal(revise(pipeline, Extend(frames=0), films=film, **QUICK).frames, film.frames)


def test_only_the_new_are_the_end_of_the_whole(pipeline):
    film = clip(5)
    whole, new = (
        revise(pipeline, Extend(frames=6, context=3, only_new=only), films=film, **QUICK)
        for only in (False, True)
    )
    assert len(new) == 6 and torch.equal(whole.frames[5:], new.frames)


def test_a_shorter_extension_is_the_beginning_of_a_longer_one(pipeline):
    longer, shorter = (
        revise(pipeline, Extend(frames=new, context=5), films=clip(7), **QUICK) for new in (13, 6)
    )
    assert torch.equal(longer.frames[:13], shorter.frames)


def test_only_the_context_reaches_what_comes(pipeline):
    film, other = clip(9), clip(9)
    other.frames[:4] = 0

    def new(film: Video) -> torch.Tensor:
        return revise(pipeline, Extend(frames=4, context=5), films=film, **QUICK).frames[9:]

    made = new(film)
    assert torch.equal(made, new(other))
    other.frames[5] = 0
    assert not torch.equal(made, new(other))


def test_known_latents_are_sampled_bit_for_bit_and_carried_over(pipeline, monkeypatch):
    """What the second window knows is what the first one made, but for the opening picture."""
    known, made = [], []

    def watching(maker, request, given, **rest):
        known.append(given.frames)
        for state in real(maker, request, given, **rest):
            yield state
        made.append(state.clean)

    real = __import__("mutoscope.pipelines.tasks", fromlist=["take"]).take
    monkeypatch.setattr("mutoscope.pipelines.tasks.take", watching)
    revise(pipeline, Extend(frames=12, context=5), films=clip(5), **QUICK)
    k = known[0].shape[2]
    assert len(made) > 1
    for given, film in zip(known, made, strict=True):
        assert torch.equal(film[:, :, :k], given)
    for before, after in zip(made[:-1], known[1:], strict=True):
        assert torch.equal(after[:, :, 1:], before[:, :, 1 - k :] if k > 1 else before[:, :, :0])


def test_seed_words_steadiness_and_context_change_what_comes(pipeline):
    usual = revise(pipeline, Extend(frames=4, context=5), films=clip(5), **QUICK)
    for task, settings in [
        (Extend(frames=4, context=5), {"seed": 1}),
        (Extend(frames=4, context=5), {"prompt": "a child at night"}),
        (Extend(frames=4, context=5, steady=0.2), {}),
        (Extend(frames=4, context=1), {}),
    ]:
        other = revise(pipeline, task, films=clip(5), **QUICK | settings)
        assert torch.equal(other.frames[:5], usual.frames[:5])
        assert not torch.equal(other.frames[5:], usual.frames[5:])


def test_a_context_as_long_as_the_window_leaves_nothing_to_make(pipeline):
    with pytest.raises(Refusal, match="this model sees 9, and some must be left"):
        revise(pipeline, Extend(frames=4, context=9), films=clip(9), **QUICK)
    with pytest.raises(Refusal, match="nothing would be left"):
        revise(pipeline, Extend(frames=0, only_new=True), films=clip(9), **QUICK)


@pytest.mark.parametrize("size", [(32, 32), (20, 14), (33, 47)])
def test_films_of_any_size_go_on(pipeline, size):
    film = clip(3, size)
    longer = revise(pipeline, Extend(frames=2, context=3), films=film, **QUICK)
    assert longer.size == size and torch.equal(longer.frames[:3], film.frames)


def test_a_picture_begins_to_move(pipeline):
    picture = clip(1)
    film = revise(pipeline, Animate(frames=7, fps=10), films=picture, **QUICK)
    assert (len(film), film.fps) == (7, 10) and torch.equal(film.frames[0], picture.frames[0])
    assert not torch.equal(film.frames[1], film.frames[6])


def test_a_last_picture_changes_the_film_and_is_held_as_a_still(pipeline, monkeypatch):
    seen = []
    real = Given.__post_init__
    monkeypatch.setattr(Given, "__post_init__", lambda self: (real(self), seen.append(self))[0])
    first, last = clip(1), clip(4)
    task = Animate(frames=9, fps=12)
    both, one = (revise(pipeline, task, films=films, **QUICK) for films in ([first, last], first))
    assert not torch.equal(both.frames, one.frames)
    assert list(seen[0].places) == [0, -1] and seen[0].frames.shape[2] == 2
    with pytest.raises(Refusal, match="first picture is 32x32 and the last 16x16"):
        revise(pipeline, Animate(frames=9, fps=12), films=[first, clip(1, (16, 16))], **QUICK)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("frames", [2, 3, 8])
def test_known_pictures_stay_to_the_bit_and_new_ones_come_between(pipeline, factor, frames):
    film = clip(frames, (24, 20))
    made = revise(pipeline, Interpolate(factor=factor, strength=0.6), films=film, **QUICK)
    assert (len(made), made.fps, made.size) == (factor * (frames - 1) + 1, 12 * factor, (24, 20))
    assert torch.equal(made.frames[::factor], film.frames)
    assert made.seconds == pytest.approx(film.seconds, abs=1 / film.fps)


def test_strength_seed_and_words_change_what_is_between(pipeline):
    film, made = clip(5), []
    for strength, settings in [(0.3, {}), (0.9, {}), (0.9, {"seed": 1}), (0.9, {"prompt": "a child"})]:
        made.append(revise(pipeline, Interpolate(strength=strength), films=film, **QUICK | settings).frames)
    assert all(torch.equal(one[::2], film.frames) for one in made)
    assert all(not torch.equal(made[1], other) for other in (made[0], *made[2:]))


def test_rough_pictures_are_faded_evenly(pipeline):
    film = Video(torch.tensor([0, 100, 60], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 8, 8, 3), 12)
    rough = Interpolate(factor=4).rough(film, Span(0, 8), pipeline.request(WORDS))
    assert rough[:, 0, 0, 0].tolist() == [0, 25, 50, 75, 100, 90, 80, 70, 60]
    rough = Interpolate().rough(film, Span(2, 4), pipeline.request(WORDS))
    assert rough[:, 0, 0, 0].tolist() == [100, 80, 60]


def test_spans_cover_the_film_and_share_a_known_picture(pipeline):
    request = pipeline.request(WORDS, frames=41)
    for task, window in [(Interpolate(), 25), (Interpolate(factor=4), 9), (Interpolate(factor=4), 3)]:
        spans = task.spans(request, window)
        assert (spans[0].first, spans[-1].last) == (0, 40)
        assert all(before.last == after.first for before, after in pairwise(spans))
        assert all(span.first % task.factor == 0 and span.frames <= max(window, 5) for span in spans)


def test_a_single_picture_has_nothing_between(pipeline):
    with pytest.raises(Refusal, match="mutoscope animate"):
        revise(pipeline, Interpolate(), films=clip(1), **QUICK)


def test_a_task_counts_its_steps_to_the_end(pipeline):
    for task, film in [(Extend(frames=12, context=5), clip(5)), (Interpolate(), clip(9))]:
        shape = task.shape([film])
        parts = list(task.parts(pipeline, [film], pipeline.request(WORDS, steps=2, guidance=1.0, **shape)))
        done = [part.done for part in parts]
        assert done == sorted(done) and done[-1] == parts[-1].total
        assert sum(len(part.pictures) for part in parts if part.pictures is not None) == shape["frames"]


def test_levels_are_rounded_and_clamped():
    assert levels(torch.tensor([[[[-3.0, 0.6, 300.0]]]])).flatten().tolist() == [0, 1, 255]
