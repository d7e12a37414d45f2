"""WebP and GIF keep pixels as well as they can, and time exactly."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from mutoscope.media import read_video, write_video
from mutoscope.media.animation import AnimationSink, moments, rate
from mutoscope.media.notes import Label
from mutoscope.video import Refusal, Video


def stored(path: Path) -> list[int]:
    """The milliseconds of each frame as the file says them."""
    durations = []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            durations.append(image.info["duration"])
    return durations


def few_colours(frames: int = 4) -> Video:
    """A red bar that moves over blue: few enough colours that a palette holds them all."""
    film = torch.zeros(frames, 16, 24, 3, dtype=torch.uint8)
    film[..., 2] = 255
    for index in range(frames):
        film[index, :, 4 * index : 4 * index + 4] = torch.tensor([255, 0, 0], dtype=torch.uint8)
    return Video(film, 10)


@pytest.mark.parametrize(("name", "most"), [("a.webp", 6), ("a.gif", 8)])
def test_pixels_come_back_nearly(tmp_path: Path, drawn, name: str, most: float) -> None:
    video = drawn()
    seen = read_video(write_video(video, tmp_path / name))
    assert seen.frames.shape == video.frames.shape
    difference = (seen.frames.float() - video.frames.float()).abs()
    assert difference.mean((1, 2, 3)).max() < most
    wrong = (seen.frames.float() - video.frames.roll(1, 0).float()).abs()
    assert wrong.mean() > difference.mean()  # in this order and no other


def test_a_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    video = few_colours()
    assert torch.equal(read_video(write_video(video, tmp_path / "a.gif")).frames, video.frames)


@pytest.mark.parametrize("name", ["a.webp", "a.gif"])
@pytest.mark.parametrize("fps", [1, 7.5, 12, 23.976, 30, 50])
def test_the_rate_is_exact(tmp_path: Path, drawn, name: str, fps: float) -> None:
    video = drawn(fps=fps, prompt="rain")
    seen = read_video(write_video(video, tmp_path / name))
    assert (seen.fps, len(seen), seen.notes) == (fps, len(video), {"prompt": "rain"})


@pytest.mark.parametrize(("name", "unit"), [("a.webp", 1), ("a.gif", 10)])
@pytest.mark.parametrize("fps", [12, 24, 30])
def test_durations_do_not_drift(tmp_path: Path, drawn, name: str, unit: int, fps: float) -> None:
    video = drawn(frames=20, width=48, fps=fps)
    durations = stored(write_video(video, tmp_path / name))
    for index in range(1, len(durations) + 1):
        assert abs(sum(durations[:index]) - 1000 * index / fps) <= unit / 2
    assert all(duration % unit == 0 for duration in durations)


@pytest.mark.parametrize("name", ["a.webp", "a.gif"])
def test_equal_frames_come_apart_again(tmp_path: Path, name: str) -> None:
    frames = few_colours(2).frames.repeat_interleave(3, 0)  # encoders merge these
    seen = read_video(write_video(Video(frames, 10), tmp_path / name))
    assert len(seen) == 6 and (seen.frames.float() - frames.float()).abs().mean() < 8


@pytest.mark.parametrize("name", ["a.webp", "a.gif"])
@pytest.mark.parametrize(("count", "fps"), [(1, 12), (2, 8), (7, 23.976), (40, 30)])
def test_a_film_that_stands_still_keeps_its_length(tmp_path: Path, name: str, count: int, fps: float) -> None:
    frames = few_colours(1).frames.repeat(count, 1, 1, 1)
    seen = read_video(write_video(Video(frames, fps), tmp_path / name))
    assert (len(seen), seen.fps) == (count, fps) and (seen.frames == seen.frames[:1]).all()
    assert len(read_video(tmp_path / name, fps=2 * fps)) == 2 * count


def test_a_gif_too_fast_for_browsers_is_refused(tmp_path: Path, drawn) -> None:
    with pytest.raises(Refusal, match=r"at most 50 frames per second, not 60; use \.webp or \.mp4"):
        write_video(drawn(fps=60), tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []
    assert read_video(write_video(drawn(fps=60), tmp_path / "a.webp")).fps == 60


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_nothing_is_written_before_the_end(tmp_path: Path, drawn, kind: str) -> None:
    sink = AnimationSink(tmp_path / "a", kind=kind, fps=12, label=Label())
    sink.add(drawn().frames)
    sink.abandon()
    assert not (tmp_path / "a").exists()
    sink.finish()
    with Image.open(tmp_path / "a") as image:
        assert image.format == kind and image.n_frames == 6 and image.info["loop"] == 0


def foreign(path: Path, durations: list[int]) -> Path:
    """An animation of another program: no label, a duration for each frame."""
    first, *others = [Image.fromarray(picture.numpy()) for picture in few_colours(len(durations))]
    first.save(path, save_all=True, append_images=others, duration=durations)
    return path


@pytest.mark.parametrize("name", ["a.webp", "a.gif"])
def test_times_of_other_programs(tmp_path: Path, name: str) -> None:
    with Image.open(foreign(tmp_path / name, [50, 50, 50, 1000])) as image:
        assert rate(image) == 20  # the last frame stays longer
        told = list(moments(image, label=Label()))
    assert [(moment.seconds, moment.lasts) for moment in told] == [
        (0, 0.05),
        (0.05, 0.05),
        (0.1, 0.05),
        (0.15, 1),
    ]
    assert all(moment.picture().shape == (16, 24, 3) for moment in told)


@pytest.mark.parametrize("name", ["a.webp", "a.gif"])
def test_absurdly_short_durations_play_as_browsers_play_them(tmp_path: Path, name: str) -> None:
    with Image.open(foreign(tmp_path / name, [10, 10, 10])) as image:
        assert rate(image) == 10
        assert [moment.seconds for moment in moments(image, label=Label())] == [0, 0.1, 0.2]


def test_a_still_picture_is_one_moment(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (10, 20, 30)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert rate(image) == 1
        (moment,) = moments(image, label=Label())
    assert moment.seconds == 0 and moment.picture()[0, 0].tolist() == [10, 20, 30]
