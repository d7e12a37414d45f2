"""A report is three files, or one clear line."""

import json
from pathlib import Path

import pytest
import torch

from mutoscope.pipelines.saved import Stage, save_report
from mutoscope.video import Refusal

SHEET = torch.zeros(4, 6, 3, dtype=torch.uint8)


def test_numbers_table_and_sheet_are_written(tmp_path: Path) -> None:
    folder = save_report(tmp_path / "a" / "b", "rain", facts={"é": [1.5, None]}, text="a table", sheet=SHEET)
    assert json.loads((folder / "rain.json").read_text(encoding="utf-8")) == {"é": [1.5, None]}
    assert (folder / "rain.txt").read_text() == "a table\n"
    assert (folder / "rain.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refusal, match="name another folder"):
        save_report(tmp_path / "file", "rain", facts={}, text="", sheet=SHEET)


def test_a_stage_reads_as_progress() -> None:
    assert str(Stage("films, seed 0", 3, 200)) == "films, seed 0 3/200"
