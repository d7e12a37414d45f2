"""Frames at an even beat: the latest frame of each slot, dropped or repeated, decoded only when shown."""

import pytest
import torch
from torch import Tensor

from mutoscope.media.timing import Moment, at_rate


def moments(seconds: list[float], lasts: float) -> list[Moment]:
    return [Moment(at, lasts, lambda: torch.zeros(1, 1, 3, dtype=torch.uint8)) for at in seconds]


def shown(seconds: list[float], *, lasts: float, fps: float) -> list[float]:
    return [moment.seconds for moment in at_rate(moments(seconds, lasts), fps=fps)]


def test_the_same_rate_changes_nothing() -> None:
    beat = [index / 12 for index in range(30)]
    assert shown(beat, lasts=1 / 12, fps=12) == beat


def test_half_the_rate_drops_and_double_repeats() -> None:
    beat = [0.0, 0.25, 0.5, 0.75]
    assert shown(beat, lasts=0.25, fps=8) == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert len(shown(beat, lasts=0.25, fps=2)) == 2


def test_the_duration_is_kept_at_every_rate() -> None:
    beat = [index / 24 for index in range(48)]
    for fps in (1, 5, 12, 23.976, 30, 60):
        assert len(shown(beat, lasts=1 / 24, fps=fps)) == round(2 * fps)


def test_a_gap_is_filled_with_the_frame_before_it() -> None:
    assert shown([0.0, 0.1, 0.5], lasts=0.1, fps=10) == [0, 0.1, 0.1, 0.1, 0.1, 0.5]


def test_the_first_frame_sets_the_clock() -> None:
    assert shown([5.0, 5.1, 5.2], lasts=0.1, fps=10) == [5.0, 5.1, 5.2]


def test_of_frames_in_one_slot_the_latest_is_shown() -> None:
    assert shown([0.0, 0.01, 0.02, 0.1], lasts=0.1, fps=10) == [0.02, 0.1]


def test_times_that_run_backwards_do_no_harm() -> None:
    assert len(shown([0.0, 0.2, 0.1, 0.3], lasts=0.1, fps=10)) == 4


def test_a_single_frame_is_shown_at_least_once_and_none_never() -> None:
    assert shown([0.0], lasts=0.001, fps=1) == [0.0]
    assert shown([], lasts=1, fps=1) == []


@pytest.mark.parametrize(("fps", "decoded"), [(1, 1), (10, 10)])
def test_pictures_that_are_dropped_are_never_decoded(fps: float, decoded: int) -> None:
    calls = []

    def picture(index: int) -> Tensor:
        calls.append(index)
        return torch.zeros(1, 1, 3, dtype=torch.uint8)

    source = [Moment(i / 10, 0.1, lambda i=i: picture(i)) for i in range(10)]
    for moment in at_rate(source, fps=fps):
        moment.picture()
    assert len(calls) == decoded
