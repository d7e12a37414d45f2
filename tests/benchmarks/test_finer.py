"""What makes films finer, at the smallest size: each way is compared with the true clips."""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from mutoscope.checkpoints.unet_folder import StageFacts, UNetModel
from mutoscope.pipelines import Filmmaker, Hierarchy, Pipeline, SpatialStage, TemporalStage
from tiny import tiny_model, tiny_unet_model
from tiny_hierarchy import tiny_hierarchy


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("finer")


def of_the_world(model: Any, **facts: Any) -> Any:
    """Of the made world's words, and large enough for what SSIM looks through."""
    own = {"size": (32, 32), "vocabulary": "small"} | facts
    return replace(model, facts=model.facts.model_copy(update=own))


def on_cpu(ready: type, model: Any) -> Filmmaker:
    return ready(model, precision="float32", device="cpu")


def stage_model(**facts: Any) -> UNetModel:
    return of_the_world(replace(tiny_unet_model(known=True), stage=StageFacts(**facts)), steps=2)


@pytest.fixture(scope="module")
def chain() -> Hierarchy:
    maker = on_cpu(Hierarchy, of_the_world(tiny_hierarchy()))
    assert isinstance(maker, Hierarchy)
    return maker


@pytest.fixture(scope="module")
def films() -> Filmmaker:
    """A model of films, which does both by reconstruction guidance."""
    return on_cpu(Pipeline, of_the_world(tiny_unet_model(), steps=2))


def test_small_clips_are_made_as_large_as_the_true_ones(
    bench: ModuleType, chain: Hierarchy, films: Filmmaker
):
    made = bench.enlarged({"chain": chain}, bench.Clips.larger(chain), 2)
    assert set(made) == {"true", "bicubic", "chain"}
    shape = (1, 3, chain.chain.chunk, 32, 32)
    assert all(film.shape == shape for each in made.values() for film in each)
    assert not torch.equal(made["chain"][0], made["chain"][1])
    stage = on_cpu(SpatialStage, stage_model())
    made = bench.enlarged({"stage": stage, "films": films}, bench.Clips.larger(stage), 1)
    assert {film.shape for each in made.values() for film in each} == {(1, 3, stage.facts.frames, 32, 32)}
    assert not torch.equal(made["stage"][0], made["films"][0])


def test_only_new_frames_are_compared(bench: ModuleType, chain: Hierarchy, films: Filmmaker):
    stage = on_cpu(TemporalStage, stage_model(kind="between", factor=2))
    for makers in ({"chain": chain}, {"stage": stage, "films": films}):
        first = next(iter(makers.values()))
        clips = bench.Clips.denser(first)
        made = bench.filled(makers, clips, 1)
        assert set(made) == {"true", "faded", *makers}
        new = (clips.frames - 1) // clips.factor * (clips.factor - 1)
        assert all(film.shape[2] == new >= 3 for each in made.values() for film in each)
        faded, true = made["faded"][0], made["true"][0]
        assert 0 < (faded - true).abs().mean() < true.std(), "fading is no copy, and no noise"


def test_a_line_tells_mean_and_deviation(bench: ModuleType):
    true = torch.rand(2, 3, 4, 16, 16) * 2 - 1
    lines = list(bench.rows({"true": list(true.split(1)), "paler": list((0.9 * true).split(1))}))
    assert len(lines) == 2 and lines[1].startswith("paler") and lines[1].endswith("0.900 ± 0.000")


def test_the_table_is_of_what_the_first_model_does(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    stage = on_cpu(TemporalStage, stage_model(kind="between"))
    made = {"between": stage, "words": on_cpu(Pipeline, tiny_model())}
    monkeypatch.setattr(bench, "load", lambda path: made[str(path)])
    monkeypatch.setattr(sys, "argv", ["finer.py", "between", "--clips", "1"])
    bench.main()
    said = capsys.readouterr().out
    assert "filled in between, 1 clips" in said and "enlarged" not in said
    monkeypatch.setattr(sys, "argv", ["finer.py", "words"])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert "no stage of a cascade" in capsys.readouterr().err
