"""Frames into MP4: H.264 that every browser and player shows, streamed in constant memory.

Colours are converted to Y'CbCr with the BT.709 matrix in limited range, and tagged so, because that is what
players assume; the conversion rounds accurately (swscale's default is fast and makes pictures about 1 level
darker). Chroma is stored at half size (yuv420p), which wants even sides: an odd picture gets its last column
or row twice, and the label keeps the true size so that reading crops it away.

The bytes depend on the frames alone: one thread, no time stamps, and x264's `cpu-independent` code, because
the default vector code of its rate control (mbtree) gave different files in different runs at small sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from jaxtyping import UInt8
from torch import Tensor

from mutoscope.media.notes import KEY, Label, pack

__all__ = ["ACCURATE", "Mp4Sink"]

# Bicubic chroma and rounding without bias, in both directions.
ACCURATE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_BT709 = 1  # the same number for primaries, transfer and matrix (ITU-T H.273)
_X264 = {"crf": "18", "preset": "medium", "threads": "1", "x264-params": "cpu-independent=1"}


@contextmanager
def _as_os_error() -> Iterator[None]:
    """ffmpeg's errors as Python's own, so that whoever writes other formats need not know ffmpeg."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


class Mp4Sink:
    """Takes frames one chunk after another and writes one MP4 file.

    Args:
        path: where; a path that this program made, never one a user typed (ffmpeg reads meaning into names).
        fps: frames per second.
        size: width and height of the frames that will come.
        label: what the file says about itself.

    Raises:
        OSError: whatever stops the encoder or the disk, from any method but `abandon`.
    """

    @_as_os_error()
    def __init__(self, path: Path, *, fps: float, size: tuple[int, int], label: Label) -> None:
        rate = Fraction(fps).limit_denominator(100_000)
        # faststart: the index stands before the pictures, so a browser plays while it loads.
        options = {"movflags": "+faststart+use_metadata_tags", "fflags": "+bitexact"}
        self._container = av.open(str(path.absolute()), "w", format="mp4", options=options)
        self._container.metadata.update({**_tags(label), KEY: pack(label)})
        self._stream = self._container.add_stream("libx264", rate=rate, options=_X264)
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_count = 1
        context.time_base = 1 / rate
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        self._next = 0

    @_as_os_error()
    def add(self, frames: UInt8[Tensor, "f h w 3"]) -> None:
        """Encodes the frames; what the encoder has finished goes to disk at once."""
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(_even(picture).numpy(), format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                interpolation=ACCURATE,
                threads=1,
            )
            frame.pts, frame.time_base = self._next, self._stream.codec_context.time_base
            self._next += 1
            self._container.mux(self._stream.encode(frame))

    @_as_os_error()
    def finish(self) -> None:
        """Writes what the encoder still holds, and the index."""
        self._container.mux(self._stream.encode())
        self._container.close()

    def abandon(self) -> None:
        """Lets go of the file, complete or not."""
        self._container.close()


def _tags(label: Label) -> dict[str, str]:
    return {name: text for name, text in label.notes.items() if name}


def _even(picture: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "even_h even_w 3"]:
    height, width = picture.shape[:2]
    rows = torch.arange(height + height % 2).clamp(max=height - 1)
    columns = torch.arange(width + width % 2).clamp(max=width - 1)
    return picture[rows][:, columns].contiguous()
