"""Films out of container files (MP4, MOV, MKV, WebM, AVI, MPEG) through PyAV.

A file may come from anyone. ffmpeg guesses formats by content, and some "formats" are lists of other files
and addresses; so the reader decides by the first bytes which one demuxer may look at it, and it only ever
gets an open file, never a name. The size is checked before the decoder is opened and enforced inside it.
Whatever ffmpeg dislikes becomes a Refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8
from torch import Tensor

from mutoscope.media.mp4 import ACCURATE
from mutoscope.media.notes import KEY, Label, unpack
from mutoscope.media.timing import Moment
from mutoscope.video import Refusal

__all__ = ["Film", "open_film"]

_FALLBACK_FPS = 25.0
_HIGH_DEFINITION = 720
# Numbers of the matrix coefficients in ITU-T H.273; 2 is "unspecified".
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


@dataclass(frozen=True)
class Film:
    """An opened container: its rate, what it says about itself, and its frames in the order of showing."""

    fps: float
    label: Label
    moments: Iterator[Moment]


@contextmanager
def open_film(path: Path, *, kind: str, max_pixels: int) -> Iterator[Film]:
    """Opens a container for the length of the block; `kind` is what `reader.demuxer` said.

    Raises:
        Refusal: a file that ffmpeg cannot read, one without pictures, or pictures of more than `max_pixels`.
    """
    with open(path, "rb") as file:
        try:
            container = av.open(file, "r", format=kind, metadata_errors="replace")
        except (FFmpegError, ValueError, OSError) as error:
            raise Refusal(f"{path}: cannot be read as a video ({_reason(error)})") from None
        with container:
            stream = _stream(container, path=path, max_pixels=max_pixels)
            fps = _rate(stream)
            tags = dict(container.metadata)
            label = unpack(tags.get(KEY), tags=tags)
            yield Film(label.fps or fps, label, _moments(container, stream, path=path, fps=fps))


def _stream(container: InputContainer, *, path: Path, max_pixels: int) -> av.VideoStream:
    if not container.streams.video:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise Refusal(f"{path}: holds no pictures (only {', '.join(kinds)})")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise Refusal(f"{path}: its pictures are in a format that ffmpeg cannot decode")
    if stream.width * stream.height > max_pixels:
        raise Refusal(
            f"{path}: {stream.width}x{stream.height} is more than the {max_pixels} pixels allowed for a frame"
        )
    # The header may lie; the decoder itself must refuse pictures that turn out larger.
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    return stream


def _moments(
    container: InputContainer, stream: av.VideoStream, *, path: Path, fps: float
) -> Iterator[Moment]:
    frames = container.decode(stream)
    clock, count = 0.0, 0
    while True:
        with _decoding(path, count=count):
            frame = next(frames, None)
        if frame is None:
            return
        clock = clock if frame.time is None else frame.time
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1 / fps
        yield Moment(clock, lasts, partial(_picture, frame, path=path, count=count))
        clock, count = clock + lasts, count + 1


def _picture(frame: av.VideoFrame, *, path: Path, count: int) -> UInt8[Tensor, "h w 3"]:
    with _decoding(path, count=count):
        return upright_rgb(frame)


@contextmanager
def _decoding(path: Path, *, count: int) -> Iterator[None]:
    """What ffmpeg says about a frame becomes one line that names the file."""
    try:
        yield
    except (FFmpegError, ValueError, OSError, MemoryError) as error:
        where = f"is damaged after frame {count}" if count else "cannot be decoded"
        raise Refusal(f"{path}: {where} ({_reason(error)})") from None


def upright_rgb(frame: av.VideoFrame) -> UInt8[Tensor, "h w 3"]:
    """A decoded frame as 8-bit RGB, by the matrix and range it is tagged with, turned upright."""
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=_matrix(frame),
        src_color_range=frame.color_range or None,
        dst_color_range=ColorRange.JPEG,
        interpolation=ACCURATE,
        threads=1,  # swscale's own choice costs twice the work and, on a busy machine, five times the time
    )
    picture = torch.from_numpy(rgb.to_ndarray())
    # ffmpeg counts the turn counter-clockwise, as torch does; a senseless matrix is the smallest integer.
    quarters = round(frame.rotation / 90) if abs(frame.rotation) <= 360 else 0
    return torch.rot90(picture, quarters % 4).contiguous()


def _matrix(frame: av.VideoFrame) -> Colorspace:
    """Untagged pictures follow the habit of players: BT.709 from 720 lines on, BT.601 below."""
    if frame.colorspace == 2 and frame.height >= _HIGH_DEFINITION:
        return Colorspace.ITU709
    return _MATRICES.get(frame.colorspace, Colorspace.ITU601)


def _rate(stream: av.VideoStream) -> float:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and Fraction(1, 1000) <= rate <= 1000:
            return float(rate)
    return _FALLBACK_FPS


def _reason(error: Exception) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words[0].lower() + words[1:]
