"""The ways of a part compute the same, and the record says what was timed."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.mark.slow
def test_every_way_of_a_part_is_as_exact_as_the_first(
    gpu_script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    unet_parts = gpu_script("unet_parts")
    monkeypatch.setattr(torch, "compile", lambda way, **_: way)  # the compiler is not what is tested
    assert unet_parts.main(["--toy", "--rounds", "1", "--out", str(tmp_path / "record.json")]) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    parts = [name for name in record if name not in ("machine", "rounds")]
    assert [name.split()[0] for name in parts] == ["group", "layer", "feed", "frames"]
    for name in parts:
        ways = {way: row for way, row in record[name].items() if way not in ("shape", "at least")}
        assert len(ways) >= 2
        first = ways["as it is"]["error"]
        assert all(0 < row["error"] < 2 * first and row["milliseconds"] > 0 for row in ways.values())
