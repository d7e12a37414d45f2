"""One door for films, animations, pictures and folders; windows, rates and sizes mean the same for all."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from mutoscope.media import open_reader, read_notes, read_video, write_video
from mutoscope.media import reader as reading
from mutoscope.media.reader import demuxer
from mutoscope.video import Refusal, Video

COUNT = 10
KINDS = ("a.mp4", "a.webp", "a.gif", "frames")


def shaded(*, frames: int = COUNT, fps: float = 10, **notes: str) -> Video:
    """Grey frames, twenty levels apart, so that a pixel tells which frame it is of."""
    shade = torch.arange(frames, dtype=torch.uint8) * 20 + 20
    return Video(shade[:, None, None, None].expand(frames, 16, 24, 3).contiguous(), fps, notes)


def indices(video: Video) -> list[int]:
    levels = video.frames.float().mean((1, 2, 3))
    return ((levels - 20) / 20).round().int().tolist()


@pytest.fixture(scope="module", params=KINDS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(shaded(prompt="greys"), tmp_path_factory.mktemp("films") / request.param)


def test_everything_comes_back(film: Path) -> None:
    video = read_video(film)
    assert indices(video) == list(range(COUNT))
    assert (video.fps, video.size, video.notes) == (10, (24, 16), {"prompt": "greys"})
    assert read_notes(film) == {"prompt": "greys"}
    assert read_video(str(film)) == video


@pytest.mark.parametrize(
    ("options", "expected", "fps"),
    [
        ({"start": 4}, [4, 5, 6, 7, 8, 9], 10),
        ({"max_frames": 3}, [0, 1, 2], 10),
        ({"max_frames": 99}, list(range(COUNT)), 10),
        ({"stride": 3}, [0, 3, 6, 9], 10 / 3),
        ({"stride": 4, "start": 1}, [1, 5, 9], 2.5),
        ({"stride": 3, "max_frames": 2, "start": 2}, [2, 5], 10 / 3),
        ({"fps": 20, "max_frames": 5}, [0, 0, 1, 1, 2], 20),
        ({"fps": 20, "start": 3, "max_frames": 3}, [1, 2, 2], 20),
        ({"fps": 10}, list(range(COUNT)), 10),
        ({"fps": 20, "stride": 2}, list(range(COUNT)), 10),
    ],
)
def test_windows_and_rates(film: Path, options: dict, expected: list[int], fps: float) -> None:
    video = read_video(film, **options)
    assert indices(video) == expected
    assert video.fps == pytest.approx(fps)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (3, [1, 4, 8]),  # a slot shows the latest of its frames, and 0.1 s is nearer to slot 0 than to 1
        (4, [1, 3, 6, 8]),
        (12, [0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9]),
        (30, [index for index in range(COUNT) for _ in range(3)]),
    ],
)
def test_resampling_keeps_the_length_in_seconds(film: Path, fps: int, expected: list[int]) -> None:
    video = read_video(film, fps=fps)
    assert indices(video) == expected
    assert (video.fps, video.seconds) == (fps, 1)


def test_another_size(film: Path) -> None:
    video = read_video(film, size=(10, 30))
    assert video.size == (10, 30) and indices(video) == list(range(COUNT))
    assert torch.equal(video.frames, read_video(film).resized(10, 30).frames)


def test_frames_come_one_at_a_time(film: Path) -> None:
    with open_reader(film, start=2) as reader:
        first = next(reader.frames)
        assert first.shape == (16, 24, 3) and first.dtype == torch.uint8
        rest = list(reader.frames)
        assert len(rest) == COUNT - 3 and list(reader.frames) == []


def test_a_start_after_the_end_is_refused(film: Path) -> None:
    assert indices(read_video(film, start=COUNT - 1)) == [COUNT - 1]
    with pytest.raises(Refusal, match=f"holds no frames from frame {COUNT} on"):
        read_video(film, start=COUNT)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start": -1}, "start is -1; it must be 0 or more"),
        ({"max_frames": 0}, "max_frames is 0; it must be 1 or more"),
        ({"stride": 0}, "stride is 0"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": -5}, "fps is -5"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 1001}, "fps is 1001"),
        ({"size": (0, 16)}, "size is 0x16"),
    ],
)
def test_senseless_selections_are_refused(tmp_path: Path, options: dict, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        read_video(tmp_path / "never opened.mp4", **options)


def test_frames_larger_than_allowed_are_refused(film: Path) -> None:
    # Measured: H.264's decoder asks for 1024 pixels even where the picture has fewer.
    enough = 1024 if film.suffix == ".mp4" else 24 * 16
    assert len(read_video(film, max_pixels=enough)) == COUNT
    with pytest.raises(Refusal, match="24x16 is more than the 383 pixels"):
        read_video(film, max_pixels=24 * 16 - 1)


def test_more_frames_than_memory_takes_are_refused(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 3 * (24 * 16 * 3 + reading._OVERHEAD))
    assert len(read_video(film, max_frames=3)) == 3
    with pytest.raises(Refusal, match="GiB of frames; use max_frames="):
        read_video(film, max_frames=4)


def test_folders_are_read_in_natural_order(tmp_path: Path) -> None:
    for index in (10, 9, 2, 1, 100, 11):
        Image.new("RGB", (8, 6), (index, 0, 0)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    video = read_video(tmp_path)
    assert video.frames[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 11, 100]
    assert (video.fps, video.notes) == (24, {})


def test_folders_mix_kinds_and_take_the_first_size(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (200, 0, 0)).save(tmp_path / "1.bmp")
    Image.new("RGB", (16, 12), (0, 200, 0)).save(tmp_path / "2.PNG")
    video = read_video(tmp_path)
    assert video.size == (8, 6) and len(video) == 2
    assert video.frames[:, 3, 4].tolist() == [[200, 0, 0], [0, 200, 0]]


def test_a_broken_frame_of_a_folder_is_named(tmp_path: Path) -> None:
    write_video(shaded(frames=3), tmp_path / "frames")
    broken = tmp_path / "frames" / "000001.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(Refusal, match=r"000001\.png"):
        read_video(tmp_path / "frames")
    assert len(read_video(tmp_path / "frames", max_frames=1)) == 1


def test_first_bytes_decide() -> None:
    assert demuxer(b"\0\0\0\x20ftypisom") == "mov" and demuxer(b"\x1a\x45\xdf\xa3") == "matroska"
    assert demuxer(b"RIFF\0\0\0\0AVI ") == "avi" and demuxer(b"ffconcat version") is None


def test_the_content_decides_whatever_the_name_says(tmp_path: Path) -> None:
    for kind in ("a.mp4", "a.webp", "a.gif"):
        disguised = write_video(shaded(), tmp_path / kind).rename(tmp_path / f"{kind[2:]}.jpg")
        assert indices(read_video(disguised)) == list(range(COUNT))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".webp", ".gif"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (8, 6), (250, 250, 250)).save(tmp_path / f"a{suffix}")
    video = read_video(tmp_path / f"a{suffix}")
    assert (len(video), video.size, video.fps) == (1, (8, 6), 1)
    assert (video.frames.int() - 250).abs().max() <= 2


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("these are words, and no film")
    (tmp_path / "lfs.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "folder").mkdir()
    reasons = {
        "missing.mp4": "no such file",
        "empty.mp4": "an empty file",
        "words.mp4": "no video or picture that can be read",
        "lfs.mp4": "git lfs pull",
        "folder": "a folder without pictures",
        "null\0.mp4": "cannot be opened|no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(Refusal, match=reason):
            read_video(tmp_path / name)
