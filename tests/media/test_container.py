"""Files from anyone: what is no film, or a broken one, is refused in one line and opens nothing else."""

import builtins
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace

from mutoscope.media import container as container_module
from mutoscope.media import open_reader, read_video, write_video
from mutoscope.media.container import open_film
from mutoscope.video import Refusal, Video


def encode(video: Video, path: Path, *, codec: str, times: list[int] | None = None) -> Path:
    """A film by other means than ours: lossless or MPEG-4, untagged, with times in thousandths if given."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=12)
        stream.width, stream.height = video.size
        stream.pix_fmt = {"mpeg4": "yuv420p", "ffv1": "bgr0", "png": "rgb24"}[codec]
        stream.codec_context.time_base = Fraction(1, 12) if times is None else Fraction(1, 1000)
        for index, picture in enumerate(video):
            frame = av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24").reformat(
                format=stream.pix_fmt
            )
            frame.pts = index if times is None else times[index]
            frame.time_base = stream.codec_context.time_base
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """The same MP4 with another display matrix (a b u c d v x y w) in its track header."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(bytes(content))
    return path


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


ONE = 0x10000


@pytest.mark.parametrize(
    ("matrix", "quarters"),
    [
        ((ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), 0),
        ((0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30), -1),  # held upright: to be turned clockwise
        ((-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30), 2),
        ((0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30), 1),
        ((0, 0, 0, 0, 0, 0, 0, 0, 0), 0),  # senseless
    ],
)
def test_films_stand_upright(
    tmp_path: Path, drawn: Callable[..., Video], matrix: tuple[int, ...], quarters: int
) -> None:
    plain = read_video(write_video(drawn(), tmp_path / "plain.mp4"))
    back = read_video(turned(write_video(drawn(), tmp_path / "film.mp4"), matrix))
    assert torch.equal(back.frames, torch.rot90(plain.frames, quarters, dims=(1, 2)))


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_films_of_other_programs_are_exact(tmp_path: Path, drawn: Callable[..., Video], name: str) -> None:
    video = drawn()
    back = read_video(encode(video, tmp_path / name, codec="ffv1"))
    assert torch.equal(back.frames, video.frames) and back.fps == 12


def test_mpeg4_is_read(tmp_path: Path, drawn: Callable[..., Video]) -> None:
    back = read_video(encode(drawn(), tmp_path / "a.mp4", codec="mpeg4"))
    assert back.size == (32, 24) and len(back) == 6


def test_uneven_times_are_kept_frame_by_frame_or_made_even(
    tmp_path: Path, drawn: Callable[..., Video]
) -> None:
    video = drawn(frames=4)
    path = encode(video, tmp_path / "a.mkv", codec="ffv1", times=[0, 100, 500, 600])
    assert torch.equal(read_video(path).frames, video.frames)
    even = read_video(path, fps=10, max_frames=7)  # the second frame stays for four tenths of a second
    assert torch.equal(even.frames, video.frames[[0, 1, 1, 1, 1, 2, 3]])


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        film.mux(stream.encode(silence))
        film.mux(stream.encode())
    with pytest.raises(Refusal, match=r"song\.mp4: holds no pictures \(only audio\)"):
        read_video(path)


def test_damage_in_the_middle_is_met_there(tmp_path: Path, drawn: Callable[..., Video]) -> None:
    path = encode(drawn(frames=12), tmp_path / "film.mov", codec="png")
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 400] = bytes(400)
    path.write_bytes(bytes(content))
    with open_reader(path, max_frames=2) as reader:
        assert len(list(reader.frames)) == 2
    with pytest.raises(Refusal, match=r"film\.mov: is damaged after frame \d"):
        read_video(path)


def test_the_decoder_itself_refuses_larger_pictures(
    tmp_path: Path, drawn: Callable[..., Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(drawn(width=64, height=48), tmp_path / "film.mkv", codec="ffv1")
    real = container_module._stream

    def deceived(film: object, *, path: Path, max_pixels: int) -> object:
        """As if the header had promised pictures that fit."""
        stream = real(film, path=path, max_pixels=10**9)
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        return stream

    monkeypatch.setattr(container_module, "_stream", deceived)
    with (
        pytest.raises(Refusal, match=r"film\.mkv"),
        open_film(path, kind="matroska", max_pixels=1000) as film,
    ):
        list(film.moments)
    with open_film(path, kind="matroska", max_pixels=64 * 48) as film:
        assert len(list(film.moments)) == 6


def test_a_frame_that_cannot_be_converted_is_a_refusal(
    tmp_path: Path, drawn: Callable[..., Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(frame: object) -> None:
        raise ValueError("Conversion to rgb24 is not supported")

    path = write_video(drawn(), tmp_path / "film.mp4")
    monkeypatch.setattr(container_module, "upright_rgb", failing)
    with pytest.raises(Refusal, match=r"film\.mp4: cannot be decoded \(conversion to rgb24"):
        read_video(path)


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601, Colorspace.BT2020])
@pytest.mark.parametrize("spread", [ColorRange.MPEG, ColorRange.JPEG])
def test_colours_follow_the_tags(matrix: Colorspace, spread: ColorRange) -> None:
    colour = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    frame = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(
        format="yuv444p", dst_colorspace=matrix, dst_color_range=spread, src_color_range=ColorRange.JPEG
    )
    frame.colorspace = {Colorspace.ITU709: 1, Colorspace.ITU601: 6, Colorspace.BT2020: 9}[matrix]
    frame.color_range = spread
    seen = container_module.upright_rgb(frame)
    assert (seen.int() - torch.from_numpy(colour).int()).abs().max() <= 3
