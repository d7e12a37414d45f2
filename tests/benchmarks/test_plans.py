"""benchmarks/plans.py: what is counted as right, and the difference of the same prompts."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mutoscope.data.world import held_out_prompts

PROMPTS = held_out_prompts()[:6]
NAMES = sorted(set.intersection(*(set(scene.words()) for _, scene in PROMPTS)))


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("plans")


def answers(wrong: dict[int, str]) -> dict[str, dict]:
    """The truth, but for one attribute of some prompts; prompt 5 has no answer."""
    told = {
        str(n): {"words": {name: scene.words()[name] for name in NAMES}}
        for n, (_, scene) in enumerate(PROMPTS[:5])
    }
    for number, name in wrong.items():
        told[str(number)]["words"][name] = "something else"
    return told


def test_right_is_what_was_asked_and_nothing_is_said_of_films_that_are_not_made(bench: ModuleType):
    right = bench.rights(answers({1: NAMES[0], 3: NAMES[2]}), PROMPTS)
    assert right.shape == (6, len(NAMES)) and np.isnan(right[5]).all()
    assert np.argwhere(right == 0).tolist() == [[1, 0], [3, 2]]


def test_the_difference_is_of_the_prompts_that_both_have(bench: ModuleType):
    full, other = (bench.rights(answers(wrong), PROMPTS) for wrong in ({}, {1: NAMES[0]}))
    other[4] = np.nan
    row = bench.summary(other, full)
    assert row["prompts"] == 4 and row["full"] == 1
    assert row["difference"] == pytest.approx(-1 / 4 / full.shape[1])
    assert row["low"] < row["difference"] <= row["high"] == 0


def test_films_of_other_steps_are_not_taken_for_these(bench: ModuleType, tmp_path: Path):
    kept = tmp_path / "answers.json"
    kept.write_text('{"steps": 12, "plans": {"full": {"0": {}}}}')
    plans = {"plans": ["full"], "answers": kept}
    assert bench.answered(None, None, PROMPTS[:1], steps=12, **plans) == {"full": {"0": {}}}
    with pytest.raises(SystemExit, match="films of 12 steps, not 24: name another file"):
        bench.answered(None, None, PROMPTS[:1], steps=24, **plans)
