"""A folder in a few files of bounded size, and back: what a machine that is taken away leaves behind.

    python benchmarks/gpu/parcel.py FILES FOLDER         the files of a call -> the folder that was packed

A lent machine gives back at most 8 files of 16 MiB, 64 MiB together. The folder goes into one tar, the tar
into pieces, and `parcel.json`, written last, names them with their SHA-256: a parcel is whole or refused.
Nothing but the standard library is needed to unpack one.
"""

import argparse
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LABEL = "parcel.json"
PIECE = 15 * 2**20
WHOLE = 63 * 2**20
"""Bytes of one piece and of all: a little under the machine's limits of 16 and 64 MiB."""


class BrokenParcel(ValueError):
    """The files are no parcel, or not all of it."""


@dataclass(frozen=True)
class Parcel:
    """What was packed: the folder of the pieces, how many, and how many bytes."""

    folder: Path
    pieces: int
    size: int


def pack(folder: str | Path, into: str | Path, *, piece: int = PIECE, most: int = WHOLE) -> Parcel:
    """Pack all files of a folder into pieces in another, in place of a parcel that is there.

    Raises:
        BrokenParcel: the folder weighs more than `most` bytes; what was packed before stays as it is.
    """
    folder, into = Path(folder), Path(into)
    data = _tar(folder)
    if len(data) > most:
        raise BrokenParcel(f"{folder} weighs {len(data) / 2**20:.1f} MiB; {most / 2**20:.0f} can come back")
    into.mkdir(parents=True, exist_ok=True)
    parts = {f"part-{i // piece:02d}": data[i : i + piece] for i in range(0, len(data), piece)}
    (into / LABEL).unlink(missing_ok=True)  # half-replaced pieces must not look like a parcel
    for old in into.glob("part-*"):
        old.unlink()
    for name, part in parts.items():
        (into / name).write_bytes(part)
    seal = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    (into / LABEL).write_text(json.dumps(seal, indent=1))
    return Parcel(into, len(parts), len(data))


def pack_aloud(folder: str | Path, into: str | Path) -> None:
    """`pack`, and a line that says how it went: a run goes on though its parcel has grown too heavy."""
    try:
        parcel = pack(folder, into)
        print(f"{parcel.folder}: {parcel.pieces} pieces, {parcel.size / 2**20:.1f} MiB", flush=True)
    except BrokenParcel as error:
        print(f"NOT PACKED: {error}", flush=True)


def join(files: str | Path, folder: str | Path) -> Path:
    """Unpack the parcel in the folder `files` to `folder`, which appears whole or not at all.

    Raises:
        BrokenParcel: no parcel there, a piece is missing or damaged, or `folder` is there already.
    """
    files, folder = Path(files), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise BrokenParcel(f"{folder} is not empty; name another folder for what comes out")
    data = b"".join(_pieces(files))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".joining-") as writing:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(writing, filter="data")
        if folder.exists():
            folder.rmdir()
        shutil.copytree(writing, folder)
    return folder


def _tar(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            tar.add(path, arcname=path.relative_to(folder).as_posix())
    return buffer.getvalue()


def _pieces(files: Path) -> Iterable[bytes]:
    try:
        seal = json.loads((files / LABEL).read_text())
    except (OSError, ValueError) as error:
        raise BrokenParcel(f"{files}: no {LABEL} that can be read; name the folder of the files") from error
    for name, digest in sorted(seal.items()):
        path = files / Path(name).name
        part = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(part).hexdigest() != digest:
            raise BrokenParcel(f"{path} is missing or damaged; fetch the files of that call again")
        yield part


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Unpack the files that a call brought back.")
    parser.add_argument("files", type=Path, help="the folder with parcel.json and part-00, part-01, ..")
    parser.add_argument("folder", type=Path, help="where to unpack them; model/ in it is the model")
    chosen = parser.parse_args(arguments)
    try:
        folder = join(chosen.files, chosen.folder)
    except BrokenParcel as error:
        print(error, file=sys.stderr)
        return 2
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"{path.stat().st_size:>12,}  {path.relative_to(folder)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
