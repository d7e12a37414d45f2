"""Curves of a long film: what does not change has none, and what does is measured."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mutoscope.media import write_video
from mutoscope.video import Video


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("long_film")


def film(*seconds: torch.Tensor) -> Video:
    return Video(torch.cat(seconds), fps=4)


def second(*levels: int) -> torch.Tensor:
    """Four pictures of one grey each."""
    return torch.tensor(levels, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 8, 8, 3)


def test_a_still_film_neither_flickers_nor_drifts(bench: ModuleType):
    still = film(*[second(90, 90, 90, 90)] * 3)
    assert bench.flickers(still).tolist() == [0, 0, 0] and bench.drifts(still).tolist() == [0, 0, 0]


def test_flicker_is_in_grey_levels_and_drift_a_share_of_the_colours(bench: ModuleType):
    half = torch.cat([second(0, 0, 0, 0)[:, :4], second(255, 255, 255, 255)[:, :4]], dim=1)
    changing = film(second(0, 0, 0, 0), second(0, 10, 0, 10), half, second(255, 255, 255, 255))
    assert bench.flickers(changing).tolist() == pytest.approx([0, 20, 0, 0], abs=1e-3)
    assert bench.drifts(changing).tolist() == [0, 0, 0.5, 1]


def test_the_command_compares_a_film_with_true_ones_of_its_words(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_video(Video(torch.zeros(8, 16, 16, 3, dtype=torch.uint8), fps=4), tmp_path / "film.webp")
    record, picture = tmp_path / "curves.json", tmp_path / "curves.png"
    arguments = [str(tmp_path / "film.webp"), "--names", "black", "--true", "1"]
    arguments += ["--output", str(picture), "--record", str(record)]
    monkeypatch.setattr(sys, "argv", ["long_film.py", *arguments])
    full = bench.VOCABULARIES["full"]  # of which the first 250 scenes hold one of these words
    few = SimpleNamespace(scenes=lambda seed, start, count: full.scenes(seed, start, min(count, 250)))
    monkeypatch.setattr(bench, "VOCABULARIES", {"full": few})
    bench.main()
    found = json.loads(record.read_text())
    assert found["flicker"]["black"] == [0, 0] and len(found["drift"]["true"]) == 2
    assert found["flicker"]["true"][0] > 0, "it rains in the true one"
    assert picture.stat().st_size > 1000 and "drift" in capsys.readouterr().out
