"""The life of a run: stopped, killed and resumed it ends where the unbroken one ends, bit for bit."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mutoscope.checkpoints import store
from mutoscope.training import loop
from mutoscope.training.loop import Diverged, Progress, TrainSettings, seed_of, start_from, train
from mutoscope.video import Refusal


class Copying:
    """A small network with every kind of weight, dropout and a buffer learns to copy what it is shown."""

    batch = 4

    def __init__(self, *, width: int = 16, at: Callable[[int], None] = lambda step: None) -> None:
        torch.manual_seed(1)
        self.settings = {"width": width}
        self.net = nn.Sequential(
            nn.Linear(8, width), nn.BatchNorm1d(width), nn.GELU(), nn.Dropout(0.2), nn.Linear(width, 8)
        )
        self.words = nn.Embedding(5, 8)
        self.at = at
        self.calls: list[int] = []

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "words": self.words}

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        self.at(step)
        self.calls.append(step)
        x = torch.randn(4, 8, generator=generator) + self.words(torch.tensor([step % 5] * 4))
        error = (self.net(x) - x).square().mean()
        return {"loss": error, "twice": 2 * error}


def settings(**changes: Any) -> TrainSettings:
    plain = {"steps": 4, "warmup_steps": 2, "decay_share": 0.5, "ema": 0.9}
    return TrainSettings(**(plain | changes))  # pyright: ignore[reportArgumentType]


def run(task: Copying, folder: Path, **changes: Any) -> list[Progress]:
    return list(train(task, settings(**changes), folder))


def fingerprint(folder: Path) -> str:
    """SHA-256 of all tensors of the newest checkpoint."""
    checkpoint = store.latest(folder / "checkpoints")
    assert checkpoint is not None
    digest = hashlib.sha256(str(checkpoint.step).encode())
    for name, tensor in sorted(checkpoint.tensors().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run(Copying(), folder)
    return folder


def stop_at(step: int, number: int) -> Callable[[int], None]:
    return lambda now: os.kill(os.getpid(), number) if now == step else None


def break_off(folder: Path, step: int) -> None:
    """A caller that leaves its for loop."""
    for progress in train(Copying(), settings(), folder):
        if progress.step == step:
            break


def terminate(folder: Path, step: int) -> None:
    events = [p.event for p in train(Copying(at=stop_at(step - 1, signal.SIGTERM)), settings(), folder)]
    assert events[-1] == "stopped"


def press_control_c(folder: Path, step: int) -> None:
    events = [p.event for p in train(Copying(at=stop_at(step - 1, signal.SIGINT)), settings(), folder)]
    assert events[-1] == "stopped"


def fail_outside(folder: Path, step: int) -> None:
    """A caller whose own code fails between two steps."""
    generator = train(Copying(), settings(), folder)
    list(islice(generator, step))
    with pytest.raises(KeyboardInterrupt):
        generator.throw(KeyboardInterrupt())  # type: ignore[attr-defined]


@pytest.mark.parametrize("stop", [break_off, terminate, press_control_c, fail_outside])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_stopped_and_resumed_is_unbroken(
    tmp_path: Path, unbroken: Path, stop: Callable[[Path, int], None], step: int
) -> None:
    stop(tmp_path, step)
    checkpoint = store.latest(tmp_path / "checkpoints")
    assert checkpoint is not None and checkpoint.step == step
    again = run(Copying(), tmp_path)
    assert [p.step for p in again] == list(range(step + 1, 5)) and again[-1].event == "finished"
    assert fingerprint(tmp_path) == fingerprint(unbroken)
    assert [m["step"] for m in metrics(tmp_path)] == [1, 2, 3, 4]
    timeless = [
        [{k: v for k, v in m.items() if k != "seconds"} for m in metrics(f)] for f in (tmp_path, unbroken)
    ]
    assert timeless[0] == timeless[1]


def test_a_signal_while_the_caller_looks_at_a_finished_run_is_not_lost(tmp_path: Path) -> None:
    events = []
    for progress in train(Copying(), settings(), tmp_path):
        events.append(progress.event)
        if progress.event == "finished":
            signal.raise_signal(signal.SIGTERM)
    assert events[-2:] == ["finished", "stopped"]
    assert [p.event for p in train(Copying(), settings(), tmp_path)] == ["finished"]


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    terminate(tmp_path, 2)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_kill_9_and_resumed_is_unbroken(tmp_path: Path, unbroken: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    died = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], env=environment, timeout=300, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert [m["step"] for m in metrics(tmp_path)] == [1, 2, 3], "step 3 was told but is in no checkpoint"
    again = run(Copying(), tmp_path)
    assert [p.step for p in again] == [3, 4]
    assert fingerprint(tmp_path) == fingerprint(unbroken)
    assert [m["step"] for m in metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_finished_run_gives_its_weights_back(unbroken: Path) -> None:
    task = Copying()
    (only,) = run(task, unbroken)
    assert (only.event, only.step, only.eta) == ("finished", 4, 0) and not task.calls
    checkpoint = store.latest(unbroken / "checkpoints")
    assert checkpoint is not None
    saved = checkpoint.weights("net", averaged=False)
    assert all(torch.equal(saved[n], t) for n, t in task.net.state_dict().items())
    assert only.losses["loss"] == metrics(unbroken)[-1]["loss"]


def test_accumulation_is_the_mean_over_parts(tmp_path: Path) -> None:
    task = Copying()
    progress = run(task, tmp_path, steps=2, accumulate=3)
    assert task.calls == [0, 1, 2, 3, 4, 5]
    assert progress[0].losses["twice"] == pytest.approx(2 * progress[0].losses["loss"])
    assert progress[1].samples_rate == pytest.approx(12 * progress[1].rate)


def test_seeds_are_far_apart() -> None:
    seeds = {seed_of(seed, step) for seed in range(20) for step in range(20)}
    assert len(seeds) == 400 and all(0 <= s < 2**63 for s in seeds)
    assert seed_of(3, 5) == seed_of(3, 5)


def test_another_seed_is_another_run(tmp_path: Path, unbroken: Path) -> None:
    run(Copying(), tmp_path, seed=1)
    assert fingerprint(tmp_path) != fingerprint(unbroken)


def test_the_callers_own_random_numbers_change_nothing(tmp_path: Path, unbroken: Path) -> None:
    task = Copying()
    for _ in train(task, settings(), tmp_path):
        torch.rand(7)
        task.net.eval()  # a contact sheet was drawn
    assert fingerprint(tmp_path) == fingerprint(unbroken)


def poison(task: Copying, steps: range, *, value: float = float("nan")) -> Copying:
    whole = task.loss

    def poisoned(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        losses = whole(step, generator)
        return {"loss": losses["loss"] * value if step in steps else losses["loss"]}

    task.loss = poisoned  # type: ignore[method-assign]
    return task


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_moves_nothing(tmp_path: Path, value: float) -> None:
    task = poison(Copying(), range(1, 3), value=value)
    weights, events = [], []
    for progress in train(task, settings(), tmp_path):
        assert progress.ema is not None
        events.append((progress.event, progress.ema.updates))
        weights.append([p.detach().clone() for p in task.net.parameters()])
    assert events == [("step", 1), ("skipped", 1), ("skipped", 1), ("finished", 2)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))
    assert not torch.equal(weights[2][0], weights[3][0])
    told = metrics(tmp_path)
    assert [m["skipped"] for m in told] == [False, True, True, False]
    assert told[1]["loss"] is None and "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_five_in_a_row_end_the_run(tmp_path: Path) -> None:
    task = poison(Copying(), range(3, 99))
    seen: list[Progress] = []
    with pytest.raises(Diverged, match="5 steps in a row, up to step 8") as error:
        for progress in train(task, settings(steps=20, checkpoint_steps=2), tmp_path):
            seen.append(progress)
    assert error.value.exit_code == 3 and len(seen) == 7
    checkpoint = store.latest(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert all(t.isfinite().all() for n, t in checkpoint.tensors().items() if "running" not in n)


def test_four_in_a_row_do_not_and_the_count_survives_a_stop(tmp_path: Path) -> None:
    assert len(run(poison(Copying(), range(1, 5)), tmp_path / "a", steps=7)) == 7
    for progress in train(poison(Copying(), range(3, 99)), settings(steps=20), tmp_path / "b"):
        if progress.step == 6:  # three bad ones so far
            break
    with pytest.raises(Diverged, match="up to step 8"):
        run(poison(Copying(), range(3, 99)), tmp_path / "b", steps=20)


def test_checkpoints_come_by_steps_and_by_seconds(tmp_path: Path) -> None:
    events = [p.event for p in train(Copying(), settings(checkpoint_steps=2), tmp_path / "a")]
    assert events == ["step", "saved", "step", "finished"]
    events = [p.event for p in train(Copying(), settings(checkpoint_seconds=1e-9), tmp_path / "b")]
    assert events == ["saved", "saved", "saved", "finished"]
    assert len(list((tmp_path / "b" / "checkpoints").iterdir())) == 2


def test_a_damaged_checkpoint_costs_steps_and_not_the_run(tmp_path: Path, unbroken: Path) -> None:
    events = list(islice(train(Copying(), settings(checkpoint_steps=1), tmp_path), 3))
    os.truncate(tmp_path / "checkpoints/step-00000003/tensors.safetensors", 100)
    assert [p.step for p in run(Copying(), tmp_path)] == [3, 4] and len(events) == 3
    assert fingerprint(tmp_path) == fingerprint(unbroken)


def test_log_steps_thins_the_log(tmp_path: Path) -> None:
    run(Copying(), tmp_path, steps=7, log_steps=3)
    assert [m["step"] for m in metrics(tmp_path)] == [3, 6, 7]


def test_progress_tells_where_the_run_stands(tmp_path: Path) -> None:
    progress = run(Copying(), tmp_path)
    assert [p.step for p in progress] == [1, 2, 3, 4] and {p.steps for p in progress} == {4}
    assert [p.lr for p in progress] == pytest.approx([0.01, 0.02, 0.02, 0.01])
    assert all(p.grad_norm > 0 and p.rate > 0 and p.losses["loss"] > 0 for p in progress)
    assert progress[-1].elapsed > progress[0].elapsed > 0
    assert progress[1].eta == pytest.approx(2 / progress[1].rate) and progress[-1].eta == 0
    assert str(progress[1]).startswith("step 2/4  loss ")
    assert str(progress[3]).endswith("0 s left  [finished]")


def test_it_learns(tmp_path: Path) -> None:
    progress = run(Copying(), tmp_path, steps=60)
    assert progress[-1].losses["loss"] < 0.5 * progress[0].losses["loss"]


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    task = Copying()
    for parameter in task.net.parameters():
        parameter.requires_grad_(False)
    before = task.net[0].weight.clone()  # pyright: ignore[reportCallIssue]
    norms: list[Tensor] = []
    step = loop.Optimizer.step

    def watch(optimizer: Any, factor: float) -> None:
        norms.append(torch.stack([w.grad.norm() for w in optimizer.weights.values()]).norm())
        step(optimizer, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Optimizer, "step", watch)
        progress = run(task, tmp_path, clip=1e-3)
    assert all(p.grad_norm > 1e-3 for p in progress)
    assert all(float(n) == pytest.approx(1e-3, rel=1e-2) for n in norms)
    assert torch.equal(task.net[0].weight, before), "frozen weights stay"  # pyright: ignore[reportArgumentType]


def test_bfloat16_runs_the_loss_under_autocast(tmp_path: Path) -> None:
    seen: set[torch.dtype] = set()
    task = Copying()
    task.net[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    run(task, tmp_path, precision="bfloat16")
    assert seen == {torch.bfloat16} and task.net[0].weight.dtype == torch.float32


@pytest.mark.parametrize("able", [True, False])
def test_auto_is_bfloat16_where_the_machine_is_fast_at_it(
    tmp_path: Path, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    seen: set[torch.dtype] = set()
    task = Copying()
    task.net[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    run(task, tmp_path, precision="auto")
    assert seen == {torch.bfloat16 if able else torch.float32}


class Clock:
    """A clock that only a loss moves: the first steps compile and are slow."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def tick(self, step: int) -> None:
        self.now += 10.0 if step == 0 else 0.5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    return clock


def budget(**changes: Any) -> TrainSettings:
    plain = {"steps": None, "minutes": 0.5, "settle_steps": 2, "measure_steps": 4}
    return settings(**(plain | changes))


def test_a_time_budget_becomes_steps_once(tmp_path: Path, clock: Clock) -> None:
    progress = list(train(Copying(at=clock.tick), budget(), tmp_path))
    assert [p.steps for p in progress[:6]] == [None] * 5 + [
        41
    ]  # 12.5 s for 6 steps, 17.5 s left at 0.5 s each
    assert progress[0].eta is None and "measuring" in str(progress[0])
    assert len(progress) == 41 and clock.now == pytest.approx(30.0)
    stored = json.loads((tmp_path / "settings.json").read_text())
    assert (stored["steps"], stored["measured"]) == (41, 6)
    assert progress[-1].lr < 0.1 * progress[10].lr, "the schedule landed decayed"


@pytest.mark.parametrize("step", [3, 6, 30])
def test_a_resumed_budget_keeps_the_stored_steps(tmp_path: Path, clock: Clock, step: int) -> None:
    list(train(Copying(at=clock.tick), budget(), tmp_path / "unbroken"))
    for progress in train(Copying(at=clock.tick), budget(), tmp_path / "broken"):
        if progress.step == step:
            break
    stored = json.loads((tmp_path / "broken/settings.json").read_text())["steps"]
    clock.tick = lambda step: setattr(clock, "now", clock.now + 0.25)  # type: ignore[method-assign]
    again = list(train(Copying(at=lambda s: clock.tick(s)), budget(), tmp_path / "broken"))
    if step >= 6:
        assert stored == 41 == again[-1].step
        assert fingerprint(tmp_path / "broken") == fingerprint(tmp_path / "unbroken")
    else:
        assert stored is None and again[-1].step > 41, "measured anew, on what is now faster"


def test_a_repeated_measurement_phase_does_not_know_the_end(tmp_path: Path, clock: Clock) -> None:
    short = budget(minutes=0.01, decay_share=1.0)
    list(train(Copying(at=clock.tick), short, tmp_path))
    first = fingerprint(tmp_path)
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        (checkpoint / "COMPLETE").unlink()  # as if killed before the first of them
    list(train(Copying(at=clock.tick), short, tmp_path))
    assert fingerprint(tmp_path) == first


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, "seed was 0, now 3"),
        ({"steps": 9}, "steps was 4, now 9"),
        ({"optimizer": {"muon_lr": 0.1}}, "optimizer.muon_lr was 0.02, now 0.1"),
        ({"steps": None, "minutes": 1}, "minutes was None, now 1.0"),
    ],
)
def test_other_settings_are_refused(unbroken: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal, match=told) as refusal:
        run(Copying(), unbroken, **change)
    assert f"init_from={unbroken}" in str(refusal.value)


def test_another_task_is_refused(unbroken: Path) -> None:
    with pytest.raises(Refusal, match=r"task\.width was 16, now 32"):
        run(Copying(width=32), unbroken)


def test_task_settings_may_be_a_model(tmp_path: Path) -> None:
    class Width(BaseModel):
        width: int

    task = Copying()
    task.settings = Width(width=16)  # type: ignore[assignment]
    run(task, tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text())["settings"]["task"] == {"width": 16}
    assert len(run(Copying(), tmp_path)) == 1, "the same settings as a mapping"


def test_bookkeeping_may_change_at_resume(tmp_path: Path, unbroken: Path) -> None:
    break_off(tmp_path, 2)
    run(Copying(), tmp_path, checkpoint_steps=1, keep=3, log_steps=2, patience=9)
    assert fingerprint(tmp_path) == fingerprint(unbroken)


def test_settings_may_change_until_there_is_something_to_lose(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="too early"):
        run(Copying(at=lambda step: (_ for _ in ()).throw(RuntimeError("too early"))), tmp_path)
    assert run(Copying(), tmp_path, steps=2)[-1].steps == 2


def test_a_new_run_starts_from_the_average_of_another(tmp_path: Path, unbroken: Path) -> None:
    checkpoint = store.latest(unbroken / "checkpoints")
    assert checkpoint is not None
    average, task = checkpoint.weights("net"), Copying()
    still = settings(init_from=str(unbroken), optimizer={"muon_lr": 0, "adamw_lr": 0})
    first: Iterator[Progress] = train(task, still, tmp_path)
    progress = next(first)
    assert progress.step == 1 and progress.ema is not None
    assert torch.equal(task.net[0].weight, average["0.weight"])  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(progress.ema.average["net.0.weight"], average["0.weight"])
    first.close()  # type: ignore[attr-defined]
    assert torch.equal(task.net[1].running_mean, task.net.state_dict()["1.running_mean"])
    start_from(task.modules, checkpoint.path)
    assert torch.equal(task.net[1].running_mean, average["1.running_mean"])  # pyright: ignore[reportArgumentType]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, unbroken: Path) -> None:
    with pytest.raises(Refusal, match=r"does not fit module 'net'.*'0.bias'"):
        run(Copying(width=32), tmp_path, init_from=str(unbroken))
    with pytest.raises(Refusal, match="no complete checkpoint"):
        run(Copying(), tmp_path, init_from=str(tmp_path / "nowhere"))


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    first = train(Copying(), settings(), tmp_path)
    next(first)
    with pytest.raises(Refusal, match="another process is training"):
        next(train(Copying(), settings(), tmp_path))
    first.close()  # type: ignore[attr-defined]
    assert len(run(Copying(), tmp_path)) == 3


def test_no_average_where_none_is_wanted(tmp_path: Path) -> None:
    assert run(Copying(), tmp_path, ema=0)[-1].ema is None
    checkpoint = store.latest(tmp_path / "checkpoints")
    assert checkpoint is not None and not checkpoint.tensors("average.")
    assert len(run(Copying(), tmp_path, ema=0)) == 1


def test_module_names_with_dots_are_an_error(tmp_path: Path) -> None:
    class Dotted(Copying):
        @property
        def modules(self) -> dict[str, nn.Module]:
            return {"a.b": self.net}

    with pytest.raises(ValueError, match=r"a\.b"):
        run(Dotted(), tmp_path)


def test_embeddings_are_tables_whatever_their_name(tmp_path: Path) -> None:
    run(Copying(), tmp_path)
    checkpoint = store.latest(tmp_path / "checkpoints")
    assert checkpoint is not None
    names = checkpoint.tensors("optimizer.").keys()
    assert "muon.net.0.weight" in names and "adamw.exp_avg.words.weight" in names


if __name__ == "__main__":
    list(train(Copying(at=stop_at(3, signal.SIGKILL)), settings(checkpoint_steps=2), sys.argv[1]))
