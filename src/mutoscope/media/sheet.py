"""Contact sheets: videos as rows, time as columns.

Motion can be judged at a glance, compared side by side, and put into a report that cannot play anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mutoscope.media.notes import Label
from mutoscope.media.stills import save_png
from mutoscope.video import Refusal, Video

__all__ = ["SheetSink", "contact_sheet"]

_PAPER, _INK = 255, (32, 32, 32)
_GAP = 2
_COLUMNS = 8


class SheetSink:
    """Collects frames and writes them as one contact sheet; a single frame becomes a plain picture."""

    def __init__(self, path: Path, *, fps: float, label: Label) -> None:
        self._path, self._fps, self._label = path, fps, label
        self._frames: list[Tensor] = []

    def add(self, frames: UInt8[Tensor, "f h w 3"]) -> None:
        """Keeps the frames."""
        self._frames.append(frames.clone())

    def finish(self) -> None:
        """Draws the sheet and writes it with its label."""
        video = Video(torch.cat(self._frames), self._fps)
        picture = video[0] if len(video) == 1 else contact_sheet([video])
        height, width = picture.shape[:2]
        # The size in a label is that of the file's own picture, here the sheet's.
        save_png(picture, self._path, label=Label(self._label.notes, self._label.fps, (width, height)))

    def abandon(self) -> None:
        """Nothing is open before the end."""


def contact_sheet(
    videos: Sequence[Video], *, columns: int = _COLUMNS, captions: Sequence[str] | None = None
) -> UInt8[Tensor, "h w 3"]:
    """One picture of several videos: a row for each, frames at even distances from its first to its last.

    Args:
        videos: at least one; sizes may differ, each cell is as wide as the widest video.
        columns: frames per row at most; a shorter video shows all it has.
        captions: a line above each row, one per video; long ones are wrapped.

    Raises:
        Refusal: no videos, no columns, or captions of another number.
    """
    if not videos or columns < 1:
        raise Refusal(
            f"a contact sheet of {len(videos)} videos in {columns} columns; it needs at least one of each"
        )
    if captions is not None and len(captions) != len(videos):
        raise Refusal(f"{len(captions)} captions for {len(videos)} videos; give one for each, or none")
    columns = min(columns, max(len(video) for video in videos))
    cell = max(video.size[0] for video in videos)
    width = columns * (cell + _GAP) + _GAP
    parts: list[Tensor] = [_paper(_GAP, width)]
    for index, video in enumerate(videos):
        if captions is not None:
            parts.append(_caption(captions[index], width))
        parts += [_row(video, columns, width=width, cell=cell), _paper(_GAP, width)]
    return torch.cat(parts)


def _row(video: Video, columns: int, *, width: int, cell: int) -> UInt8[Tensor, "h w 3"]:
    row = _paper(video.size[1], width)
    shown = min(columns, len(video))
    for column, index in enumerate(torch.linspace(0, len(video) - 1, shown).round().int().tolist()):
        left = _GAP + column * (cell + _GAP)
        row[: video.size[1], left : left + video.size[0]] = video[index]
    return row


def _caption(text: str, width: int) -> UInt8[Tensor, "h w 3"]:
    font = ImageFont.load_default(size=max(10, width // 80))
    lines = _wrapped(text, font, width - 2 * _GAP)
    ascent = round(font.getbbox("Ag")[3]) + 2
    image = Image.new("RGB", (width, ascent * len(lines) + _GAP), (_PAPER,) * 3)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((_GAP, number * ascent), line, fill=_INK, font=font)
    return torch.from_numpy(np.array(image))


def _wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _paper(height: int, width: int) -> UInt8[Tensor, "h w 3"]:
    return torch.full((height, width, 3), _PAPER, dtype=torch.uint8)
