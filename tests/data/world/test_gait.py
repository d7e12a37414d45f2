"""Motions: phases turn with time, legs keep the body on the ground, and a planted foot stays where it is."""

from math import pi

import pytest
import torch

from mutoscope.data.world.gait import ACTIONS, Motion, leg, lift, motion, reach, speed

SECONDS = torch.arange(0, 2, 1 / 60)


def moving(action: str, *, start: float = 0.0) -> Motion:
    return motion([action], SECONDS, starts=[start])


def feet(move: Motion) -> tuple[torch.Tensor, torch.Tensor]:
    """Near and far ankle over time, "n 2" each, where the hip stands as it does in a body."""
    legs = [leg(move, move.of(far), thigh=0.235, shin=0.225) for far in (False, True)]
    hip = lift(legs, move, sole=0.03)
    return hip + legs[0].ankle, hip + legs[1].ankle


def test_a_limb_hangs_straight_down_and_reaches_its_length():
    point = torch.tensor([[1.0, 2.0]])
    assert torch.allclose(reach(point, torch.zeros(1), length=0.5), torch.tensor([[1.0, 1.5]]))
    assert torch.allclose(reach(point, torch.tensor([pi / 2]), length=0.5), torch.tensor([[1.5, 2.0]]))


@pytest.mark.parametrize("action", ACTIONS)
def test_the_phase_turns_at_the_actions_rate(action: str):
    move = moving(action, start=0.25)
    turns = move.phase / (2 * pi)
    assert torch.allclose(turns, 0.25 + ACTIONS[action].turns * SECONDS, atol=1e-5)
    again = motion([action], SECONDS + 1 / ACTIONS[action].turns, starts=[0.25])
    assert torch.allclose(feet(move)[0], feet(again)[0], atol=1e-4)  # after a turn everything repeats


def test_clips_of_different_actions_are_one_batch():
    both = motion(["walking", "jumping"], SECONDS, starts=[0.1, 0.6])
    for k, (action, start) in enumerate([("walking", 0.1), ("jumping", 0.6)]):
        rows = slice(k * len(SECONDS), (k + 1) * len(SECONDS))
        alone = moving(action, start=start)
        assert torch.equal(both.phase[rows], alone.phase)
        assert torch.equal(both.bend[rows], alone.bend) and torch.equal(both.flight[rows], alone.flight)
        assert torch.equal(both.crouch[rows], alone.crouch)


@pytest.mark.parametrize("action", ["standing still", "walking", "waving"])
def test_the_lower_foot_is_always_on_the_ground(action: str):
    lowest = torch.minimum(*(foot[:, 1] for foot in feet(moving(action))))
    assert lowest.min() > 0.02 and lowest.max() < 0.08  # the ankle is a little above the sole


@pytest.mark.parametrize("action", ["jumping", "running"])
def test_leaps_leave_the_ground(action: str):
    lowest = torch.minimum(*(foot[:, 1] for foot in feet(moving(action))))
    assert lowest.max() - lowest.min() > 0.8 * ACTIONS[action].leap > 0


def test_a_planted_foot_stays_where_it_is():
    """Under someone who walks, the foot that bears them goes back as fast, on the whole, as they go on."""
    move = moving("walking")
    for foot, far in zip(feet(move), (False, True), strict=True):
        bearing = (torch.cos(move.of(far)) < 0)[:-1]  # the leg swings back, its knee straight
        assert foot[:-1][bearing][:, 1].max() < 0.08
        back = -foot[:, 0].diff()[bearing] * 60
        assert float((back > 0).float().mean()) > 0.95
        assert abs(float(back.mean()) - speed("walking")) < 0.15 * speed("walking")


def test_legs_alternate_in_a_walk_and_go_together_in_a_jump():
    near, far = feet(moving("walking"))
    assert float((near[:, 0] * far[:, 0]).mean()) < -0.005
    near, far = feet(moving("jumping"))
    assert torch.allclose(near, far, atol=1e-6)


def test_only_walkers_and_runners_travel_and_a_run_is_faster():
    assert {action for action in ACTIONS if speed(action)} == {"walking", "running"}
    assert speed("running") > 2 * speed("walking")


def test_a_crouch_is_deepest_before_the_leap():
    move = moving("jumping")
    assert float((move.bend * move.flight).abs().max()) == 0  # never both at once
    assert 0.99 < float(move.bend.max()) <= 1 and 0.99 < float(move.flight.max()) <= 1
