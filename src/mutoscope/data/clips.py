"""Folders of real clips: films or pictures with a line of text each, laid out as a Hugging Face videofolder.

    clips/
      metadata.csv  or  metadata.jsonl       columns file_name (relative to this file) and text
      run.mp4  jump.webm  cat.png            a picture is a film of one frame

Without metadata, every film and picture in the folder (and in folders below) is a clip, and its text stands
in a file of the same name with the ending .txt; without one the text is empty. Text from a download is not
trusted: a file name may not leave its folder. Real collections contain broken files: `verify` opens every
clip once, names the bad ones with the reason, and gives the good ones to train on.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.media import PICTURES, open_reader
from mutoscope.video import Refusal, resize

__all__ = ["Clip", "Fault", "Verdict", "check_clip", "find_clips", "read_clip", "verify"]

FILMS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
METADATA = ("metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class Clip:
    """A file and the words for it; `frames` and `fps` are known once `verify` has opened it."""

    path: Path
    text: str
    frames: int | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Fault:
    """A clip that cannot be used: its name as the folder gives it, and why not, in one line."""

    name: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What `verify` found, in the folder's order: clips to use, their frames counted, and faults."""

    good: tuple[Clip, ...]
    bad: tuple[Fault, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.good)} clips can be used, {len(self.bad)} cannot"]
        return "\n".join(lines + [f"  {fault.name}: {fault.reason}" for fault in self.bad])


def find_clips(folder: str | Path) -> list[Clip]:
    """All clips that a folder lists, without opening them.

    Raises:
        Refusal: no such folder, no clips, unreadable metadata, or a row whose file name is empty or leaves
            the folder.
    """
    clips = []
    for entry in _listed(Path(folder)):
        if isinstance(entry, Fault):
            raise Refusal(f"{folder}: {entry.name}: {entry.reason}")
        clips.append(entry)
    return clips


def verify(folder: str | Path, *, seconds: float = 5.0) -> Verdict:
    """Opens and decodes every clip of a folder, at most `seconds` each; bad ones are reported and left out.

    Raises:
        Refusal: no such folder, no clips, unreadable metadata, or not one clip that can be used.
    """
    good: list[Clip] = []
    bad: list[Fault] = []
    for entry in _listed(Path(folder)):
        if isinstance(entry, Fault):
            bad.append(entry)
            continue
        try:
            good.append(check_clip(entry, seconds=seconds))
        except Refusal as refusal:
            name = entry.path.relative_to(folder).as_posix()
            bad.append(Fault(name, str(refusal).removeprefix(f"{entry.path}: ")))
    if not good:
        raise Refusal(
            f"{folder}: none of its {len(bad)} clips can be read; the first: {bad[0].name}: {bad[0].reason}"
        )
    return Verdict(tuple(good), tuple(bad))


def check_clip(clip: Clip, *, seconds: float = 5.0) -> Clip:
    """Decodes a clip and gives it back with its frame count and rate.

    A long clip is checked for `seconds` only; its count is then the number of frames seen by that time.

    Raises:
        Refusal: a file that is missing, broken, damaged, or without frames.
    """
    deadline = time.monotonic() + seconds
    count = 0
    with open_reader(clip.path) as reader:
        for _ in reader.frames:
            count += 1
            if time.monotonic() > deadline:
                break
    if not count:
        raise Refusal(f"{clip.path}: holds no frames")
    return replace(clip, frames=count, fps=reader.fps)


def read_clip(
    clip: Clip, *, frames: int, size: tuple[int, int], fps: float | None = None, start: int = 0
) -> Float[Tensor, "3 f h w"]:
    """A window of a clip as networks see it: float32 `3 f h w` in [-1, 1].

    Each frame is cut to the aspect ratio of `size` around its centre and then resized (bicubic,
    anti-aliased). A clip that ends before the window does stands still: its last frame is repeated.

    Args:
        clip: from `find_clips` or `verify`.
        frames: length of the window.
        size: width and height.
        fps: rate to resample to; None keeps the clip's.
        start: first frame of the window, counted at that rate.

    Raises:
        Refusal: a broken file, or a window that begins after the clip's end.
    """
    with open_reader(clip.path, start=start, max_frames=frames, fps=fps) as reader:
        window = [_fitted(picture, size) for picture in reader.frames]
    if not window:
        raise Refusal(f"{clip.path}: no frame {start}; the clip ends before")
    window += window[-1:] * (frames - len(window))
    return rearrange(torch.stack(window), "f h w c -> c f h w").float() / 127.5 - 1


def _fitted(picture: UInt8[Tensor, "h w 3"], size: tuple[int, int]) -> UInt8[Tensor, "height width 3"]:
    height, width = picture.shape[:2]
    cut_width = max(1, min(width, round(height * size[0] / size[1])))
    cut_height = max(1, min(height, round(width * size[1] / size[0])))
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    centre = picture[top : top + cut_height, left : left + cut_width]
    return rearrange(resize(centre[None], width=size[0], height=size[1]), "1 h w c -> h w c")


def _listed(folder: Path) -> list[Clip | Fault]:
    if not folder.is_dir():
        raise Refusal(f"{folder}: no such folder")
    lists = [path for name in METADATA for path in sorted(folder.rglob(name))]
    found = (entry for path in lists for entry in _rows(path, folder)) if lists else _files(folder)
    listed: list[Clip | Fault] = list(found)
    if not listed:
        raise Refusal(
            f"{folder}: no clips; put films ({', '.join(FILMS)}) or pictures ({', '.join(PICTURES)}) there, "
            f"with {' or '.join(METADATA)} or a .txt file beside each"
        )
    return listed


def _files(folder: Path) -> Iterator[Clip]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in FILMS + PICTURES and path.is_file() and not hidden:
            beside = path.with_suffix(".txt")
            text = beside.read_text("utf-8-sig", errors="replace").strip() if beside.is_file() else ""
            yield Clip(path, text)


def _rows(metadata: Path, folder: Path) -> Iterator[Clip | Fault]:
    """The rows of a metadata file; `file_name` counts from the folder the file stands in."""
    parse = _csv_rows if metadata.suffix == ".csv" else _json_rows
    try:
        with open(metadata, encoding="utf-8-sig", newline="") as lines:
            for row in parse(lines, metadata):
                yield _entry(row, metadata, folder)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{metadata}: cannot be read ({error})") from None


def _entry(row: dict[str, object], metadata: Path, folder: Path) -> Clip | Fault:
    name, text = row.get("file_name"), row.get("text")
    if not isinstance(name, str) or not name.strip():
        return Fault(metadata.relative_to(folder).as_posix(), "a row without a file name")
    if not _stays_inside(name):
        return Fault(name, "the file name leaves the folder; only names inside it are allowed")
    return Clip(metadata.parent / name, text if isinstance(text, str) else "")


def _stays_inside(name: str) -> bool:
    """By its letters alone, under the rules of every system; links that the owner of the folder made are his
    own.
    """
    path = PureWindowsPath(name)  # takes both kinds of slashes, and knows drives
    return not (path.drive or path.root or ".." in path.parts)


def _csv_rows(lines: Iterable[str], metadata: Path) -> Iterator[dict[str, object]]:
    table = csv.DictReader(lines)
    _check_columns(table.fieldnames or (), metadata)
    yield from table  # type: ignore[misc]


def _json_rows(lines: Iterable[str], metadata: Path) -> Iterator[dict[str, object]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refusal(f"{metadata}: line {number} is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise Refusal(f"{metadata}: line {number} is no JSON object with file_name and text")
        _check_columns(row, metadata)
        yield row


def _check_columns(columns: Iterable[str], metadata: Path) -> None:
    missing = {"file_name", "text"} - set(columns)
    if missing:
        raise Refusal(
            f"{metadata}: no column {' and '.join(sorted(missing))}; it has {', '.join(columns) or 'none'}, "
            "and file_name and text are needed"
        )
