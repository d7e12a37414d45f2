"""The benchmark of a denoising step, and how it takes turns: same weights, same flow, paired ratios."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def turns(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("turns")


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("transformer_step")


@pytest.mark.oracle
def test_all_variants_predict_the_same_flow(bench: ModuleType, turns: ModuleType) -> None:
    found = bench.networks(bench.TOY, compiled=False)
    assert list(found) == ["diffusers fp32", "diffusers bf16", "mutoscope fp32", "mutoscope bf16"]
    case = bench.TOY_CASES[0]
    variants = {name: bench.step(network, case, text_dim=32) for name, network in found.items()}
    with torch.no_grad():
        assert all(run().shape == (1, 16, *case.size) for run in variants.values())
        assert variants["diffusers fp32"]().std() > 0.1
    error = turns.errors(variants)
    assert error["diffusers fp32"] == 0 and error["mutoscope fp32"] < 1e-5
    assert all(1e-4 < e < 0.03 for name, e in error.items() if "bf16" in name)


def test_text_rows_are_part_of_a_case(bench: ModuleType) -> None:
    network = bench.networks(bench.TOY, compiled=False)["diffusers fp32"]
    with torch.no_grad():
        few, many = (bench.step(network, bench.Case((2, 3, 4), rows), text_dim=32)() for rows in (64, 512))
    assert not torch.allclose(few, many, atol=1e-3)


def test_the_size_is_the_one_it_says(bench: ModuleType) -> None:
    assert sorted({case.tokens for case in bench.CASES}) == [448, 1296] and len(bench.CASES) == 4
    count = sum(p.numel() for p in bench.Transformer(bench.CONFIG).parameters())
    assert 24e6 < count < 26e6


def test_a_toy_runs_and_is_not_kept(bench: ModuleType, monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(
        sys, "argv", ["transformer_step", "--toy", "--threads", "1", "--rounds", "2", "--plain-malloc"]
    )
    bench.main()
    printed = capsys.readouterr().out
    assert "24 tokens, 64 text rows, 1 threads, 2 rounds" in printed and "mutoscope bf16" in printed
    monkeypatch.setattr(sys, "argv", ["transformer_step", "--toy", "--save"])
    with pytest.raises(SystemExit):
        bench.main()
    assert not (tmp_path / "results.json").exists()


def test_turns_are_taken(turns: ModuleType) -> None:
    order: list[str] = []
    seconds = turns.take_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)
    assert order == ["a", "b", "a", "b"] and [len(times) for times in seconds.values()] == [2, 2]


def test_ratios_are_taken_within_rounds(turns: ModuleType) -> None:
    # The second round was slow for all: the ratio of medians would mix rounds.
    row = turns.row([2.0, 8.0, 3.0], [1.0, 4.0, 1.0], error=0.0)
    assert row.times_reference == 2.0 and row.milliseconds == 3000
    assert row.quartiles == (2500, 5500)
    assert turns.row([2.0], [1.0], error=0.0).quartiles == (2000, 2000)


def test_the_table_has_a_line_for_each_variant(turns: ModuleType) -> None:
    results = turns.rows({"one": [2.0, 2.0], "two": [1.0, 1.0]}, {"one": 0.01, "two": 0.0}, reference="two")
    lines = turns.table(results, reference="two").splitlines()
    assert len(lines) == 3 and "2.00" in lines[1] and "1.0e-02" in lines[1]


def test_errors_are_relative_to_the_first(turns: ModuleType) -> None:
    error = turns.errors({"exact": lambda: torch.full((4,), 2.0), "off": lambda: torch.full((4,), 2.2)})
    assert error == {"exact": 0.0, "off": pytest.approx(0.1, rel=1e-4)}
