"""The benchmark of decoding: its variants make the same film, and its ratios are those of paired rounds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "decode_speed.py"
    spec = importlib.util.spec_from_file_location("decode_speed", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.mark.oracle
def test_all_variants_decode_the_same_film(bench):
    torch.manual_seed(0)
    decoders = bench.variants(bench.Film(frames=5, width=24, height=16, base=4))
    with torch.no_grad():
        assert all(decode().shape == (1, 3, 5, 16, 24) for decode in decoders.values())
    error = bench.errors(decoders)
    assert error["diffusers fp32"] == 0
    assert error["mutoscope fp32"] < 1e-4
    assert all(0 < e < 0.2 for name, e in error.items() if "bf16" in name)


def test_ratios_are_taken_within_rounds(bench):
    # The second round was slow for all: the ratio of medians would mix rounds.
    row = bench.row([2.0, 8.0, 3.0], [1.0, 4.0, 1.0], 0.0)
    assert row.ours_is_faster == 2.0 and row.seconds == 3.0
    assert row.quartiles == (2.5, 5.5)
    assert bench.row([2.0], [1.0], 0.0).quartiles == (2.0, 2.0)


def test_turns_are_taken(bench):
    order: list[str] = []
    seconds = bench.take_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)
    assert order == ["a", "b", "a", "b"] and [len(times) for times in seconds.values()] == [2, 2]


def test_the_table_has_a_line_for_each_variant(bench):
    row = bench.row([2.0, 2.0], [1.0, 1.0], 0.01)
    lines = bench.table({"one": row, "two": row}).splitlines()
    assert len(lines) == 3 and "2.00x" in lines[1] and "1.0e-02" in lines[2]


def test_a_toy_is_not_kept(bench, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["decode_speed", "--toy", "--save"])
    with pytest.raises(SystemExit):
        bench.main()
