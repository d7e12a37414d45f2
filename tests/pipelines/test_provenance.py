"""Notes of a film: all that is needed to make it again, and nothing believed that does not check."""

import json

import pytest
import torch

from mutoscope.pipelines.provenance import Provenance, machine, notes_of, provenance_of, use_threads_of
from mutoscope.pipelines.request import asked
from mutoscope.video import Refusal
from tiny import FACTS

REQUEST = asked("a man in the rain", FACTS, seed=5, negative="snow")
MADE = Provenance(REQUEST, "sha256:abc", "tiny", "float32", {"device": "cpu", "threads": "1"})


def test_what_was_noted_is_read_back() -> None:
    assert provenance_of(notes_of(MADE), name="x.mp4") == MADE


def test_people_can_read_them_too() -> None:
    notes = notes_of(MADE)
    assert notes["prompt"] == "a man in the rain" and notes["seed"] == "5"
    for word in ("tiny", "32x32", "9 frames", "3 steps", "guidance 3"):
        assert word in notes["comment"]
    assert all(isinstance(text, str) for text in notes.values())


@pytest.mark.parametrize("key", ["prompt", "seed", "settings", "weights"])
def test_what_is_missing_is_named(key: str) -> None:
    notes = notes_of(MADE)
    del notes[key]
    with pytest.raises(Refusal, match=f"x.mp4: does not say how it was made .no {key}"):
        provenance_of(notes, name="x.mp4")


@pytest.mark.parametrize(
    "change",
    [
        {"settings": "{"},
        {"settings": "[1]"},
        {"settings": "[" * 100_000},
        {"settings": "{}"},
        {"seed": "minus one"},
        {"seed": "-1"},
    ],
)
def test_damaged_notes_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(Refusal, match=r"x.mp4: its notes are damaged"):
        provenance_of(notes_of(MADE) | change, name="x.mp4")


def test_a_setting_from_elsewhere_is_refused() -> None:
    settings = json.loads(notes_of(MADE)["settings"]) | {"size": [10**9, 8]}
    with pytest.raises(Refusal, match="1000000000x8"):
        provenance_of(notes_of(MADE) | {"settings": json.dumps(settings)}, name="x.mp4")


@pytest.mark.parametrize("precision", ["float8", 7, None, ["float32"]])
def test_an_unknown_precision_is_the_machines_own(precision: object) -> None:
    settings = json.loads(notes_of(MADE)["settings"]) | {"precision": precision, "machine": "a loom"}
    made = provenance_of(notes_of(MADE) | {"settings": json.dumps(settings)}, name="x.mp4")
    assert (made.precision, made.machine) == ("auto", {})


def test_another_machine_is_said() -> None:
    assert MADE.differences({"device": "cpu", "threads": "1", "torch": "9"}) == []
    assert MADE.differences({"device": "cuda"}) == ["device was cpu, here cuda"]


def test_this_machine_is_described() -> None:
    here = machine()
    assert here["device"] == "cpu" and here["torch"] == torch.__version__
    assert here["threads"] == str(torch.get_num_threads())
    assert here["processor"]


@pytest.mark.parametrize(("threads", "then"), [("1", 1), ("0", 1), ("many", 1), ("100000", 1)])
def test_threads_are_those_of_the_film_if_there_are_so_many(threads: str, then: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        use_threads_of(Provenance(REQUEST, "", "", "auto", {"threads": threads}))
        assert torch.get_num_threads() == then
    finally:
        torch.set_num_threads(before)
