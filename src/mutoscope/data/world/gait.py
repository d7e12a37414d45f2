"""How subjects move: one table of actions, phases that turn with time, legs that keep the body on the
ground.

Every action is one row of the same table (how fast the phase turns, how far hips, knees, shoulders and
elbows swing, how far the body leans, leaps and crouches), so a batch of different actions is one formula.
The body hangs from the hip; the hip stands as high as the lowest foot demands, which is what makes a walk
look planted. Angles are in radians from straight down, positive forwards; lengths are in body heights; x
points the way the figure faces, y up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["ACTIONS", "Action", "Leg", "Motion", "leg", "lift", "motion", "reach", "speed"]


@dataclass(frozen=True)
class Action:
    """One row of the table: rates in turns a second, angles in radians, lengths and speed in body heights."""

    turns: float
    hip: float = 0.0
    knee: float = 0.03
    knee_swing: float = 0.0
    lean: float = 0.0
    arm: float = 0.06
    arm_swing: float = 0.03
    elbow: float = 0.15
    elbow_swing: float = 0.0
    far_arm: float = 0.06
    far_swing: float = 1.0  # share of the swing that the far arm makes: one arm waves, the other hangs
    leap: float = 0.0
    crouch: float = 0.0
    sway: float = 0.0
    speed: float = 0.0
    together: bool = False  # both legs and both arms move in phase


ACTIONS = {
    "standing still": Action(turns=0.35),
    "walking": Action(
        turns=0.95, hip=0.44, knee=0.06, knee_swing=0.75, lean=0.04, arm=0.05, arm_swing=0.55, elbow=0.30,
        elbow_swing=0.20, far_arm=0.05, speed=0.80,
    ),
    "running": Action(
        turns=1.45, hip=0.78, knee=0.30, knee_swing=1.35, lean=0.22, arm=0.15, arm_swing=0.85, elbow=1.45,
        elbow_swing=0.25, far_arm=0.15, leap=0.07, speed=1.85,
    ),
    "waving": Action(
        turns=1.50, arm=1.95, arm_swing=0.06, elbow=0.85, elbow_swing=0.60, far_arm=0.08, far_swing=0.0
    ),
    "jumping": Action(
        turns=0.95, knee=0.05, lean=0.05, arm=0.90, arm_swing=1.30, elbow=0.35, far_arm=0.90, leap=0.24,
        crouch=0.75, together=True,
    ),
    "dancing": Action(
        turns=1.00, hip=0.22, knee=0.15, knee_swing=0.55, arm=1.70, arm_swing=0.80, elbow=0.70,
        elbow_swing=0.35, far_arm=1.70, leap=0.02, crouch=0.20, sway=0.035,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """The phases (radians) of n frames and, a column each, the table's rows of their actions."""

    phase: Float[Tensor, "n"]
    together: Bool[Tensor, "n"]
    rows: dict[str, Float[Tensor, "n"]]

    def __getattr__(self, name: str) -> Tensor:
        if name == "rows":  # not there yet while the object is being copied
            raise AttributeError(name)
        return self.rows[name]

    def of(self, far: bool) -> Float[Tensor, "n"]:
        """Phase of the near or the far limb."""
        return torch.where(self.together, self.phase, self.phase + pi) if far else self.phase

    @property
    def bend(self) -> Float[Tensor, "n"]:
        """How deep the crouch is, 0 to 1, before a leap; two dips a turn when the legs alternate."""
        before_leap, dips = torch.relu(-torch.sin(self.phase)), 0.5 - 0.5 * torch.cos(2 * self.phase)
        return torch.where(self.together, before_leap, dips)

    @property
    def flight(self) -> Float[Tensor, "n"]:
        """Height above the ground over the leap's height."""
        rise = torch.sin(self.phase)
        # Not `** 0.8`: on AVX2 its last bit depends on the place in the batch (torch 2.13).
        leap = torch.exp(0.8 * torch.relu(rise).log())
        return torch.where(self.together, leap, rise**2)


NUMBERS = tuple(name for name, kind in Action.__annotations__.items() if kind in (float, "float"))


def motion(actions: Sequence[str], seconds: Float[Tensor, "f"], *, starts: Sequence[float]) -> Motion:
    """The motions of clips with these actions, whose phases start at `starts` turns: n = clips x frames,
    clip by clip.
    """
    rows = [ACTIONS[action] for action in actions]
    table = torch.tensor([[getattr(row, name) for name in NUMBERS] for row in rows])
    turns = table[:, NUMBERS.index("turns"), None] * seconds + torch.tensor(starts)[:, None]
    columns = table.repeat_interleave(len(seconds), 0).unbind(1)
    together = torch.tensor([row.together for row in rows]).repeat_interleave(len(seconds))
    return Motion((2 * pi * turns).flatten(), together, dict(zip(NUMBERS, columns, strict=True)))


def speed(action: str) -> float:
    """Travel in body heights a second."""
    return ACTIONS[action].speed


def reach(point: Float[Tensor, "n 2"], angle: Float[Tensor, "n"], *, length: float) -> Float[Tensor, "n 2"]:
    """The end of a limb of `length` that hangs from `point` at `angle` from straight down."""
    return point + length * torch.stack([torch.sin(angle), -torch.cos(angle)], -1)


@dataclass(frozen=True)
class Leg:
    """Joint positions relative to the hip, "n 2" each."""

    hip: Float[Tensor, "n 2"]
    knee: Float[Tensor, "n 2"]
    ankle: Float[Tensor, "n 2"]
    toe: Float[Tensor, "n 2"]


def leg(move: Motion, phase: Float[Tensor, "n"], *, thigh: float, shin: float, swing: float = 1.0) -> Leg:
    """A leg hanging from the origin, `swing` times as far as the table says."""
    crouch = move.crouch * move.bend
    hip = swing * move.hip * torch.sin(phase) + crouch
    knee = move.knee + swing * move.knee_swing * torch.relu(torch.cos(phase)) + 2 * crouch
    origin = torch.zeros(len(phase), 2)
    middle = reach(origin, hip, length=thigh)
    ankle = reach(middle, hip - knee, length=shin)
    pitch = (hip - knee) * 0.6 + pi / 2
    return Leg(origin, middle, ankle, reach(ankle, pitch, length=0.075))


def lift(legs: Sequence[Leg], move: Motion, *, sole: float) -> Float[Tensor, "n 2"]:
    """The hip's position that puts the lowest foot on the ground (plus the leap)."""
    lowest = torch.stack([torch.minimum(one.ankle[:, 1], one.toe[:, 1]) for one in legs]).amin(0)
    height = sole - lowest + move.leap * move.flight
    return torch.stack([torch.zeros_like(height), height], -1)
