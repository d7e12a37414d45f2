"""Any file that shows something -> frames: films, animations, pictures, folders of pictures, one door.

The first bytes of a file decide how it is read, whatever its name says. Frames come one at a time, at the
rate of the file or at another, and only those asked for are converted, so a short window of a long film costs
little memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypedDict, Unpack

import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from mutoscope.media import animation
from mutoscope.media.notes import Label
from mutoscope.media.stills import label_of, open_picture, picture_tensor
from mutoscope.media.timing import Moment, at_rate
from mutoscope.video import Refusal, Video, resize

__all__ = ["MAX_PIXELS", "PICTURES", "Reader", "open_reader", "read_notes", "read_video"]

MAX_PIXELS = 4096 * 2304  # one frame of 4K film
MAX_BYTES = 4 * 2**30  # frames that read_video keeps in memory
_OVERHEAD = 1024  # of each frame, so that a file cannot ask for a billion pictures of one pixel
_MOV_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Reader:
    """An opened video: frames per second as they will come, notes, and the frames `h w 3`, uint8, once."""

    fps: float
    notes: dict[str, str]
    frames: Iterator[UInt8[Tensor, "h w 3"]]


class Selection(TypedDict, total=False):
    """The options of `open_reader`, for those who hand them on."""

    start: int
    max_frames: int | None
    stride: int
    fps: float | None
    size: tuple[int, int] | None
    max_pixels: int


@dataclass(frozen=True)
class _Source:
    fps: float
    label: Label
    moments: Iterator[Moment]
    even: bool  # whether the frames stand at an even beat already, one per 1 / fps


@contextmanager
def open_reader(
    path: str | Path,
    *,
    start: int = 0,
    max_frames: int | None = None,
    stride: int = 1,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Reader]:
    """Opens a video of any supported kind for reading frame by frame.

    Args:
        path: a film (mp4, mov, mkv, webm, avi), an animation (webp, gif, png), a picture, or a folder.
        start: how many frames to leave out, counted after `fps`.
        max_frames: how many frames to give at most; None for all.
        stride: give every stride-th frame; the reader's rate falls with it.
        fps: resample to this rate by the frames' times, dropping and repeating; None keeps each frame.
        size: width and height to resize to (the aspect ratio is not kept); None keeps the file's.
        max_pixels: refuse frames with more pixels than this.

    Raises:
        Refusal: no such file, no known format, broken, too large; damage further on, when reading gets there.
    """
    path = Path(path)
    _check_selection(start=start, max_frames=max_frames, stride=stride, fps=fps, size=size)
    with ExitStack() as closing:
        source = _open_source(path, closing, max_pixels=max_pixels)
        rate = fps or source.fps
        moments = source.moments if source.even and fps is None else at_rate(source.moments, fps=rate)
        stop = None if max_frames is None else start + max_frames * stride
        chosen = islice(moments, start, stop, stride)
        yield Reader(rate / stride, source.label.notes, _frames(chosen, source.label, size=size))


def read_video(path: str | Path, **selection: Unpack[Selection]) -> Video:
    """Reads a film, an animation, a picture or a folder of pictures; options as for `open_reader`.

    Raises:
        Refusal: as `open_reader`; also no frames in the range asked for, or more than 4 GiB of frames.
    """
    path = Path(path)
    with open_reader(path, **selection) as reader:
        frames: list[Tensor] = []
        held = 0
        for frame in reader.frames:
            frames.append(frame)
            held += frame.numel() + _OVERHEAD
            if held > MAX_BYTES:
                raise Refusal(f"{path}: more than 4 GiB of frames; use max_frames=, stride=, fps= or size=")
    if not frames:
        where = f" from frame {start} on" if (start := selection.get("start")) else ""
        raise Refusal(f"{path}: holds no frames{where}")
    return Video(torch.stack(frames), reader.fps, reader.notes)


def read_notes(path: str | Path) -> dict[str, str]:
    """The notes a file carries (prompt, seed, ...), without decoding its frames; empty where it has none."""
    with open_reader(path) as reader:
        return dict(reader.notes)


def _check_selection(
    *, start: int, max_frames: int | None, stride: int, fps: float | None, size: tuple[int, int] | None
) -> None:
    for name, value, least in (("start", start, 0), ("max_frames", max_frames, 1), ("stride", stride, 1)):
        if value is not None and value < least:
            raise Refusal(f"{name} is {value}; it must be {least} or more")
    if fps is not None and not 0 < fps <= 1000:
        raise Refusal(f"fps is {fps}; frames per second must be above 0 and at most 1000")
    if size is not None and min(size) < 1:
        raise Refusal(f"size is {size[0]}x{size[1]}; width and height start at 1")


def _open_source(path: Path, closing: ExitStack, *, max_pixels: int) -> _Source:
    if path.is_dir():
        return _folder(path, closing, max_pixels=max_pixels)
    head = _head(path)
    if kind := demuxer(head):
        # Here, because PyAV is 36 MB of ffmpeg: training on drawn clips and pictures do without it.
        from mutoscope.media.container import open_film

        film = closing.enter_context(open_film(path, kind=kind, max_pixels=max_pixels))
        return _Source(film.fps, film.label, film.moments, even=True)
    image = closing.enter_context(open_picture(path, max_pixels=max_pixels))
    with _broken(path):
        label = label_of(image)
        rate = label.fps or animation.rate(image)
    # Encoders merge equal frames into a longer one: where the rate is known, they come apart again.
    return _Source(rate, label, _guarded(animation.moments(image, label=label), path), even=label.fps is None)


def _folder(folder: Path, closing: ExitStack, *, max_pixels: int) -> _Source:
    paths = sorted((entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURES), key=_natural)
    if not paths:
        raise Refusal(f"{folder}: a folder without pictures ({', '.join(PICTURES)})")
    with open_picture(paths[0], max_pixels=max_pixels) as image, _broken(paths[0]):
        label = label_of(image)
    fps = label.fps or 24.0
    return _Source(fps, label, _pictures(paths, fps=fps, max_pixels=max_pixels), even=True)


def _pictures(paths: list[Path], *, fps: float, max_pixels: int) -> Iterator[Moment]:
    def picture(path: Path) -> Tensor:
        with open_picture(path, max_pixels=max_pixels) as image, _broken(path):
            return picture_tensor(image)

    for index, path in enumerate(paths):
        yield Moment(index / fps, 1 / fps, lambda path=path: picture(path))


def _frames(moments: Iterator[Moment], label: Label, *, size: tuple[int, int] | None) -> Iterator[Tensor]:
    """Pixels of the chosen moments, all of one size: the one asked for, or that of the first."""
    shown, frame = None, None
    for moment in moments:
        if moment is not shown or frame is None:  # a repeated moment is converted once
            shown, frame = moment, _cropped(moment.picture(), label)
            height, width = frame.shape[:2]
            size = size or (width, height)
            frame = rearrange(resize(frame[None], width=size[0], height=size[1]), "1 h w c -> h w c")
        yield frame


def _cropped(picture: Tensor, label: Label) -> Tensor:
    """Without the row or column that made the sides even."""
    if label.size is None:
        return picture
    width, height = label.size
    padded = (height + height % 2, width + width % 2)
    return picture[:height, :width] if picture.shape[:2] == padded else picture


def demuxer(head: bytes) -> str | None:
    """The one ffmpeg demuxer for a file that begins with these bytes (16 are enough), or None."""
    if head[4:8] in _MOV_ATOMS:
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:4] == b"\x00\x00\x01\xba":
        return "mpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return None


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise Refusal(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from None
    if not head:
        raise Refusal(f"{path}: an empty file")
    if head == b"version https://":
        raise Refusal(f"{path}: a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    return head


@contextmanager
def _broken(path: Path) -> Iterator[None]:
    """Pillow's decoders raise many kinds of errors on broken data; all of them mean one thing."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{path}: a damaged picture ({error or type(error).__name__})") from None


def _guarded(moments: Iterator[Moment], path: Path) -> Iterator[Moment]:
    while True:
        with _broken(path):
            moment = next(moments, None)
        if moment is None:
            return
        yield moment


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Sorts frame9 before frame10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name) if part]
