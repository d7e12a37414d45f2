"""Plans of noise levels: their laws, and equality with the public grid."""

import pytest
import torch

from mutoscope.diffusion.plan import Plan, autoregressive, flow_match, full_sequence, pyramid, uniform
from mutoscope.diffusion.schedule import shift
from mutoscope.video import Refusal

PLANS = {
    "full": full_sequence(4, 3, shift=3.0),
    "autoregressive": autoregressive(4, 3, shift=3.0),
    "pyramid": pyramid(4, 3, shift=3.0),
    "half": pyramid(4, 5, lag=0.5),
    "match": flow_match(4, 3, shift=3.0),
    "one step": full_sequence(1, 1),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_from_noise_to_clean_and_never_back(plan):
    assert (plan.times[0] == 1).all() and (plan.times[-1] == 0).all()
    assert (plan.times.diff(dim=0) <= 0).all()
    assert (plan.times.diff(dim=0) < 0).any(dim=1).all(), "a step in which nothing moves"
    assert plan.times.shape == (plan.steps + 1, plan.frames) and plan.times.dtype == torch.float64


def test_how_many_steps():
    assert [PLANS[name].steps for name in ("full", "autoregressive", "pyramid", "half")] == [4, 12, 6, 6]


def test_lags_of_nothing_and_of_everything():
    assert torch.equal(pyramid(4, 3, lag=0.0, shift=3.0).times, PLANS["full"].times)
    assert torch.equal(pyramid(4, 3, lag=4.0, shift=3.0).times, PLANS["autoregressive"].times)


def test_a_pyramid_by_hand():
    levels = torch.tensor([[2, 2, 2], [1, 2, 2], [0, 1, 2], [0, 0, 1], [0, 0, 0]])
    assert torch.equal(pyramid(2, 3).times, levels / 2)


def test_every_frame_walks_the_same_grid():
    grid = uniform(4, shift=3.0)
    torch.testing.assert_close(grid, shift(torch.linspace(1, 0, 5, dtype=torch.float64), 3.0))
    for frame in PLANS["pyramid"].times.T:
        assert torch.equal(frame.unique(), grid.flip(0))


@pytest.mark.oracle
@pytest.mark.parametrize("a", [0.7, 1.0, 2.5, 3.0, 3.3, 5.0, 8.0, 16.0])
def test_flow_match_is_the_public_grid_to_the_last_bit(a):
    from diffusers import FlowMatchEulerDiscreteScheduler

    for steps in (1, 2, 4, 7, 20, 50):
        public = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=a)
        public.set_timesteps(steps)
        assert torch.equal(flow_match(steps, 2, shift=a).times[:, 1].float(), public.sigmas.clamp(max=1))


def test_known_frames_stand_at_zero():
    plan = full_sequence(4, 5).knowing([0, -1])
    assert (plan.times[:, [0, 4]] == 0).all()
    assert torch.equal(plan.times[:, 1:4], full_sequence(4, 3).times)


def test_no_step_is_spent_on_what_is_known():
    plan = autoregressive(4, 3, shift=2.0).knowing([0])
    assert plan.steps == 8
    assert torch.equal(plan.times[:, 1:], autoregressive(4, 2, shift=2.0).times)
    assert torch.equal(autoregressive(4, 3).knowing([]).times, autoregressive(4, 3).times)


@pytest.mark.parametrize(
    ("frames", "words"), [([3], "known frame 3"), ([-4], "known frame -4"), ([0, 1, 2], "all 3")]
)
def test_impossible_knowledge_is_refused(frames, words):
    with pytest.raises(Refusal, match=words):
        full_sequence(4, 3).knowing(frames)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1.0, 1.0]], "2 rows or more"),
        ([1.0, 0.0], "2 rows or more"),
        ([[], []], "a frame or more"),
        ([[1.5], [0.0]], "in \\[0, 1\\]"),
        ([[float("nan")], [0.0]], "in \\[0, 1\\]"),
        ([[0.5], [0.7], [0.0]], "never rise"),
        ([[1.0, 1.0], [0.0, 0.1]], "end at 0"),
    ],
)
def test_other_tables_are_no_plans(rows, words):
    # Built without the shape check of the test suite: a user's table has whatever shape it has.
    with pytest.raises((Refusal, TypeError), match=f"{words}|Type-check"):
        Plan(torch.tensor(rows))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: full_sequence(0, 3), "steps is 0"),
        (lambda: flow_match(0, 3), "steps is 0"),
        (lambda: full_sequence(4, 0), "frames is 0"),
        (lambda: pyramid(4, 3, lag=-1.0), "lag is -1"),
        (lambda: full_sequence(4, 3, shift=0.0), "shift is 0"),
    ],
)
def test_impossible_numbers_are_refused(make, words):
    with pytest.raises(Refusal, match=words):
        make()
