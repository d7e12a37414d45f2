"""Where a video goes: which endings exist, whether a place can be written, how a file appears there at once.

Everything is written beside its final place under a hidden temporary name and moved there when it is
complete, so nobody ever sees half a file, and an error or Ctrl-C leaves the folder as it was (an older file
included). `check_writable` asks all of this before any work is done: an hour of sampling should not end at a
spelling mistake.
"""

from __future__ import annotations

import difflib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mutoscope.video import Refusal

__all__ = ["SUFFIXES", "appearing", "check_writable"]

SUFFIXES = (".mp4", ".webp", ".gif", ".png", "")
_MEANING = ".mp4, .webp, .gif, .png (contact sheet) or no ending at all (folder of PNG frames)"


def check_writable(path: str | Path) -> Path:
    """Gives the path back, without "..", if a video can be written there; creates nothing.

    Raises:
        Refusal: an unknown ending, a folder where a file should go or a file where a folder should, a folder
            that holds other things than our frames, a place without the right to write.
    """
    path = _plain(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        close = difflib.get_close_matches(suffix, SUFFIXES[:-1], n=1, cutoff=0.5)
        hint = f"; did you mean {path.with_suffix(close[0])}?" if close else ""
        raise Refusal(f"{path}: cannot write {suffix} files; the path must end in {_MEANING}{hint}")
    if suffix and path.is_dir():
        raise Refusal(
            f"{path} is a folder; give another file name, or a path without an ending for a folder of frames"
        )
    if not suffix:
        _check_folder(path)
    _check_parent(path)
    return path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Lends a temporary path in the same folder, which becomes `path` when the block ends well.

    A file is replaced in one step. A folder of frames is moved aside and removed after the new one stands in
    its place.
    """
    path = _plain(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{path}: the folder {path.parent} cannot be made ({error.strerror})") from None
    temporary = path.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        yield temporary
        try:
            _replace(temporary, path)
        except OSError as error:
            raise Refusal(f"{path}: cannot be put in its place ({error.strerror})") from None
    finally:  # also after KeyboardInterrupt; after success there is nothing left to remove
        _remove(temporary)


def _plain(path: str | Path) -> Path:
    """Without "..": "new/.." exists only once "new" was made, but what is checked must be what is written."""
    return Path(os.path.normpath(path))


def _replace(temporary: Path, path: Path) -> None:
    if not (path.is_dir() and temporary.is_dir()):
        os.replace(temporary, path)
        return
    _check_folder(path)  # once more: the old folder is about to be removed, and hours may have passed
    aside = path.with_name(f".{secrets.token_hex(8)}.old")
    os.replace(path, aside)
    os.replace(temporary, path)
    shutil.rmtree(aside, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise Refusal(
            f"{path} is a file without an ending; a folder of frames needs another name, a video {_MEANING}"
        )
    if path.is_dir():
        strangers = [entry.name for entry in path.iterdir() if not _is_frame(entry.name)]
        if strangers:
            raise Refusal(
                f"{path} holds other things than frames ({sorted(strangers)[0]}); name a new folder, "
                f"or a file: {_MEANING}"
            )


def _is_frame(name: str) -> bool:
    return name.endswith(".png") and name[:-4].isdigit()


def _check_parent(path: Path) -> None:
    standing = next(parent for parent in path.absolute().parents if parent.exists())
    if not standing.is_dir():
        raise Refusal(f"{path}: {standing} is a file, so nothing can be written below it")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise Refusal(f"{path}: no right to write in {standing}; choose another folder")
