"""Batches are functions of the step, drawn or read, early or on time."""

from pathlib import Path
from threading import get_ident

import pytest
import torch

from mutoscope.data.clips import Clip, verify
from mutoscope.data.loader import Ahead, Batch, FolderSource, WorldSource
from mutoscope.data.world import SMALL, draw
from mutoscope.data.world.vocabulary import kept_out
from mutoscope.media import write_video
from mutoscope.video import Video

SIZE = (32, 32)
WORLD = WorldSource(SMALL, frames=2, size=SIZE, seed=3)


def same(one: Batch, other: Batch) -> bool:
    pictures = torch.equal(one.video, other.video) and torch.equal(one.figure, other.figure)
    return pictures and one.captions == other.captions and one.scenes == other.scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films whose brightness tells the frame, and a red picture, each with its text beside it."""
    folder = tmp_path_factory.mktemp("clips")
    for name, frames in (("a", 12), ("b", 12), ("c", 3)):
        shade = torch.arange(frames, dtype=torch.uint8) * 16 + 20
        pictures = shade[:, None, None, None].expand(frames, 32, 32, 3).contiguous()
        write_video(Video(pictures, fps=12.0), folder / f"{name}.mp4")
        (folder / f"{name}.txt").write_text(f"film {name}", encoding="utf-8")
    red = torch.zeros(1, 40, 60, 3, dtype=torch.uint8)
    red[..., 0] = 255
    write_video(Video(red, fps=1.0), folder / "d.png")
    (folder / "d.txt").write_text("a red picture", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def clips(folder: Path) -> list[Clip]:
    return list(verify(folder).good)


def test_a_drawn_batch_is_a_function_of_seed_and_step():
    assert same(WORLD.batch(4, 2), WORLD.batch(4, 2))
    assert not same(WORLD.batch(4, 2), WORLD.batch(5, 2))
    assert WorldSource(SMALL, frames=2, size=SIZE, seed=4).batch(4, 2).scenes != WORLD.batch(4, 2).scenes


def test_batches_walk_through_the_stream_without_gaps():
    walked = [scene for step in range(3) for scene in WORLD.batch(step, 2).scenes]
    assert walked == SMALL.scenes(3, 0, 6)


def test_a_drawn_batch_is_what_the_world_draws():
    batch = WORLD.batch(1, 2)
    drawn = draw(batch.scenes, frames=2, size=SIZE, fps=12.0)
    assert torch.equal(batch.video, drawn.video) and torch.equal(batch.figure, drawn.figure)
    assert all(scene.subject in text for scene, text in zip(batch.scenes, batch.captions, strict=True))


def test_only_a_source_that_is_asked_to_shows_what_is_held_out():
    tiny = {"frames": 1, "size": (16, 16), "seed": 1}
    shown = {scene.combination for scene in WorldSource(SMALL, **tiny).batch(0, 100).scenes}
    free = {
        scene.combination for scene in WorldSource(SMALL, held_out=True, **tiny).batch(0, 100).scenes
    }
    assert not shown & kept_out() and free & kept_out()


def test_ahead_gives_what_a_direct_call_gives_in_any_order():
    ahead = Ahead(lambda step: WORLD.batch(step, 1))
    for step in (0, 1, 2, 7, 3, 3, 0):
        assert same(ahead(step), WORLD.batch(step, 1)), step


def test_ahead_works_in_another_thread_and_only_a_little_ahead():
    made: list[tuple[int, int]] = []

    def make(step: int) -> Batch:
        made.append((step, get_ident()))
        return step  # pyright: ignore[reportReturnType]  # any value will do

    ahead = Ahead(make, depth=2)
    assert [ahead(step) for step in range(4)] == [0, 1, 2, 3]
    ahead.pool.shutdown(wait=True)
    assert sorted(step for step, _ in made) == list(range(6))
    assert get_ident() not in {thread for _, thread in made}


def test_ahead_hands_on_what_goes_wrong():
    def make(step: int) -> Batch:
        raise ValueError(f"no step {step}")

    with pytest.raises(ValueError, match="no step 5"):
        Ahead(make, depth=0)(5)


def test_ahead_iterates_from_the_first_step():
    steps = iter(Ahead(lambda step: WORLD.batch(step, 1)))
    assert [next(steps).scenes for _ in range(2)] == [WORLD.batch(k, 1).scenes for k in range(2)]


def test_a_folder_batch_is_a_function_of_seed_and_step(clips: list[Clip]):
    source = FolderSource(clips, frames=3, size=SIZE, seed=1)
    batch = source.batch(2, 4)
    assert same(batch, source.batch(2, 4))
    assert batch.video.shape == (4, 3, 3, 32, 32)
    assert batch.video.min() >= -1 and batch.video.max() <= 1
    assert batch.figure.shape == (4, 3, 32, 32) and not batch.figure.any()
    assert batch.scenes == []


def test_every_clip_comes_once_an_epoch_with_its_own_text(clips: list[Clip]):
    source = FolderSource(clips, frames=1, size=SIZE, seed=1)
    epochs = [source.batch(step, 4).captions for step in range(6)]
    assert all(sorted(texts) == ["a red picture", "film a", "film b", "film c"] for texts in epochs)
    assert len(set(map(tuple, epochs))) > 1  # each in its own order


def test_an_epoch_does_not_care_how_it_is_cut_into_batches(clips: list[Clip]):
    source = FolderSource(clips, frames=1, size=SIZE, seed=1)
    whole, halves = source.batch(1, 4), [source.batch(step, 2) for step in (2, 3)]
    assert torch.equal(whole.video, torch.cat([half.video for half in halves]))


def test_views_of_a_clip_begin_at_different_moments(clips: list[Clip]):
    film = [clip for clip in clips if clip.text == "film a"]
    source = FolderSource(film, frames=3, size=SIZE, seed=1)
    windows = source.batch(0, 24).video.mean((1, 3, 4))  # n f
    starts = ((windows[:, 0] + 1) * 127.5 - 20) / 16
    assert len({round(float(start)) for start in starts}) > 5
    assert starts.min() > -0.7 and starts.max() < 9.7
    assert (windows.diff(dim=1) > 0.06).all()  # no window reaches past the end


def test_short_clips_and_pictures_stand_still_at_their_end(clips: list[Clip]):
    for text, frames in (("film c", 3), ("a red picture", 1)):
        source = FolderSource([clip for clip in clips if clip.text == text], frames=6, size=SIZE)
        video = source.batch(0, 1).video[0]
        assert torch.equal(
            video[:, frames:], video[:, frames - 1 : frames].expand(-1, 6 - frames, -1, -1)
        )


def test_a_picture_keeps_its_colour(clips: list[Clip]):
    source = FolderSource([clip for clip in clips if clip.text == "a red picture"], frames=1, size=SIZE)
    red, green, _ = source.batch(0, 1).video[0].mean((1, 2, 3)).tolist()
    assert red > 0.95 and green < -0.95


def test_another_rate_reads_the_same_seconds(clips: list[Clip]):
    film = [clip for clip in clips if clip.text == "film a"]
    video = FolderSource(film, frames=6, size=SIZE, fps=6.0).batch(0, 1).video
    step = video.mean((0, 1, 3, 4)).diff() * 127.5 / 16
    assert step.mean() == pytest.approx(2.0, abs=0.3)  # every other frame
