"""What every report shares: the progress that it yields on the way, and the three files that it becomes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from mutoscope.media import save_png
from mutoscope.video import Refusal

__all__ = ["Stage", "save_report"]


@dataclass(frozen=True)
class Stage:
    """What is being done, and how far it is."""

    what: str
    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.what} {self.done}/{self.total}"


def save_report(
    folder: str | Path, name: str, *, facts: dict[str, Any], text: str, sheet: UInt8[Tensor, "h w 3"]
) -> Path:
    """Write name.json (numbers), name.txt (a table) and name.png (a contact sheet); gives the folder back.

    Raises:
        Refusal: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / f"{name}.json").write_text(numbers + "\n", encoding="utf-8")
        (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
        save_png(sheet, folder / f"{name}.png")
    except OSError as error:
        raise Refusal(
            f"cannot write the report to {folder} ({error.strerror or error}); name another folder"
        ) from error
    return folder
