"""Frames -> a file, chunk by chunk; the ending decides the format, and the file appears when it is whole.

with open_writer("rain.mp4", fps=12, size=(96, 64), notes={"prompt": "rain"}) as writer:
    for chunk in decoder:            # uint8, f h w 3
        writer.write(chunk)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import UInt8
from torch import Tensor

from mutoscope.media.animation import AnimationSink
from mutoscope.media.destination import appearing, check_writable
from mutoscope.media.notes import Label
from mutoscope.media.sheet import SheetSink
from mutoscope.media.stills import FolderSink
from mutoscope.video import Refusal, Video, resize

__all__ = ["Writer", "open_writer", "write_video"]


class _Sink(Protocol):
    def add(self, frames: UInt8[Tensor, "f h w 3"]) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


class Writer:
    """An opened output; `open_writer` makes it. `count` frames have been written so far."""

    def __init__(self, sink: _Sink, *, path: Path, size: tuple[int, int], scale: int) -> None:
        self._sink, self._path, self._size, self._scale = sink, path, size, scale
        self.count = 0

    def write(self, frames: UInt8[Tensor, "f h w 3"]) -> None:
        """Appends frames, uint8 `f h w 3` of the size given at the start.

        Raises:
            Refusal: another shape or type, or a disk that is full.
        """
        width, height = self._size
        if frames.dtype != torch.uint8 or frames.ndim != 4 or tuple(frames.shape[1:]) != (height, width, 3):
            raise Refusal(
                f"{self._path}: frames of {frames.dtype} {tuple(frames.shape)} do not fit "
                f"a video of {width}x{height}, which takes uint8 (frames, {height}, {width}, 3)"
            )
        with _disk(self._path):
            for frame in frames.detach().cpu():  # one at a time, so that scaling needs no copy of the chunk
                self._sink.add(resize(frame[None], width=width * self._scale, height=height * self._scale))
                self.count += 1


@contextmanager
def open_writer(
    path: str | Path,
    *,
    fps: float,
    size: tuple[int, int],
    notes: Mapping[str, str] | None = None,
    scale: int = 1,
) -> Iterator[Writer]:
    """Opens a video for writing chunk by chunk; `.mp4` and folders of frames need constant memory.

    The file appears at `path` when the block ends well; after an error or Ctrl-C nothing is left behind.

    Args:
        path: ends in .mp4, .webp, .gif, .png (contact sheet), or in no ending (folder of PNG frames).
        fps: frames per second, 0.01 to 1000 (.gif: at most 50).
        size: width and height in pixels of the frames that will be written.
        notes: words to carry in the file; `read_notes` gives them back.
        scale: write each pixel as scale x scale pixels, bicubic, so that a small video is watchable.

    Raises:
        Refusal: what `check_writable` refuses; a rate, size or scale out of range; no frame written.
    """
    path = check_writable(path)
    _check_numbers(path, fps=fps, size=size, scale=scale)
    label = Label(dict(notes or {}), float(fps), (size[0] * scale, size[1] * scale))
    with appearing(path) as temporary:
        with _disk(path):
            sink = _open_sink(temporary, suffix=path.suffix.lower(), label=label)
        try:
            writer = Writer(sink, path=path, size=size, scale=scale)
            yield writer
            if not writer.count:
                raise Refusal(f"{path}: no frame was written, so there is no video to keep")
            with _disk(path):
                sink.finish()
        except BaseException:  # Ctrl-C too: the file must be closed before it can be removed
            with suppress(Exception):
                sink.abandon()
            raise


def write_video(video: Video, path: str | Path, *, scale: int = 1) -> Path:
    """Writes a whole video, notes included, and gives the path back; see `open_writer`."""
    with open_writer(path, fps=video.fps, size=video.size, notes=video.notes, scale=scale) as writer:
        writer.write(video.frames)
    return Path(path)


def _open_sink(path: Path, *, suffix: str, label: Label) -> _Sink:
    assert label.fps is not None and label.size is not None
    match suffix:
        case ".mp4":
            from mutoscope.media.mp4 import Mp4Sink  # here, because only films need PyAV, 36 MB of ffmpeg

            return Mp4Sink(path, fps=label.fps, size=label.size, label=label)
        case ".webp" | ".gif":
            return AnimationSink(path, kind=suffix[1:].upper(), fps=label.fps, label=label)
        case ".png":
            return SheetSink(path, fps=label.fps, label=label)
        case _:
            return FolderSink(path, label=label)


def _check_numbers(path: Path, *, fps: float, size: tuple[int, int], scale: int) -> None:
    if not 0.01 <= fps <= 1000:
        raise Refusal(f"{path}: fps is {fps}; a file takes 0.01 to 1000 frames per second")
    if scale not in range(1, 33):
        raise Refusal(f"{path}: scale is {scale}; it must be a whole number from 1 to 32")
    if min(size) < 1 or max(size) * scale > 16384:
        raise Refusal(
            f"{path}: {size[0]}x{size[1]} at scale {scale} is out of range; sides are 1 to 16384 pixels"
        )


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """What the disk or the encoder says becomes one line."""
    try:
        yield
    except OSError as error:
        raise Refusal(f"{path}: could not be written ({getattr(error, 'strerror', None) or error})") from None
