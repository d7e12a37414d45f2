"""A checkpoint is there whole or not at all, whatever happens to the writer or to the disk."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mutoscope.checkpoints import store
from mutoscope.video import Refusal


def tensors(step: int) -> dict[str, Tensor]:
    filled = torch.full((64, 8), float(step))
    return {"weights.net.a": filled, "average.net.a": filled + 0.5, "weights.net.b": torch.arange(3),
            "optimizer.muon.net.a": -filled}  # fmt: skip


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        store.save(folder, step, tensors=tensors(step), facts={"step": step}, keep=keep)


def found(folder: Path) -> store.Checkpoint:
    checkpoint = store.latest(folder)
    assert checkpoint is not None
    return checkpoint


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    path = store.save(tmp_path, 1234, tensors=tensors(7), facts={"loss": 0.5})
    checkpoint = found(tmp_path)
    assert path.name == "step-00001234" and checkpoint.path == path and checkpoint.step == 1234
    assert checkpoint.facts == {"loss": 0.5}
    read = checkpoint.tensors()
    assert read.keys() == tensors(7).keys()
    assert all(torch.equal(read[n], t) and read[n].dtype == t.dtype for n, t in tensors(7).items())
    assert sorted(p.name for p in path.iterdir()) == ["COMPLETE", "facts.json", "tensors.safetensors"]


def test_weights_come_averaged_or_as_trained(tmp_path: Path) -> None:
    save(tmp_path, 3)
    averaged = found(tmp_path).weights("net")
    assert averaged["a"][0, 0] == 3.5 and torch.equal(averaged["b"], torch.arange(3))
    assert found(tmp_path).weights("net", averaged=False)["a"][0, 0] == 3
    assert found(tmp_path).modules() == ["net"]
    with pytest.raises(Refusal, match=r"'vae'.*there are: net"):
        found(tmp_path).weights("vae")


def test_prefix_reads_only_its_part(tmp_path: Path) -> None:
    save(tmp_path, 3)
    assert found(tmp_path).tensors("optimizer.").keys() == {"muon.net.a"}


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]
    save(tmp_path, 5, keep=1)
    assert len(list(tmp_path.iterdir())) == 2, "never fewer than two"
    save(tmp_path, 6, 7, keep=4)
    assert len(list(tmp_path.iterdir())) == 4


def test_order_is_by_number(tmp_path: Path) -> None:
    save(tmp_path, 99_999_999, 100_000_000)
    assert found(tmp_path).step == 100_000_000


def test_nothing_there(tmp_path: Path) -> None:
    assert store.latest(tmp_path) is None and store.latest(tmp_path / "none") is None
    with pytest.raises(Refusal, match="no complete checkpoint"):
        store.load(tmp_path)


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["tensors.safetensors", "facts.json", "COMPLETE"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "empty"])
def test_damage_is_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, 1, 2)
    file = tmp_path / "step-00000002" / name
    {"missing": file.unlink, "cut": lambda: os.truncate(file, file.stat().st_size - 8),
     "flipped": lambda: flip_a_bit(file), "empty": lambda: os.truncate(file, 0)}[damage]()  # fmt: skip
    assert found(tmp_path).step == 1
    with pytest.raises(Refusal):
        store.load(file.parent)


@pytest.mark.parametrize("seal", ["[]", "3", '{"facts.json": 1, "tensors.safetensors": 2}', "null", "\x00"])
def test_a_nonsense_seal_is_passed_over(tmp_path: Path, seal: str) -> None:
    save(tmp_path, 1, 2)
    (tmp_path / "step-00000002" / "COMPLETE").write_text(seal)
    assert found(tmp_path).step == 1
    save(tmp_path, 3)
    assert found(tmp_path).step == 3


def test_torn_checkpoints_do_not_push_out_whole_ones(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    os.truncate(tmp_path / "step-00000003" / "tensors.safetensors", 10)
    save(tmp_path, 4)
    assert (tmp_path / "step-00000002").exists() and found(tmp_path).step == 4


def test_a_step_may_be_written_again(tmp_path: Path) -> None:
    save(tmp_path, 1)
    store.save(tmp_path, 1, tensors=tensors(9), facts={})
    assert found(tmp_path).tensors()["weights.net.a"][0, 0] == 9
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_killed_between_the_two_renames(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000001.replaced")
    assert found(tmp_path).step == 1 and found(tmp_path).tensors()["weights.net.a"][0, 0] == 1


def test_tied_and_strided_tensors_are_written(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tied = {"weights.n.a": base, "weights.n.b": base, "weights.n.c": base.mT, "weights.n.d": base[:, 1]}
    store.save(tmp_path, 1, tensors=tied, facts={})
    read = found(tmp_path).tensors()
    assert all(torch.equal(read[n], t) for n, t in tied.items())


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(Refusal, match=r"No space left.*free some space"):
        save(tmp_path, 2)
    assert found(tmp_path).step == 1 and len(list(tmp_path.iterdir())) == 1


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []
    real = store._sync
    monkeypatch.setattr(
        store, "_sync", lambda p: (synced.append((p.name, (tmp_path / "step-00000001").exists())), real(p))
    )
    save(tmp_path, 1)
    names = [n if not n.startswith(".writing") else "folder" for n, _ in synced]
    assert names == ["tensors.safetensors", "facts.json", "COMPLETE", "folder", tmp_path.name]
    assert [there for _, there in synced] == [False] * 4 + [True]


def test_the_seal_is_plain(tmp_path: Path) -> None:
    save(tmp_path, 1)
    seal = json.loads((tmp_path / "step-00000001" / "COMPLETE").read_text())
    assert (
        seal["tensors.safetensors"]["bytes"]
        == (tmp_path / "step-00000001/tensors.safetensors").stat().st_size
    )
    assert len(seal["facts.json"]["sha256"]) == 64


def write_for_ever(folder: Path, first: int, *, begun: int) -> None:
    """Life of the process that is killed; says so once its first checkpoint is there."""
    step = first
    while True:
        step += 1
        block = torch.full((600, 1000), float(step))
        store.save(folder, step, tensors={"weights.net.a": block}, facts={"step": step})
        os.write(begun, b".")


def kill_and_look(folder: Path, kills: int) -> dict[str, int]:
    """Forks writers and kills each at a random moment; one process, so that torch is imported once."""
    choose, seen, last = random.Random(0), {"whole": 0, "torn": 0, "lost": 0}, 0
    for _ in range(kills):
        listen, begun = os.pipe()
        child = os.fork()
        if child == 0:
            write_for_ever(folder, last, begun=begun)
        os.close(begun)
        assert os.read(listen, 1), "the writer died by itself"
        time.sleep(choose.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(listen)
        seen["torn"] += any(folder.glob(".writing-*"))
        checkpoint = store.latest(folder)
        step = checkpoint.step if checkpoint else 0
        good = checkpoint is not None and bool((checkpoint.tensors()["weights.net.a"] == step).all())
        seen["whole"] += good
        seen["lost"] += step <= last
        last = max(last, step)
    return seen


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, __file__, str(tmp_path), "12"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    seen = json.loads(answer.stdout)
    assert seen["lost"] == 0 and seen["whole"] == 12
    assert seen["torn"] >= 3, "the kills must have met writers at work"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    store.save(target, 0, tensors={"weights.net.a": torch.zeros(600, 1000)}, facts={"step": 0})
    print(json.dumps(kill_and_look(target, int(sys.argv[2]))))
