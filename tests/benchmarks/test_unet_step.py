"""The benchmark of a U-Net's training step: equal work, paired ratios, memory of a process of its own."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("diffusers")
needs_lucidrains = pytest.mark.skipif(find_spec("video_diffusion_pytorch") is None, reason="no such package")


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("unet_step")


@pytest.mark.oracle
def test_both_learn_the_same_from_the_same_weights(bench: ModuleType) -> None:
    case = bench.TOY_CASES[0]
    made = {name: bench.step(name, case) for name in case.variants(compiled=False)}
    losses = {name: torch.stack([run() for _ in range(3)]) for name, (_, run) in made.items()}
    assert len({weights for weights, _ in made.values()}) == 1
    for loss in losses.values():
        assert loss[2] < loss[0]
        torch.testing.assert_close(loss, losses["mutoscope"], rtol=1e-3, atol=0)


@pytest.mark.oracle
def test_bfloat16_begins_with_the_same_loss_and_ours_learns(bench: ModuleType) -> None:
    """The peer's second loss is not a number at this size, so only its first is compared."""
    case = replace(bench.TOY_CASES[0], precision="bf16")
    _, theirs = bench.step("diffusers", case)
    _, ours = bench.step("mutoscope", case)
    losses = [ours().item() for _ in range(3)]
    assert theirs().item() == pytest.approx(losses[0], rel=2e-2) and losses[2] < losses[0]


@needs_lucidrains
def test_a_peer_needs_no_torchvision_and_leaves_none_behind(bench: ModuleType) -> None:
    there = "torchvision" in sys.modules
    weights, run = bench.step("lucidrains", bench.TOY_CASES[1])
    assert weights > 0 and run() > 0
    assert ("torchvision" in sys.modules) == there


def test_ours_and_the_peer_are_timed_in_the_same_ways(bench: ModuleType) -> None:
    case = bench.TOY_CASES[0]
    names = case.variants(compiled=True, by_block=True, graphed=True)
    ways = {name.partition(" ")[::2] for name in names}
    small = {"small parts compiled", "small parts compiled graphed"}
    assert {way for who, way in ways if who == "mutoscope"} == {"", "compiled", "graphed"} | small
    peers = {way for who, way in ways if who == "diffusers"}
    assert peers == {"", "channels last", "compiled by block", "graphed", "compiled by block graphed"}
    assert case.variants(compiled=False) == ["diffusers", "diffusers channels last", "mutoscope"]
    seconds = {"diffusers": [1.0], "mutoscope": [3.0], "mutoscope graphed": [2.0]}
    assert bench.best_of_ours(seconds) == "mutoscope graphed"


def test_other_work_is_noticed(bench: ModuleType) -> None:
    case = bench.TOY_CASES[0]
    bench._agree(case, {"diffusers": 1.0, "mutoscope": 1.00001})
    with pytest.raises(SystemExit, match=r"diffusers is 1.1"):
        bench._agree(case, {"diffusers": 1.1, "mutoscope": 1.0})


def test_variants_in_processes_take_turns(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails is left out, and the others are timed."""
    together = script("together")
    monkeypatch.syspath_prepend(str(Path(together.__file__).parent))  # where the processes look for it
    names = ["fast", "slow", "broken"]
    with together.Together(sleeper, names, device="cpu") as variants:
        ready = variants.ready(by=time.monotonic() + 120)
        assert {name: facts["weights"] for name, facts in ready.items()} == {"fast": 1.0, "slow": 1.0}
        seconds = variants.turns(list(ready), rounds=2, steps=2, by=time.monotonic() + 60)
    assert all(slow > fast for slow, fast in zip(seconds["slow"], seconds["fast"], strict=True))
    assert len(seconds["slow"]) == 2


def sleeper(name: str) -> tuple[dict[str, float], Callable[[], torch.Tensor]]:
    if name == "broken":
        raise ValueError("no such variant")

    def run() -> torch.Tensor:
        time.sleep(0.2 if name == "slow" else 0.001)
        return torch.zeros(())

    return {"weights": 1.0}, run


def test_ratios_are_paired(bench: ModuleType) -> None:
    """A slow round slows both: the ratio stays 2."""
    measured = bench._measured(1.0, [2.0, 20.0, 2.0], ours=[1.0, 10.0, 1.0], megabytes=5.0)
    assert measured.times_ours == 2 and measured.times_ours_spread == (2, 2) and measured.seconds == 2
    line = bench.table({"diffusers": measured}).splitlines()[1]
    assert line.split()[:3] == ["diffusers", "1.00", "2.000"]


def test_a_toy_is_not_kept(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["unet_step.py", "--toy", "--save"])
    with pytest.raises(SystemExit):
        bench.main()


def test_memory_is_that_of_a_step(bench: ModuleType) -> None:
    """In a process of its own, since a peak is that of all that a process did before."""
    held = torch.ones(2**28)  # 1 GB of the process that starts it does not count
    elsewhere = bench.peak_elsewhere("mutoscope", bench.TOY_CASES[0], arguments=["--toy", "--threads", "1"])
    assert 1 < elsewhere < 600 and held.all()
