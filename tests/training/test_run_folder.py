"""Settings, log and lock of a run."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from mutoscope.training.run_folder import Metrics, Plan, RunFolder, Signals
from mutoscope.video import Refusal

STORED = {"seed": 0, "keep": 2, "betas": (0.9, 0.99), "optimizer": {"lr": 0.1}, "task": {}}


def agree(path: Path, settings: dict[str, Any], *, steps: int | None = 5, begun: bool = True) -> Plan:
    with RunFolder(path) as folder:
        return folder.agree(settings, ignored=["keep"], steps=steps, begun=begun)


def test_first_settings_are_stored(tmp_path: Path) -> None:
    plan = agree(tmp_path / "new" / "run", STORED)
    assert plan == Plan(settings=STORED, steps=5, measured=0)
    stored = json.loads((tmp_path / "new/run/settings.json").read_text())
    assert stored["steps"] == 5 and stored["settings"]["optimizer"] == {"lr": 0.1}
    assert not (tmp_path / "new/run/settings.json.writing").exists()


def test_the_same_settings_agree_and_tuples_are_lists(tmp_path: Path) -> None:
    agree(tmp_path, STORED)
    assert agree(tmp_path, STORED | {"betas": [0.9, 0.99], "keep": 7}).settings["keep"] == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, r"seed was 0, now 1\."),
        ({"optimizer": {"lr": 0.2}}, r"optimizer\.lr was 0\.1, now 0\.2"),
        ({"optimizer": {}}, r"optimizer\.lr was 0\.1, now None"),
        ({"task": {"width": 3}}, r"task\.width was None, now 3"),
        (
            {"seed": 1, "betas": (0.8, 0.99)},
            r"betas was \[0\.9, 0\.99\], now \[0\.8, 0\.99\]; seed was 0, now 1",
        ),
    ],
)
def test_differences_are_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    agree(tmp_path, STORED)
    with pytest.raises(Refusal, match=told):
        agree(tmp_path, STORED | change)
    assert agree(tmp_path, STORED).settings["seed"] == 0, "a refusal stores nothing"


def test_before_the_first_checkpoint_settings_are_free(tmp_path: Path) -> None:
    agree(tmp_path, STORED)
    assert agree(tmp_path, STORED | {"seed": 1}, steps=8, begun=False).steps == 8


def test_the_length_is_fixed_once(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        assert folder.agree(STORED, ignored=[], steps=None, begun=False).steps is None
        assert folder.fix_steps(99, measured=13).steps == 99
    plan = agree(tmp_path, STORED, steps=None)
    assert (plan.steps, plan.measured) == (99, 13)
    assert agree(tmp_path, STORED, steps=None, begun=False).steps == 99, "also before the first checkpoint"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with RunFolder(tmp_path):
        with pytest.raises(Refusal, match="another process"), RunFolder(tmp_path):
            pass
    with RunFolder(tmp_path):
        pass


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="cannot use"), RunFolder(tmp_path / "file"):
        pass


def lines(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def write(path: Path, *steps: int) -> Metrics:
    metrics = Metrics(path)
    for step in steps:
        metrics.write({"step": step, "loss": 1 / step})
    metrics.flush()
    return metrics


def test_metrics_are_appended_and_seen_at_once(tmp_path: Path) -> None:
    metrics = write(tmp_path / "m", 1, 2)
    metrics.write({"step": 3})
    assert lines(tmp_path / "m") == [1, 2, 3]
    write(tmp_path / "m", 4)
    assert lines(tmp_path / "m") == [1, 2, 3, 4]


@pytest.mark.parametrize(("step", "left"), [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_metrics_are_cut_back(tmp_path: Path, step: int, left: list[int]) -> None:
    write(tmp_path / "m", 1, 2, 3)
    Metrics(tmp_path / "m").truncate(step)
    assert lines(tmp_path / "m") == left


@pytest.mark.parametrize("torn", ['{"step": 3', '{"step": 3}', '{"loss": 1}\n', "\x00\x00\n", "[]\n"])
def test_torn_lines_are_cut_off(tmp_path: Path, torn: str) -> None:
    write(tmp_path / "m", 1, 2)
    with (tmp_path / "m").open("a") as file:
        file.write(torn)
    Metrics(tmp_path / "m").truncate(99)
    write(tmp_path / "m", 3)
    assert lines(tmp_path / "m") == [1, 2, 3]


def test_no_log_yet(tmp_path: Path) -> None:
    Metrics(tmp_path / "m").truncate(3)
    Metrics(tmp_path / "m").flush()
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_noted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Signals() as signals:
        assert not signals.caught
        os.kill(os.getpid(), number)
        assert signals.caught == number.name
    assert signal.getsignal(number) == before


def test_a_second_control_c_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt), Signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_leave_signals_alone() -> None:
    seen: list[bool] = []

    def look() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with Signals():
            seen.append(signal.getsignal(signal.SIGTERM) == before)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True]
