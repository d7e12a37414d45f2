"""Single pictures: PNG files with their label, and any common picture file as a tensor.

PNG text chunks hold the label under `mutoscope` and every note under its own name. A folder of frames is
000000.png, 000001.png, ... and its first picture carries the label for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, PngImagePlugin
from torch import Tensor

from mutoscope.media.notes import KEY, Label, pack, unpack
from mutoscope.video import Refusal

__all__ = ["FORMATS", "FolderSink", "label_of", "open_picture", "picture_tensor", "save_png"]

# Pillow tries every format it knows; only these are opened here (the rest are old, rarely tested decoders).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


class FolderSink:
    """Takes frames one chunk after another and writes each as a PNG file into a new folder."""

    def __init__(self, folder: Path, *, label: Label) -> None:
        folder.mkdir()
        self._folder, self._label, self._next = folder, label, 0

    def add(self, frames: UInt8[Tensor, "f h w 3"]) -> None:
        """Writes the frames at once."""
        for picture in frames:
            label = self._label if self._next == 0 else None
            save_png(picture, self._folder / f"{self._next:06d}.png", label=label)
            self._next += 1

    def finish(self) -> None:
        """Nothing is held back."""

    def abandon(self) -> None:
        """Nothing is open between two frames."""


def save_png(picture: UInt8[Tensor, "h w 3"], path: Path, *, label: Label | None = None) -> None:
    """Writes one picture; the label goes into text chunks."""
    chunks = PngImagePlugin.PngInfo()
    if label is not None:
        chunks.add_text(KEY, pack(label))
        for name, text in label.notes.items():
            if _is_keyword(name):
                chunks.add_text(name, text.replace("\0", ""))
    Image.fromarray(picture.numpy()).save(path, "PNG", pnginfo=chunks)


def open_picture(path: Path, *, max_pixels: int) -> Image.Image:
    """Opens a picture file and reads its header; the pixels stay on disk until they are asked for.

    Raises:
        Refusal: no picture, or one of more than `max_pixels` pixels. Broken pixels are met when decoding.
    """
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError:
        raise Refusal(f"{path}: the picture is too large to open") from None
    except Exception as error:  # Pillow's parsers raise half a dozen kinds on hostile headers
        raise Refusal(f"{path}: {_reason(error)}") from None
    if image.width * image.height > max_pixels:
        image.close()
        raise Refusal(
            f"{path}: {image.width}x{image.height} is more than the {max_pixels} pixels allowed for a picture"
        )
    return image


def picture_tensor(image: Image.Image) -> UInt8[Tensor, "h w 3"]:
    """The pixels as 8-bit RGB, upright as EXIF says, transparent parts on white, 16-bit greys as 8-bit."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        grey = np.asarray(upright).astype(np.int64).clip(0, 65535) >> 8
        upright = Image.fromarray(grey.astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return torch.from_numpy(np.array(upright.convert("RGB")))


def label_of(image: Image.Image) -> Label:
    """The label of a PNG, WebP or GIF file that Pillow has opened."""
    comment = image.info.get("comment")
    description = image.getexif().get(ExifTags.Base.ImageDescription)
    tags: Mapping[str, object] = getattr(image, "text", {})
    for packed in (image.info.get(KEY), description, comment):
        if isinstance(packed, str | bytes) and (label := unpack(packed)) != Label():
            return label
    plain = {"comment": comment.decode(errors="replace")} if isinstance(comment, bytes) else {}
    return unpack(None, tags={**plain, **tags})


def _is_keyword(name: str) -> bool:
    # The rule of the PNG standard: 1 to 79 bytes of Latin-1. Other names travel in the label alone.
    return (
        name != KEY
        and 0 < len(name) < 80
        and name.isprintable()
        and name == name.strip()
        and ord(max(name)) < 256
    )


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return (
            "no video or picture that can be read (mp4, mov, mkv, webm, avi, mpg, png, jpg, webp, gif, bmp)"
        )
    return f"a damaged picture ({error or type(error).__name__})"
