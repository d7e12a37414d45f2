"""Bodies: people, machines and animals as lists of tapered capsules, painted from the far side to the near
side.

A body is built for all frames of a batch that show the same subject at once: its joints come from the
motions in `gait`, its colours from a `Look`, and whatever tells one subject from another (a woman's long
coat, a child's woolly hat, an astronaut's pack) is a part more or less. Lengths are in body heights; x
points the way the figure faces, y up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.world.capsules import Part, Parts
from mutoscope.data.world.gait import Leg, Motion, leg, lift, reach

__all__ = ["COATS", "HAIRS", "HEIGHTS", "SKINS", "STEEL", "SUIT", "TROUSERS", "Look", "body"]

HEIGHTS = {
    "man": 0.70, "woman": 0.66, "child": 0.47, "robot": 0.62, "astronaut": 0.68, "dog": 0.40, "cat": 0.30,
    "horse": 0.66,
}  # fmt: skip
COATS = {
    "red": (0.88, 0.13, 0.13), "blue": (0.13, 0.36, 0.92), "green": (0.10, 0.66, 0.26),
    "yellow": (0.99, 0.82, 0.10), "purple": (0.56, 0.18, 0.74), "orange": (0.97, 0.50, 0.08),
    "white": (0.94, 0.94, 0.96), "black": (0.11, 0.11, 0.14),
}  # fmt: skip
SKINS = ((0.98, 0.82, 0.69), (0.91, 0.70, 0.54), (0.76, 0.53, 0.37), (0.55, 0.36, 0.24), (0.38, 0.25, 0.18))
HAIRS = ((0.13, 0.10, 0.09), (0.36, 0.20, 0.10), (0.78, 0.56, 0.24), (0.55, 0.22, 0.10))
TROUSERS = ((0.17, 0.20, 0.36), (0.22, 0.22, 0.25), (0.34, 0.24, 0.17))
FURS = {"dog": (0.63, 0.42, 0.24), "cat": (0.42, 0.42, 0.46), "horse": (0.45, 0.27, 0.15)}
STEEL = (0.66, 0.70, 0.76)
SUIT = (0.90, 0.91, 0.94)
GLASS = (0.20, 0.26, 0.38)
SHOE = (0.16, 0.11, 0.09)
WOOL = (0.97, 0.95, 0.92)
INK = (0.07, 0.06, 0.08)

Colour = Float[Tensor, "n 3"] | Float[Tensor, "3"]


@dataclass(frozen=True)
class Look:
    """The subject of n frames and the colours it wears in each, "n 3"."""

    subject: str
    coat: Float[Tensor, "n 3"]
    skin: Float[Tensor, "n 3"]
    hair: Float[Tensor, "n 3"]
    trousers: Float[Tensor, "n 3"]


@dataclass(frozen=True)
class Hanging:
    """A point of the body from which parts hang at fixed places, `big` times enlarged."""

    point: Float[Tensor, "n 2"]
    big: float = 1.0

    def part(
        self, a: tuple[float, float], b: tuple[float, float], *, radii: tuple[float, float], colour: Colour
    ) -> Part:
        return Part(self._at(a), self._at(b), radii, colour)

    def dot(self, place: tuple[float, float], *, radius: float, colour: Colour) -> Part:
        return self.part(place, place, radii=(radius, radius), colour=colour)

    def _at(self, place: tuple[float, float]) -> Tensor:
        return self.point + self.big * torch.tensor(place)


def body(look: Look, move: Motion) -> Parts:
    """The parts of any subject in motion, n bodies."""
    return Parts.of(list(_quadruped(look, move) if look.subject in FURS else _biped(look, move)))


def _biped(look: Look, move: Motion) -> Iterator[Part]:
    """A person, a robot or an astronaut."""
    near, far = (leg(move, move.of(side), thigh=0.235, shin=0.225) for side in (False, True))
    hip = lift([near, far], move, sole=0.03)
    sway = move.sway * torch.sin(move.phase)
    hip = hip + torch.stack([sway, torch.zeros_like(sway)], -1)
    lean = pi - move.lean
    shoulder = reach(hip, lean, length=0.27)
    head = reach(shoulder, lean * 0.5 + pi / 2, length=0.155 if look.subject == "child" else 0.145)
    yield from _arm(look, move, shoulder, far=True)
    yield from _leg(look, far, hip, dim=0.72)
    if look.subject == "woman":
        ends = reach(head, torch.full_like(lean, -0.35), length=0.20)
        yield Part(head, ends, (0.085, 0.06), look.hair * 0.9)
    yield from _leg(look, near, hip, dim=1.0)
    yield from _trunk(look, hip, shoulder, knees=near.knee + far.knee)
    yield from _head(look, head)
    yield from _arm(look, move, shoulder, far=False)


def _arm(look: Look, move: Motion, shoulder: Tensor, *, far: bool) -> Iterator[Part]:
    phase, rest = move.of(not far), move.far_arm if far else move.arm
    swing = move.far_swing if far else 1.0
    upper = rest + swing * move.arm_swing * torch.sin(phase)
    bend = move.elbow * (0.5 + 0.5 * swing) + swing * move.elbow_swing * torch.sin(phase)
    elbow = reach(shoulder, upper, length=0.15)
    hand = reach(elbow, upper + bend, length=0.14)
    dim = 0.70 if far else 1.0
    sleeve = look.coat * (1.0 if far else 0.90) * dim
    yield Part(shoulder, elbow, (0.052, 0.045), sleeve)
    yield Part(elbow, hand, (0.045, 0.037), sleeve)
    yield Part(hand, reach(hand, upper + bend, length=0.02), (0.034, 0.032), look.skin * dim)


def _leg(look: Look, limb: Leg, hip: Tensor, *, dim: float) -> Iterator[Part]:
    thick = 0.05 if look.subject == "woman" else 0.062
    shoe = torch.tensor(SHOE) if look.subject != "robot" else torch.tensor(STEEL) * 0.6
    yield Part(hip + limb.hip, hip + limb.knee, (thick * 1.1, thick), look.trousers * dim)
    yield Part(hip + limb.knee, hip + limb.ankle, (thick, thick * 0.72), look.trousers * dim)
    yield Part(hip + limb.ankle, hip + limb.toe, (0.04, 0.034), shoe * dim)


WIDTHS = {"woman": (0.080, 0.088), "child": (0.092, 0.105), "astronaut": (0.115, 0.115)}
SATCHEL, CHEST, WAIST = (-0.11, -0.05), (0.0, -0.01), (0.0, 0.02)


def _trunk(look: Look, hip: Tensor, shoulder: Tensor, *, knees: Tensor) -> Iterator[Part]:
    wide = WIDTHS.get(look.subject, (0.098, 0.092))
    if look.subject in ("astronaut", "child"):
        pack = torch.tensor(SUIT) * 0.8 if look.subject == "astronaut" else look.trousers * 1.3
        back = torch.tensor(SATCHEL) + shoulder
        yield Part(back, back + torch.tensor((0.0, -0.12)), (0.07, 0.075), pack)
    yield Part(shoulder + torch.tensor(CHEST), hip + torch.tensor(WAIST), wide, look.coat)
    if look.subject in ("man", "woman", "child"):
        # the coat's skirt follows the thighs; a woman's reaches the knees, which tells her from a man
        fall = 0.72 if look.subject == "woman" else 0.30
        flare = 0.135 if look.subject == "woman" else wide[1] * 1.08
        yield Part(hip, hip + fall * 0.5 * knees, (wide[1], flare), look.coat)


def _head(look: Look, head: Tensor) -> Iterator[Part]:
    painter = {"robot": _robot_head, "astronaut": _helmet}.get(look.subject, _human_head)
    return painter(look, head)


def _human_head(look: Look, head: Tensor) -> Iterator[Part]:
    child = look.subject == "child"
    big = 1.22 if child else 1.0
    face, size = Hanging(head, big), 0.085 * big
    yield Part(head + big * torch.tensor((0.0, -0.09)), head, (0.04, 0.045), look.skin)
    yield face.part((0.008, -0.01), (0.012, 0.015), radii=(size, size), colour=look.skin)
    yield face.part((0.088, -0.012), (0.094, -0.014), radii=(0.020 * big, 0.016 * big), colour=look.skin)
    yield face.part((-0.045, -0.005), (-0.03, 0.045), radii=(0.058 * big, 0.062 * big), colour=look.hair)
    yield face.part((-0.035, 0.055), (0.045, 0.068), radii=(0.05 * big, 0.036 * big), colour=look.hair)
    eye = torch.tensor(INK)
    yield face.part((0.055, 0.0), (0.055, 0.01), radii=(0.013 * big, 0.013 * big), colour=eye)
    if child:
        yield face.part((-0.07, 0.055), (0.07, 0.06), radii=(0.04 * big, 0.036 * big), colour=look.coat)
        yield face.part((0.0, 0.12), (0.0, 0.13), radii=(0.03, 0.03), colour=torch.tensor(WOOL))


def _robot_head(look: Look, head: Tensor) -> Iterator[Part]:
    at, steel = Hanging(head), torch.tensor(STEEL)
    yield at.part((0.0, -0.1), (0.0, 0.0), radii=(0.035, 0.035), colour=steel * 0.7)
    for y in (-0.045, 0.0, 0.04):  # three flat capsules make a box with soft corners
        yield at.part((-0.055, y), (0.06, y), radii=(0.045, 0.045), colour=steel)
    yield at.part((0.0, 0.06), (0.0, 0.14), radii=(0.013, 0.013), colour=steel * 0.6)
    yield at.dot((0.0, 0.14), radius=0.028, colour=look.coat)
    yield at.part((0.05, 0.0), (0.075, 0.0), radii=(0.025, 0.025), colour=torch.tensor((0.2, 0.95, 1.0)))


def _helmet(look: Look, head: Tensor) -> Iterator[Part]:
    at, glass = Hanging(head), torch.tensor(GLASS)
    yield at.part((0.0, -0.02), (0.0, 0.0), radii=(0.115, 0.115), colour=torch.tensor(SUIT))
    yield at.part((0.04, -0.01), (0.06, -0.01), radii=(0.07, 0.065), colour=glass)
    yield at.part((0.06, 0.02), (0.075, 0.02), radii=(0.018, 0.014), colour=glass * 3)


@dataclass(frozen=True)
class Shape:
    """The build of an animal: lengths and radii in body heights; a muzzle is counted in radii of the head."""

    legs: float
    trunk: float
    thick: float
    skull: float
    neck: tuple[float, float]
    tail: float
    muzzle: float


SHAPES = {
    "dog": Shape(legs=0.36, trunk=0.62, thick=0.150, skull=0.135, neck=(0.20, 0.26), tail=0.34, muzzle=1.25),
    "cat": Shape(legs=0.32, trunk=0.66, thick=0.140, skull=0.150, neck=(0.16, 0.22), tail=0.55, muzzle=0.65),
    "horse": Shape(legs=0.50, trunk=0.58, thick=0.140, skull=0.085, neck=(0.24, 0.36), tail=0.34, muzzle=2.1),
}


def _quadruped(look: Look, move: Motion) -> Iterator[Part]:
    """A dog, a cat or a horse, wearing its coat as a blanket."""
    shape, fur = SHAPES[look.subject], torch.tensor(FURS[look.subject])
    far_rear, near_rear, far_front, near_front = legs = _four_legs(shape, move)
    hip = lift(legs, move, sole=0.03)
    rear = hip + torch.tensor((-shape.trunk / 2, 0.0))
    front = hip + torch.tensor((shape.trunk / 2, 0.0))
    wag = 2.4 + 0.35 * torch.sin(2 * move.phase)
    yield Part(rear, reach(rear, -wag, length=shape.tail), (0.045, 0.028), fur * 0.85)
    yield from _paw(far_rear, rear, thick=shape.thick, colour=fur * 0.7)
    yield from _paw(far_front, front, thick=shape.thick, colour=fur * 0.7)
    spine = torch.tensor(((0.0, 0.04), (0.0, 0.05)))
    yield Part(rear + spine[0], front + spine[1], (shape.thick, shape.thick * 1.05), fur)
    yield from _paw(near_rear, rear, thick=shape.thick, colour=fur)
    yield from _paw(near_front, front, thick=shape.thick, colour=fur)
    saddle = torch.tensor((0.0, 0.06))
    back, withers = rear * 0.75 + front * 0.25 + saddle, rear * 0.15 + front * 0.85 + saddle
    yield Part(back, withers, (shape.thick * 1.06, shape.thick * 1.1), look.coat)
    yield from _muzzle(shape, front + torch.tensor((0.03, 0.06)), fur)


def _four_legs(shape: Shape, move: Motion) -> list[Leg]:
    """Far and near hind leg, far and near foreleg: the forelegs half a beat later, all together in a leap."""
    none = torch.zeros_like(move.phase)
    late = torch.where(move.leap == 0, none + pi / 2, none + pi * 0.85)
    late, other = torch.where(move.together, none, late), torch.where(move.together, none, none + pi)
    return [
        leg(move, move.phase + offset, thigh=shape.legs * 0.52, shin=shape.legs * 0.48, swing=0.9)
        for offset in (other, none, late + other, late)
    ]


def _paw(limb: Leg, place: Tensor, *, thick: float, colour: Tensor) -> Iterator[Part]:
    foot = place + limb.ankle
    yield Part(place + limb.hip, place + limb.knee, (thick * 0.55, thick * 0.36), colour)
    yield Part(place + limb.knee, foot, (thick * 0.36, thick * 0.28), colour)
    yield Part(foot, foot + torch.tensor((0.05, 0.0)), (0.035, 0.03), colour * 0.7)


def _muzzle(shape: Shape, chest: Tensor, fur: Tensor) -> Iterator[Part]:
    head, skull, ink = chest + torch.tensor(shape.neck), shape.skull, torch.tensor(INK)
    long = shape.muzzle
    at = Hanging(head, skull)
    yield Part(chest, head, (skull * 0.95, skull * 0.75), fur)
    yield at.part((-0.5, 0.9), (-0.62, 1.45), radii=(0.3 * skull, 0.12 * skull), colour=fur * 0.7)
    yield at.part((0.0, 0.0), (long, -0.45 * long), radii=(skull, skull * 0.6), colour=fur)
    nose = (long + 0.4, -0.5 * long)
    yield at.part(nose, (nose[0] + 0.05, nose[1]), radii=(0.26 * skull, 0.2 * skull), colour=ink)
    yield at.dot((0.31, 0.25), radius=0.16 * skull, colour=ink)
