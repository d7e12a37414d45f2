"""What a run keeps on the disk beside its checkpoints, and who may touch it.

settings.json    the settings the run began with; the number of steps, once it is known
metrics.jsonl    a line per step, cut back to the checkpoint at resume so that no step is told twice
lock             held while a process trains here; freed by the system however that process ends
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from mutoscope.video import Refusal

__all__ = ["Metrics", "Plan", "RunFolder", "Signals"]


@dataclass(frozen=True)
class Plan:
    """Settings of a run as stored, and its length.

    Args:
        settings: everything the run depends on.
        steps: optimizer steps of the run; None until the rate of a time budget is measured.
        measured: step at which that happened, 0 where `steps` was given.
    """

    settings: dict[str, Any]
    steps: int | None
    measured: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class RunFolder:
    """A run's folder, locked while it is open.

    Raises:
        Refusal: another process trains there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock = (self.path / "lock").open("a")
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            raise Refusal(
                f"another process is training in {self.path}; wait for it or take another folder"
            ) from None
        except OSError as error:
            raise Refusal(f"cannot use {self.path} as run folder: {error}") from error
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.lock.close()

    def agree(
        self, settings: dict[str, Any], *, ignored: Sequence[str], steps: int | None, begun: bool
    ) -> Plan:
        """The stored plan, if the settings are those of the stored run, or a new one.

        Args:
            ignored: settings that may differ.
            steps: of a new run, if known.
            begun: whether there is a checkpoint; without one nothing is lost by starting anew.

        Raises:
            Refusal: other settings differ.
        """
        file = self.path / "settings.json"
        if not file.exists():
            return self._write(Plan(settings=settings, steps=steps))
        stored = Plan(**json.loads(file.read_text()))
        differing = _differences(stored.settings, settings, ignored=ignored)
        if not differing:
            return self._write(Plan(settings=settings, steps=stored.steps, measured=stored.measured))
        if not begun:
            return self._write(Plan(settings=settings, steps=steps))
        raise Refusal(
            f"{self.path} holds a run with other settings: {'; '.join(differing)}. Repeat the stored "
            f"settings to resume it, or take a new run folder; there, init_from={self.path} goes on from "
            "its weights"
        )

    def fix_steps(self, steps: int, *, measured: int) -> Plan:
        """Store the length of the run, once and for all."""
        stored = Plan(**json.loads((self.path / "settings.json").read_text()))
        return self._write(Plan(settings=stored.settings, steps=steps, measured=measured))

    def _write(self, plan: Plan) -> Plan:
        file, aside = self.path / "settings.json", self.path / "settings.json.writing"
        with aside.open("w") as out:
            json.dump(plan.as_dict(), out, indent=1, sort_keys=True)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
        return plan


class Metrics:
    """metrics.jsonl: one JSON object a line, each with its `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[str] | None = None

    def truncate(self, step: int) -> None:
        """Cut off what is later than `step`, and a line torn by a kill."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            while line := file.readline():
                if not line.endswith(b"\n") or not _told_by(line, step):
                    file.seek(-len(line), os.SEEK_CUR)
                    break
            file.truncate()

    def write(self, line: Mapping[str, Any]) -> None:
        if self.file is None:
            self.file = self.path.open("a", buffering=1)  # by lines, so that one can watch
        self.file.write(json.dumps(dict(line)) + "\n")

    def flush(self) -> None:
        """On the disk, so that a checkpoint never is ahead of it."""
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())


class Signals:
    """While open, SIGTERM and Ctrl-C only set `caught`; a second Ctrl-C interrupts as usual.

    Python allows handlers in the main thread only; elsewhere nothing is caught.
    """

    def __init__(self) -> None:
        self.caught = ""
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = signal.Signals(number).name


def _told_by(line: bytes, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False


def _differences(stored: Mapping[str, Any], given: Mapping[str, Any], *, ignored: Sequence[str]) -> list[str]:
    old, new = _flat(stored), _flat(given)
    return [
        f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key.split(".")[0] not in ignored
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists and tuples alike."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
