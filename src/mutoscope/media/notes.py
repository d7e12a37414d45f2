"""What travels inside a file beside its pictures.

A `Label` holds the notes of a video (prompt, seed, settings ...) and facts that a container may not be able
to say exactly: the frame rate (GIF counts in hundredths of a second), the true size (H.264 wants even sides),
and the number of frames (a WebP of nothing but equal ones becomes a still picture). It is packed as one line
of ASCII JSON under the key `mutoscope`, so every format carries the same thing and gives it back unchanged: a
tag in MP4, a text chunk in PNG, the image description of the EXIF block in WebP, the comment in GIF. MP4 and
PNG carry each note under its own name as well, for others' tools.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KEY", "Label", "pack", "unpack"]

KEY = "mutoscope"

# Words that containers and Pillow write by themselves: they tell nothing about how the video was made.
_FOREIGN = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", KEY})


@dataclass(frozen=True)
class Label:
    """Notes, with the rate, the true size (width, height) and the length where a file of ours states them."""

    notes: dict[str, str] = field(default_factory=dict)
    fps: float | None = None
    size: tuple[int, int] | None = None
    frames: int | None = None


def pack(label: Label) -> str:
    """The label as one line of ASCII JSON."""
    facts = {"notes": label.notes, "fps": label.fps, "size": label.size}
    return json.dumps(facts if label.frames is None else {**facts, "frames": label.frames})


def unpack(packed: str | bytes | None, *, tags: Mapping[str, object] | None = None) -> Label:
    """The label out of a file: from our own line where there is one, else from plain tags.

    A file is someone else's word: whatever is malformed counts as absent, and nothing here raises.
    """
    content = _parsed(packed)
    if content is None:
        return Label({name: text for name, text in (tags or {}).items() if _is_note(name, text)})  # type: ignore[misc]
    return Label(
        _texts(content.get("notes")),
        _rate(content.get("fps")),
        _size(content.get("size")),
        _count(content.get("frames")),
    )


def _parsed(packed: str | bytes | None) -> dict[str, Any] | None:
    try:
        content = json.loads(packed or "")
    except (ValueError, RecursionError):  # RecursionError: ten thousand open brackets
        return None
    return content if isinstance(content, dict) and "notes" in content else None


def _is_note(name: object, text: object) -> bool:
    return isinstance(name, str) and isinstance(text, str) and name not in _FOREIGN


def _texts(value: object) -> dict[str, str]:
    return {name: str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def _rate(value: object) -> float | None:
    sane = isinstance(value, int | float) and math.isfinite(value) and 0 < value <= 1000
    return float(value) if sane else None  # type: ignore[arg-type]


def _size(value: object) -> tuple[int, int] | None:
    match value:
        case [int(width), int(height)] if width > 0 and height > 0:
            return width, height
    return None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
