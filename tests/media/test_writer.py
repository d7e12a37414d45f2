"""A file appears whole or not at all, holds the frames it was given, and takes no others."""

import errno
import importlib
import sys
from pathlib import Path

import pytest
import torch
from av.error import FFmpegError

import mutoscope
from mutoscope.media import mp4, open_writer, read_notes, read_video, write_video
from mutoscope.media.mp4 import Mp4Sink
from mutoscope.video import Refusal, Video

NAMES = ("a.mp4", "a.webp", "a.gif", "a.png", "frames")
SIZE = (32, 24)


class Stopped(Exception):
    """Something of the caller's own."""


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden files too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_nothing_is_left_after_an_error(tmp_path: Path, drawn, name: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        with open_writer(tmp_path / name, fps=12, size=SIZE) as writer:
            writer.write(drawn().frames)
            assert not (tmp_path / name).exists()
            raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_older_file_survives_an_error(tmp_path: Path, drawn, name: str) -> None:
    write_video(drawn(frames=2), tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        with open_writer(tmp_path / name, fps=12, size=SIZE) as writer:
            writer.write(drawn().frames)
            raise KeyboardInterrupt
    assert before and contents(tmp_path) == before


@pytest.mark.parametrize("name", NAMES)
def test_an_older_file_is_replaced(tmp_path: Path, drawn, name: str) -> None:
    write_video(drawn(frames=9, about="old"), tmp_path / name)
    write_video(drawn(frames=2, about="new"), tmp_path / name)
    assert read_notes(tmp_path / name) == {"about": "new"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == "frames":
        assert sorted(contents(tmp_path)) == ["frames/000000.png", "frames/000001.png"]


@pytest.mark.parametrize("name", NAMES)
def test_a_video_without_frames_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refusal, match="no frame was written"):
        with open_writer(tmp_path / name, fps=12, size=SIZE):
            pass
    with pytest.raises(Refusal, match="no frame was written"):
        with open_writer(tmp_path / name, fps=12, size=SIZE) as writer:
            writer.write(torch.zeros(0, 24, 32, 3, dtype=torch.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(2, 32, 24, 3, dtype=torch.uint8),  # sides exchanged
        torch.zeros(2, 24, 33, 3, dtype=torch.uint8),
        torch.zeros(2, 24, 32, 4, dtype=torch.uint8),
        torch.zeros(24, 32, 3, dtype=torch.uint8),
        torch.zeros(2, 24, 32, 3),
        torch.zeros(2, 3, 24, 32, dtype=torch.uint8),
    ],
    ids=["turned", "wide", "alpha", "picture", "float", "channels first"],
)
def test_frames_of_another_shape_are_refused(tmp_path: Path, name: str, frames: torch.Tensor) -> None:
    # TypeError: where the annotation says it already, the shape check of the test run comes first.
    with pytest.raises((Refusal, TypeError)):
        with open_writer(tmp_path / name, fps=12, size=SIZE) as writer:
            writer.write(frames)
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_of_a_shape_says_what_fits(tmp_path: Path) -> None:
    with open_writer(tmp_path / "frames", fps=12, size=SIZE) as writer:
        with pytest.raises(
            Refusal, match=r"\(2, 32, 24, 3\) do not fit a video of 32x24.*\(frames, 24, 32, 3\)"
        ):
            writer.write(torch.zeros(2, 32, 24, 3, dtype=torch.uint8))
        writer.write(torch.zeros(1, 24, 32, 3, dtype=torch.uint8))  # the writer goes on
    assert len(read_video(tmp_path / "frames")) == 1


@pytest.mark.parametrize("name", ["a.mp4", "a.webp", "a.gif", "a.png", "frames"])
def test_chunks_make_the_same_file_as_the_whole(tmp_path: Path, drawn, name: str) -> None:
    video = drawn(prompt="rain")
    whole, parts = tmp_path / "whole" / name, tmp_path / "parts" / name
    assert write_video(video, str(whole)) == whole
    with open_writer(parts, fps=12, size=SIZE, notes={"prompt": "rain"}) as writer:
        for chunk in video.frames.split([1, 3, 2]):
            writer.write(chunk)
        assert writer.count == 6
    assert contents(whole.parent) == contents(parts.parent)


def test_a_caller_may_reuse_its_buffer(tmp_path: Path) -> None:
    buffer = torch.zeros(1, 24, 32, 3, dtype=torch.uint8)
    for name in ("a.png", "a.webp"):
        with open_writer(tmp_path / name, fps=12, size=SIZE) as writer:
            for shade in (20, 220):
                writer.write(buffer.fill_(shade))
    sheet, film = read_video(tmp_path / "a.png")[0], read_video(tmp_path / "a.webp")
    assert (sheet[14, 18].tolist(), sheet[14, 52].tolist()) == ([20] * 3, [220] * 3)
    assert (film.frames.float().mean((1, 2, 3)) - torch.tensor([20, 220])).abs().max() < 3


@pytest.mark.parametrize("name", ["a.mp4", "a.webp", "a.gif", "frames"])
def test_scale_enlarges_every_frame(tmp_path: Path, drawn, name: str) -> None:
    video = drawn(frames=3)
    write_video(video, tmp_path / name, scale=3)
    seen = read_video(tmp_path / name)
    assert seen.size == (96, 72) and len(seen) == 3
    difference = seen.frames.float() - video.resized(96, 72).frames.float()
    assert difference.abs().mean() < (1e-6 if name == "frames" else 6)


def test_scale_of_a_chunk_is_bicubic_and_of_one_is_none(tmp_path: Path, drawn) -> None:
    video = drawn(frames=1)
    write_video(video, tmp_path / "one.png", scale=1)
    write_video(video, tmp_path / "two.png", scale=2)
    assert torch.equal(read_video(tmp_path / "one.png").frames, video.frames)
    assert torch.equal(read_video(tmp_path / "two.png").frames, video.resized(64, 48).frames)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fps": 0}, "fps is 0"),
        ({"fps": 1001}, "fps is 1001"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": 33}, "scale is 33"),
        ({"scale": 1.5}, "scale is 1.5"),
        ({"size": (0, 24)}, "0x24 at scale 1 is out of range"),
        ({"size": (8193, 24), "scale": 2}, "8193x24 at scale 2 is out of range"),
    ],
)
def test_numbers_out_of_range_are_refused_before_the_work(tmp_path: Path, options, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        with open_writer(tmp_path / "new" / "a.mp4", **{"fps": 12, "size": SIZE, **options}):
            pytest.fail("the block began")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ending_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot write"):
        with open_writer(tmp_path / "a.avi", fps=12, size=SIZE):
            pytest.fail("the block began")


def test_a_full_disk_is_one_line(tmp_path: Path, drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Mp4Sink, frames: torch.Tensor) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Mp4Sink, "add", full)
    with pytest.raises(Refusal, match=r"a\.mp4: could not be written \(No space left on device\)"):
        write_video(drawn(), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_what_stops_the_encoder_is_one_line(tmp_path: Path, drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(picture: torch.Tensor) -> torch.Tensor:
        raise FFmpegError(errno.EIO, "Input/output error")

    monkeypatch.setattr(mp4, "_even", torn)
    with pytest.raises(Refusal, match=r"a\.mp4: could not be written \(Input/output error\)"):
        write_video(drawn(), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_pictures_need_no_ffmpeg(tmp_path: Path, drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh import of the room where PyAV is missing: only films ask for it."""
    monkeypatch.setattr(mutoscope, "media", mutoscope.media)  # put back after the test, as all below
    for name in [name for name in sys.modules if name.startswith(("av.", "mutoscope.media"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    media = importlib.import_module("mutoscope.media")
    for name in ("a.webp", "a.gif", "a.png", "frames"):
        assert media.read_notes(media.write_video(drawn(prompt="rain"), tmp_path / name))["prompt"] == "rain"
    with pytest.raises(ImportError, match="av"):
        media.write_video(drawn(), tmp_path / "a.mp4")


def test_a_video_saves_itself(tmp_path: Path) -> None:
    video = Video(torch.full((2, 5, 7, 3), 9, dtype=torch.uint8), 8, {"prompt": "dusk"})
    assert read_video(video.save(tmp_path / "frames")) == video
