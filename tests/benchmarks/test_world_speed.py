"""The benchmark of drawing: every vocabulary and batch size is measured, on the same scenes."""

import json
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def bench(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("world_speed")
    monkeypatch.setitem(module.BATCHES, "cpu", (1, 2))
    return module


def test_every_case_is_measured_on_the_same_scenes(bench: ModuleType, monkeypatch: pytest.MonkeyPatch):
    drawn: dict[int, list[int]] = {1: [], 2: []}
    draw = bench.draw

    def spy(scenes, **settings):
        drawn[len(scenes)] += [scene.seed for scene in scenes]
        return draw(scenes, **settings)

    monkeypatch.setattr(bench, "draw", spy)
    rates = list(bench.measure("cpu", rounds=2, frames=1, size=(24, 16)))
    assert [(rate.vocabulary, rate.batch) for rate in rates] == [
        (name, batch) for name in ("full", "small") for batch in (1, 2)
    ]
    assert all(rate.fastest >= rate.median > 0 for rate in rates)
    assert drawn[1] == drawn[2] and len(set(drawn[1])) == 2 * 3 * 2


def test_a_result_is_a_line_and_can_be_written(bench: ModuleType):
    rate = bench.Rate("cpu", "small", 8, 50.0, 55.5)
    assert "small" in str(rate) and "50.0 clips/s" in str(rate) and "55.5" in str(rate)
    assert json.loads(json.dumps(bench.asdict(rate)))["batch"] == 8
