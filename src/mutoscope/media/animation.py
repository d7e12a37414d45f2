"""WebP and GIF: moving pictures that play inside a README or a chat, through Pillow.

Both formats give each frame a duration, WebP in milliseconds and GIF in hundredths of a second. Durations are
the differences of rounded times, not rounded differences, so that a long animation does not drift; the exact
rate stands in the label. Pillow takes all frames at once, so these two hold the whole video in memory; for
long films use MP4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from jaxtyping import UInt8
from PIL import ExifTags, Image
from torch import Tensor

from mutoscope.media.notes import Label, pack
from mutoscope.media.stills import picture_tensor
from mutoscope.media.timing import Moment
from mutoscope.video import Refusal

__all__ = ["AnimationSink", "moments", "rate"]

_SAMPLE = 64  # frames whose durations tell the rate of a stranger's file; each must be decoded to know it
_FASTEST_GIF = 50  # browsers slow down anything shorter than two hundredths of a second to a tenth


class AnimationSink:
    """Collects frames and writes one WebP or GIF file when it is finished."""

    def __init__(self, path: Path, *, kind: str, fps: float, label: Label) -> None:
        if kind == "GIF" and fps > _FASTEST_GIF:
            raise Refusal(
                f"a .gif shows at most {_FASTEST_GIF} frames per second, not {fps:g}; use .webp or .mp4"
            )
        self._path, self._kind, self._fps, self._label = path, kind, fps, label
        self._images: list[Image.Image] = []

    def add(self, frames: UInt8[Tensor, "f h w 3"]) -> None:
        """Keeps the frames."""
        self._images += [Image.fromarray(picture.numpy()) for picture in frames]

    def finish(self) -> None:
        """Encodes everything that was added."""
        first, *others = self._images
        label = pack(replace(self._label, frames=len(self._images)))
        options = {"append_images": others, "save_all": True, "loop": 0, **self._label_option(label)}
        if self._kind == "GIF":
            first.save(self._path, "GIF", duration=self._durations(unit=10), **options)
        else:
            first.save(self._path, "WEBP", duration=self._durations(unit=1), quality=90, method=4, **options)

    def abandon(self) -> None:
        """Nothing is open before the end."""

    def _label_option(self, label: str) -> dict[str, bytes]:
        if self._kind == "GIF":
            return {"comment": label.encode()}
        block = Image.Exif()
        block[ExifTags.Base.ImageDescription] = label
        return {"exif": block.tobytes()}

    def _durations(self, *, unit: int) -> list[int]:
        """Milliseconds of each frame, in multiples of `unit`."""
        ends = [round(index * 1000 / self._fps / unit) * unit for index in range(len(self._images) + 1)]
        return [max(end - start, unit) for start, end in pairwise(ends)]


def moments(image: Image.Image, *, label: Label) -> Iterator[Moment]:
    """The frames of a picture file with their times in seconds; a still picture is one frame.

    A still that is labelled as a film of equal frames lasts as long as they did: libwebp makes one of them.
    """
    count = getattr(image, "n_frames", 1)
    film = label.frames / label.fps if count == 1 and label.frames and label.fps else None
    clock = 0
    for index in range(count):
        image.seek(index)
        image.load()  # here, because the duration of a frame is known only after it was decoded
        milliseconds = _duration(image)
        picture = picture_tensor(image)
        yield Moment(clock / 1000, film or milliseconds / 1000, lambda picture=picture: picture)
        clock += milliseconds


def rate(image: Image.Image) -> float:
    """Frames per second by the median duration (a last frame often stays longer); 1 for a still picture."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1:
        return 1.0
    durations = []
    for index in range(min(frames, _SAMPLE)):
        image.seek(index)
        image.load()
        durations.append(_duration(image))
    return 1000 / median(durations)


def _duration(image: Image.Image) -> int:
    # Unstated or absurdly short durations play at a tenth of a second in every browser.
    milliseconds = round(float(image.info.get("duration") or 0))
    return milliseconds if milliseconds > 10 else 100
