"""Files from anyone: what is no film, or a broken one, is refused in one line and opens nothing else."""

import builtins
from collections.abc import Callable
from pathlib import Path

import pytest

from mutoscope.media import open_reader, read_video, write_video
from mutoscope.media.container import demuxer
from mutoscope.video import Refusal, Video


def test_first_bytes_decide() -> None:
    assert demuxer(b"\0\0\0\x20ftypisom") == "mov" and demuxer(b"\x1a\x45\xdf\xa3") == "matroska"
    assert demuxer(b"RIFF\0\0\0\0AVI ") == "avi" and demuxer(b"ffconcat version") is None


@pytest.mark.parametrize("content", [b"", b"just words, no film at all", b"\0\0\0\x20ftypisom" + b"\0" * 40])
def test_what_is_no_film_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"film\.mp4"):
        read_video(path)


def test_a_truncated_film_is_refused(tmp_path: Path, drawn: Callable[..., Video]) -> None:
    path = write_video(drawn(), tmp_path / "film.mp4")
    whole = path.read_bytes()
    for size in (20, 200, len(whole) // 4):
        path.write_bytes(whole[:size])
        with pytest.raises(Refusal, match=r"film\.mp4"):
            read_video(path)


def test_a_list_of_files_opens_no_sibling(
    tmp_path: Path, drawn: Callable[..., Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(drawn(), tmp_path / "secret.mp4")
    path = tmp_path / "film.mp4"
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    opened: list[str] = []
    real = builtins.open
    monkeypatch.setattr(builtins, "open", lambda at, *a, **k: opened.append(str(at)) or real(at, *a, **k))
    with pytest.raises(Refusal, match="no video or picture"):
        read_video(path)
    assert str(path) in opened and not any("secret" in name for name in opened)


def test_too_many_pixels(tmp_path: Path, drawn: Callable[..., Video]) -> None:
    path = write_video(drawn(), tmp_path / "film.mp4")
    with pytest.raises(Refusal, match="32x24 is more than the 100 pixels"), open_reader(path, max_pixels=100):
        raise AssertionError("must not open")
