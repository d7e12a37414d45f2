"""Bodies: all subjects in all actions, told apart by their outline, wearing what the scene says."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from mutoscope.data.world import FULL, Scene
from mutoscope.data.world.capsules import Stage, paint
from mutoscope.data.world.figure import COATS, HEIGHTS, Look, body
from mutoscope.data.world.gait import motion
from mutoscope.data.world.vocabulary import possible

SECONDS = torch.arange(6) / 6
GREY = torch.full((6, 3), 0.5)


def look(subject: str, colour: str = "red") -> Look:
    return Look(subject, torch.tensor(COATS[colour]).expand(6, 3), GREY, GREY * 0.4, GREY * 0.6)


def seen(subject: str, action: str, *, colour: str = "red", size: tuple[int, int] = (120, 72)) -> Tensor:
    """The figure in six moments of its action, half a picture high, "6 4 h w"."""
    parts = body(look(subject, colour), motion([action], SECONDS, starts=[0.1]))
    ones = torch.ones(6)
    return paint(parts, Stage(ones * 0.5, ones * 0, ones * 0.9, ones, torch.zeros(6, 3)), size=size)


def can(subject: str, action: str) -> bool:
    scene = Scene(subject, action, "red", "street", "clear", "day", "flat illustration", "left", "still")
    return possible(scene)


PAIRS = [(subject, action) for subject in FULL.subject for action in FULL.action if can(subject, action)]


@pytest.mark.parametrize(("subject", "action"), PAIRS, ids=[f"{s}-{a}" for s, a in PAIRS])
def test_every_subject_does_what_it_can_within_its_height(subject: str, action: str):
    pictures = seen(subject, action)
    alpha = pictures[:, 3]
    rows = torch.nonzero(alpha.amax((0, 2)) > 0.5).flatten()
    assert 72 * 0.9 - 4 < int(rows[-1]) <= 72 * 0.9 + 1  # feet where the ground is
    assert 72 * 0.25 < int(rows[-1] - rows[0]) < 72 * 0.8
    assert float(alpha[:, :, [0, -1]].max()) == 0  # nothing is cut off
    moves = float(pictures.diff(dim=0).abs().sum())
    assert moves > (1 if action == "standing still" else 40)


def test_subjects_are_told_apart_by_shape_and_colour():
    pictures = {subject: seen(subject, "walking") for subject in FULL.subject}
    for one, other in combinations(FULL.subject, 2):
        difference = (pictures[one] - pictures[other]).abs().sum() / pictures[one].sum()
        assert float(difference) > 0.12, (one, other)


def test_a_coat_is_a_good_part_of_everyone():
    for subject in FULL.subject:
        red, blue = (seen(subject, "standing still", colour=colour) for colour in ("red", "blue"))
        changed = (red - blue)[:, :3].abs().amax(1) > 0.3
        assert float(changed.sum() / (red[:, 3] > 0.5).sum()) > 0.18, subject


def test_parts_outside_the_coat_do_not_change_with_it():
    red, blue = (seen("man", "walking", colour=colour) for colour in ("red", "blue"))
    assert torch.equal(red[:, 3], blue[:, 3])
    assert torch.equal(red[:, :, -12:], blue[:, :, -12:])  # shoes


def test_whoever_waves_holds_one_hand_up():
    top = {action: seen("man", action)[:, 3].amax(0) for action in ("standing still", "waving")}
    raised = (top["waving"] - top["standing still"]).clamp(min=0)
    front, back = raised[:, 60:].sum(), raised[:, :60].sum()
    assert float(front) > 5 * float(back) + 5


def test_heights_are_those_of_a_town():
    assert HEIGHTS["man"] > HEIGHTS["woman"] > HEIGHTS["child"] > HEIGHTS["dog"] > HEIGHTS["cat"]
    assert set(HEIGHTS) == set(FULL.subject) and set(COATS) == set(FULL.colour)


def test_a_batch_of_actions_is_its_clips_one_by_one():
    actions = ["walking", "jumping", "dancing"]
    wide = Look("robot", *(torch.rand(18, 3) for _ in range(4)))
    both = body(wide, motion(actions, SECONDS, starts=[0.1, 0.2, 0.3]))
    for k, action in enumerate(actions):
        rows = slice(6 * k, 6 * k + 6)
        one = Look("robot", wide.coat[rows], wide.skin[rows], wide.hair[rows], wide.trousers[rows])
        alone = body(one, motion([action], SECONDS, starts=[(k + 1) / 10]))
        for name in ("a", "b", "radius", "colour"):
            assert torch.allclose(getattr(both, name)[:, rows], getattr(alone, name), atol=1e-6)
