"""What the networks of a hierarchy add, at the smallest size: each way is compared with the true clips."""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from mutoscope.checkpoints.hierarchy_folder import HierarchyModel
from mutoscope.pipelines.hierarchy import Hierarchy
from tiny_hierarchy import tiny_hierarchy


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("hierarchy_tasks")


@pytest.fixture(scope="module")
def maker() -> Hierarchy:
    """Of the made world's words, and large enough for what SSIM looks through."""
    model: HierarchyModel = tiny_hierarchy()
    facts = model.facts.model_copy(update={"size": (32, 32), "vocabulary": "small"})
    return Hierarchy(replace(model, facts=facts), precision="float32", device="cpu")


def test_small_clips_are_made_as_large_as_the_true_ones(bench: ModuleType, maker: Hierarchy):
    films = bench.enlarged(maker, 2)
    assert set(films) == {"true", "bicubic", "upscaler"}
    shape = (1, 3, maker.chain.chunk, 32, 32)
    assert all(film.shape == shape for each in films.values() for film in each)
    assert not torch.equal(films["upscaler"][0], films["upscaler"][1])


def test_only_new_frames_are_compared(bench: ModuleType, maker: Hierarchy):
    films, every = bench.filled(maker, 1), maker.chain.every
    assert set(films) == {"true", "faded", "interpolation"}
    assert all(film.shape[2] == 2 * (every - 1) for each in films.values() for film in each)
    faded, true = films["faded"][0], films["true"][0]
    assert 0 < (faded - true).abs().mean() < true.std(), "fading is no copy, and no noise"


def test_a_line_tells_mean_and_deviation(bench: ModuleType):
    true = torch.rand(2, 3, 4, 16, 16) * 2 - 1
    lines = list(bench.rows({"true": list(true.split(1)), "paler": list((0.9 * true).split(1))}))
    assert len(lines) == 2 and lines[1].startswith("paler") and lines[1].endswith("0.900 ± 0.000")


def test_a_model_of_another_kind_is_refused(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from mutoscope.pipelines import Pipeline
    from tiny import tiny_model

    monkeypatch.setattr(bench, "load", lambda path: Pipeline(tiny_model(), precision="float32", device="cpu"))
    monkeypatch.setattr(sys, "argv", ["hierarchy_tasks.py", "folder"])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert "no hierarchy" in capsys.readouterr().err
