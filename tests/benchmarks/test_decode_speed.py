"""The benchmark of decoding: its variants make the same film; how it takes turns is `turns`' own matter."""

import json
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("decode_speed")


@pytest.mark.oracle
def test_all_variants_decode_the_same_film(bench: ModuleType) -> None:
    torch.manual_seed(0)
    decoders = bench.variants(bench.Film(frames=5, width=24, height=16, base=4))
    with torch.no_grad():
        assert all(decode().shape == (1, 3, 5, 16, 24) for decode in decoders.values())
    error = bench.turns.errors(decoders)
    assert error["diffusers fp32"] == 0
    assert error["mutoscope fp32"] < 1e-4
    assert all(0 < e < 0.2 for name, e in error.items() if "bf16" in name)


def test_results_are_kept_with_the_film_and_the_machine(bench: ModuleType, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results" / "decode_speed.json")
    monkeypatch.setattr(bench, "Film", lambda: bench.TOY)
    monkeypatch.setattr(sys, "argv", ["decode_speed", "--save", "--rounds", "1"])
    bench.main()
    assert "9 frames 64x32, base 8, 1 rounds" in (printed := capsys.readouterr().out)
    kept = json.loads(bench.RESULTS.read_text())
    assert kept["film"]["frames"] == 9 and kept["machine"]["diffusers"] in printed
    assert kept["variants"][bench.OURS]["times_reference"] == 1 and len(kept["variants"]) == 5


def test_a_toy_is_not_kept(bench: ModuleType, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["decode_speed", "--toy", "--save"])
    with pytest.raises(SystemExit):
        bench.main()
