"""Checkpoints of a run that survive being killed at any moment.

A checkpoint is a folder, written aside and moved into place by one rename when all of it is on the disk:

    step-00001234/
      tensors.safetensors    weights.<module>.<name>, average.<module>.<name>, optimizer.<name>
      facts.json             numbers and settings
      COMPLETE               sizes and SHA-256 of the two, written last

A reader trusts only folders whose COMPLETE agrees with what is there, and takes the newest of them, so a torn
or bit-rotten one costs the steps since the one before and not the run. Nothing here unpickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mutoscope.video import Refusal

__all__ = ["Checkpoint", "latest", "load", "save"]

TENSORS, FACTS, COMPLETE = "tensors.safetensors", "facts.json", "COMPLETE"
WRITING, REPLACED = ".writing-", ".replaced"
NAME = re.compile(r"step-(\d{8,})(\.replaced)?")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were found whole.

    Args:
        path: its folder.
        step: steps done when it was written.
        facts: what `save` was given.
    """

    path: Path
    step: int
    facts: dict[str, Any]

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, named without it; only these are read."""
        with safe_open(self.path / TENSORS, framework="pt") as file:
            return {n.removeprefix(prefix): file.get_tensor(n) for n in file.keys() if n.startswith(prefix)}

    def weights(self, module: str, *, averaged: bool = True) -> dict[str, Tensor]:
        """State dict of one trained module; with its averaged weights, where the run kept an average.

        Raises:
            Refusal: there is no such module in the checkpoint.
        """
        state = self.tensors(f"weights.{module}.")
        if not state:
            raise Refusal(
                f"no module {module!r} in {self.path}; there are: {', '.join(self.modules()) or 'none'}"
            )
        return state | self.tensors(f"average.{module}.") if averaged else state

    def modules(self) -> list[str]:
        """Names of the modules it holds."""
        with safe_open(self.path / TENSORS, framework="pt") as file:
            return sorted({n.split(".")[1] for n in file.keys() if n.startswith("weights.")})


def save(
    folder: Path, step: int, *, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write `step-<step>` into `folder`, and drop all but the newest `keep` (at least 2).

    Raises:
        Refusal: the disk is full or not writable; what was there before is still there.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        writing = Path(tempfile.mkdtemp(prefix=WRITING, dir=folder))
        try:
            _write(writing, tensors=tensors, facts=facts)
            final = _move_into_place(writing, folder / f"step-{step:08d}")
        finally:
            shutil.rmtree(writing, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise Refusal(
            f"cannot write a checkpoint into {folder}: {error}; free some space or choose another run "
            "folder, the checkpoints before this one are untouched"
        ) from error
    _prune(folder, keep=max(2, keep))
    return final


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None; torn and damaged ones are passed over."""
    return next((c for c in map(_read, _newest_first(Path(folder))) if c), None)


def load(path: Path) -> Checkpoint:
    """One checkpoint by its folder, or the newest of a folder of checkpoints.

    Raises:
        Refusal: nothing whole is there.
    """
    path = Path(path)
    found = _read(path) if NAME.fullmatch(path.name) else latest(path)
    if found is None:
        raise Refusal(
            f"no complete checkpoint in {path}; give a run's `checkpoints` folder or one `step-...` in it"
        )
    return found


def _write(folder: Path, *, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    save_file(_own_memory(tensors), folder / TENSORS)
    (folder / FACTS).write_text(json.dumps(dict(facts), indent=1, sort_keys=True))
    seal = {name: _fingerprint(folder / name) for name in (TENSORS, FACTS)}
    (folder / COMPLETE).write_text(json.dumps(seal, indent=1))
    for name in (TENSORS, FACTS, COMPLETE, ""):
        _sync(folder / name)


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dense CPU tensors that share nothing: safetensors refuses tied weights, we write them twice."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        dense = tensor.detach().to("cpu").contiguous()
        address = dense.untyped_storage().data_ptr()
        owned[name] = dense.clone() if address in seen else dense
        seen.add(address)
    return owned


def _move_into_place(writing: Path, final: Path) -> Path:
    # A folder cannot be renamed onto a full one. The old one keeps a name that `latest` still reads, so
    # that a kill between the two renames loses nothing.
    old = final.with_name(final.name + REPLACED)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    writing.rename(final)
    _sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)
    return final


def _read(path: Path) -> Checkpoint | None:
    name = NAME.fullmatch(path.name)
    try:
        seal = json.loads((path / COMPLETE).read_text())
        if not name or any(seal[f] != _fingerprint(path / f) for f in (TENSORS, FACTS)):
            return None
        return Checkpoint(path=path, step=int(name[1]), facts=json.loads((path / FACTS).read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _newest_first(folder: Path) -> Iterator[Path]:
    """Checkpoint folders by falling step, one that was being replaced after the one that replaced it."""
    named = [(p, NAME.fullmatch(p.name)) for p in (folder.iterdir() if folder.is_dir() else ())]
    found = [(-int(m[1]), bool(m[2]), p) for p, m in named if m and p.is_dir()]
    return (path for _, _, path in sorted(found))


def _prune(folder: Path, *, keep: int) -> None:
    """Drop the oldest. Torn ones do not count, so that they never push out a good one."""
    whole = 0
    for path in _newest_first(folder):
        if whole >= keep:
            shutil.rmtree(path, ignore_errors=True)
        whole += _sizes_agree(path)


def _sizes_agree(path: Path) -> bool:
    try:
        seal = json.loads((path / COMPLETE).read_text())
        return all(seal[f]["bytes"] == (path / f).stat().st_size for f in (TENSORS, FACTS))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sweep(folder: Path) -> None:
    """What a killed writer left; one process at a time writes into a run."""
    for left in folder.glob(f"{WRITING}*"):
        shutil.rmtree(left, ignore_errors=True)
