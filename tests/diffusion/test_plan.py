"""Plans of noise levels: their laws, and equality with the public grid."""

from itertools import pairwise
from typing import get_args

import pytest
import torch

from mutoscope.diffusion.denoiser import NetworkDenoiser
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import (
    Kind,
    Plan,
    autoregressive,
    blocks,
    delayed,
    flow_match,
    full_sequence,
    keyframes,
    planned,
    public,
    pyramid,
    uniform,
)
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import shift
from mutoscope.video import Refusal

PLANS = {
    "full": full_sequence(4, 3, shift=3.0),
    "autoregressive": autoregressive(4, 3, shift=3.0),
    "pyramid": pyramid(4, 3, shift=3.0),
    "half": pyramid(4, 5, lag=0.5),
    "match": flow_match(4, 3, shift=3.0),
    "blocks": blocks(4, 7, block=3, shift=3.0),
    "waves": blocks(4, 7, block=2, lag=1),
    "keys": keyframes(4, 11, shift=3.0),
    "ends": keyframes(4, 9, keys=[0, 8], lag=2),
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


def test_blocks_by_hand():
    levels = torch.tensor([[2, 2, 2], [1, 1, 2], [0, 0, 2], [0, 0, 1], [0, 0, 0]])
    assert torch.equal(blocks(2, 3, block=2).times, levels / 2)
    assert torch.equal(blocks(4, 5, block=1, lag=1, shift=2.0).times, pyramid(4, 5, shift=2.0).times)
    assert torch.equal(blocks(4, 5, block=1).times, autoregressive(4, 5).times)
    assert torch.equal(blocks(4, 5, block=5).times, full_sequence(4, 5).times)
    assert torch.equal(blocks(4, 5, lag=99).times, blocks(4, 5).times), "no block waits for nothing"


@pytest.mark.oracle
@pytest.mark.parametrize(("steps", "frames", "lag", "block"), [(8, 12, 2, 3), (6, 5, 4, 1), (5, 9, 7, 3)])
def test_blocks_are_skyreels_matrix(steps, frames, lag, block):
    from diffusers import SkyReelsV2DiffusionForcingPipeline as Public

    grid = torch.arange(steps, 0, -1) * 100  # of the calls; each moves one step on
    matrix, *_ = Public.generate_timestep_matrix(
        Public.__new__(Public),
        frames,
        grid,
        base_num_latent_frames=frames,
        ar_step=lag,
        causal_block_size=block,
    )
    ours = blocks(steps, frames, block=block, lag=lag).times[:-1] * steps * 100
    assert torch.equal(torch.where(matrix == 999, 100 * steps, matrix).double(), ours.round())


def starts(plan):
    """In which row each frame has first moved."""
    return (plan.times < 1).double().argmax(dim=0).tolist()


def test_key_frames_come_first_and_then_the_middles():
    assert starts(keyframes(1, 9, keys=[0, 8])) == [1, 4, 3, 4, 2, 4, 3, 4, 1]
    assert starts(keyframes(1, 9)) == [1, 3, 2, 3, 1, 3, 2, 3, 1]
    assert starts(keyframes(1, 7, keys=[3])) == [2, 3, 4, 1, 3, 4, 2], "the ends are second"
    assert starts(keyframes(1, 1)) == [1]


@pytest.mark.parametrize("frames", [2, 5, 13, 16])
def test_every_later_generation_lies_between_two_earlier_ones(frames):
    order = starts(keyframes(1, frames))
    for frame, generation in enumerate(order):
        if generation > 1:
            assert min(order[:frame]) < generation and min(order[frame + 1 :]) < generation
    assert max(order) <= 3, "every fourth is a key: two halvings fill in"


def test_pictures_given_as_key_frames_are_filled_in():
    plan = keyframes(3, 9, keys=[0, 8]).knowing([0, 8])
    assert plan.steps == 9 and (plan.times[0] == torch.tensor([0, 1, 1, 1, 1, 1, 1, 1, 0])).all()
    assert (plan.times[1, 4] < 1) and (plan.times[1, [1, 2, 3, 5, 6, 7]] == 1).all()


@pytest.mark.parametrize("keys", [[], [9], [-1, 3]])
def test_key_frames_outside_the_film_are_refused(keys):
    with pytest.raises(Refusal, match=r"key frames .*0 to 8 are needed"):
        keyframes(4, 9, keys=keys)


def test_plans_by_name():
    named = {kind: planned(kind, uniform(4, shift=3.0), 11) for kind in get_args(Kind)}
    assert torch.equal(named["full"].times, full_sequence(4, 11, shift=3.0).times)
    assert torch.equal(named["autoregressive"].times, autoregressive(4, 11, shift=3.0).times)
    assert torch.equal(named["pyramid"].times, pyramid(4, 11, shift=3.0).times)
    assert torch.equal(named["blocks"].times, blocks(4, 11, shift=3.0).times)
    assert torch.equal(named["keyframes"].times, keyframes(4, 11, shift=3.0).times)
    assert torch.equal(planned("full", public(7, shift=5.0), 3).times, flow_match(7, 3, shift=5.0).times)


def mixed(mixing):
    def network(noisy, t, condition):
        blurred = mixing * noisy.mean(dim=2, keepdim=True)
        return torch.sin(2 * noisy) + t[:, None, :, None, None] + blurred

    return NetworkDenoiser(network, prediction="clean")


def everyone(grid, frames):
    """All kinds of plan over a grid, and orders by chance."""
    order = torch.Generator().manual_seed(5)
    chance = [torch.randint(0, 9, (frames,), generator=order).tolist() for _ in range(3)]
    return [*(planned(kind, grid, frames) for kind in get_args(Kind)), *(delayed(grid, a) for a in chance)]


def test_frames_on_their_own_do_not_care_for_the_plan():
    noise = draw([1, 2], (2, 7, 2, 3))
    films = [[*sample(mixed(0), noise, plan=plan)][-1].clean for plan in everyone(uniform(5), 7)]
    for film in films[1:]:
        assert torch.equal(film, films[0])
    one, other = ([*sample(mixed(0.5), noise, plan=plan)][-1].clean for plan in everyone(uniform(5), 7)[:2])
    assert not torch.allclose(one, other, atol=1e-2)


def test_a_frame_whose_level_stays_is_left_alone_to_the_bit():
    for plan in everyone(uniform(3), 6):
        noise = draw([1], (1, 6, 2, 2))
        states = [noise, *(state.noisy for state in sample(mixed(0.5), noise, plan=plan))]
        for (t, s), (before, after) in zip(pairwise(plan.times), pairwise(states), strict=True):
            assert torch.equal(before[:, :, t == s], after[:, :, t == s])


def test_equal_levels_are_ordinary_video_diffusion_to_the_bit():
    noise, grid = draw([1, 2], (1, 4, 2, 2)), uniform(6, shift=3.0)
    film, times = noise, full_sequence(6, 4, shift=3.0).times
    for t, s in pairwise(grid):
        assert (times == t).all(dim=1).any()
        guess = mixed(0.5)(film, t.expand(2, 4), None)
        film = (s / t).float() * film + ((1 - s) - s / t * (1 - t)).float() * guess
    *_, last = sample(mixed(0.5), noise, plan=full_sequence(6, 4, shift=3.0))
    assert torch.equal(film, last.clean)


def test_a_plan_as_characters():
    plan = pyramid(2, 3)
    assert str(plan).splitlines() == ["3 frames, 4 steps", "|@@@|", "|+@@|", "| +@|", "|  +|", "|   |"]
    assert str(Plan(torch.tensor([[1e-6, 1.0], [0.0, 0.0]]))).splitlines()[1] == "|.@|", "never blank"


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
        (lambda: blocks(4, 3, block=0), "block is 0"),
        (lambda: blocks(4, 3, lag=-1), "lag is -1"),
        (lambda: keyframes(4, 0), "frames is 0"),
        (lambda: planned("blocks", uniform(4), 0), "frames is 0"),
    ],
)
def test_impossible_numbers_are_refused(make, words):
    with pytest.raises(Refusal, match=words):
        make()
