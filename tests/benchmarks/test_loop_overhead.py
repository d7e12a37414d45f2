"""The benchmark of the loop: it times the network that sampling calls, and nothing of it twice."""

import json
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from mutoscope.models.transformer import Transformer
from mutoscope.pipelines import Pipeline
from tiny import tiny_model


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("loop_overhead")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_model(), precision="float32", device="cpu")


@pytest.mark.parametrize(("settings", "calls"), [({}, 6), ({"guidance": 1}, 3), ({"sampler": "heun"}, 10)])
def test_every_call_of_the_network_is_timed(
    bench: ModuleType, pipeline: Pipeline, settings: dict, calls: int
) -> None:
    forward = Transformer.forward
    row = bench.overhead(pipeline, settings)
    assert row["calls"] == calls and row["network_ms"] > 0 and row["loop_ms"] > 0
    assert row["overhead"] == pytest.approx(row["loop_ms"] / row["network_ms"])
    assert Transformer.forward is forward, "the network is given back as it was"


def test_all_ways_are_measured_and_kept(bench: ModuleType, pipeline, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(bench, "load", lambda device: pipeline)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "loop_overhead.json")
    monkeypatch.setattr(sys, "argv", ["loop_overhead.py", "--rounds", "1", "--steps", "2", "--save"])
    bench.main()
    kept = json.loads(bench.RESULTS.read_text())
    assert kept["ways"].keys() == bench.WAYS.keys() and kept["steps"] == 2
    assert all(name in capsys.readouterr().out for name in ["unipc, zero-star, rescale"])


def test_a_toy_is_not_kept(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["loop_overhead.py", "--toy", "--save"])
    with pytest.raises(SystemExit):
        bench.main()
