"""Figures with a gait: joints from a table of motions, bodies from tapered capsules.

Every action is one row of the same table (how fast the phase turns, how far hips, knees, shoulders and elbows swing,
how far the body leans, leaps and crouches), so a batch of different actions is one formula. The body hangs from the
hip; the hip stands as high as the lower foot demands, which is what makes a walk look planted. Angles are in radians
from straight down, positive forwards; lengths are in body heights; x points the way the figure faces, y up.
"""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

# turns per second, hip swing, knee rest, knee swing, lean, arm rest, arm swing, elbow rest, elbow swing, leap, crouch, speed, far arm rest
MOTIONS = {
    "standing still": (0.35, 0.00, 0.03, 0.00, 0.00, 0.06, 0.03, 0.15, 0.00, 0.00, 0.00, 0.0, 0.06),
    "walking": (0.95, 0.44, 0.06, 0.75, 0.04, 0.05, 0.55, 0.30, 0.20, 0.00, 0.00, 0.80, 0.05),
    "running": (1.45, 0.78, 0.30, 1.35, 0.22, 0.15, 0.85, 1.45, 0.25, 0.07, 0.00, 1.85, 0.15),
    "waving": (1.50, 0.00, 0.03, 0.00, 0.00, 1.95, 0.06, 0.85, 0.60, 0.00, 0.00, 0.0, 0.08),
    "jumping": (0.95, 0.00, 0.05, 0.00, 0.05, 0.90, 1.30, 0.35, 0.00, 0.24, 0.75, 0.0, 0.90),
    "dancing": (1.00, 0.22, 0.15, 0.55, 0.00, 1.70, 0.80, 0.70, 0.35, 0.02, 0.20, 0.0, 1.70),
}
COLUMNS = ("turns", "hip", "knee", "knee_swing", "lean", "arm", "arm_swing", "elbow", "elbow_swing", "leap", "crouch", "speed", "far_arm")  # fmt: skip
IN_PHASE = frozenset({"jumping"})  # both legs and both arms move together
HEIGHTS = {
    "man": 0.70, "woman": 0.66, "child": 0.47, "robot": 0.62, "astronaut": 0.68, "dog": 0.40, "cat": 0.30, "horse": 0.66
}  # fmt: skip
COATS = {
    "red": (0.88, 0.13, 0.13), "blue": (0.13, 0.36, 0.92), "green": (0.10, 0.66, 0.26), "yellow": (0.99, 0.82, 0.10),
    "purple": (0.56, 0.18, 0.74), "orange": (0.97, 0.50, 0.08), "white": (0.94, 0.94, 0.96), "black": (0.11, 0.11, 0.14),
}  # fmt: skip
SKINS = ((0.98, 0.82, 0.69), (0.91, 0.70, 0.54), (0.76, 0.53, 0.37), (0.55, 0.36, 0.24), (0.38, 0.25, 0.18))
HAIRS = ((0.13, 0.10, 0.09), (0.36, 0.20, 0.10), (0.78, 0.56, 0.24), (0.55, 0.22, 0.10))
TROUSERS = ((0.17, 0.20, 0.36), (0.22, 0.22, 0.25), (0.34, 0.24, 0.17))
FURS = {"dog": (0.63, 0.42, 0.24), "cat": (0.42, 0.42, 0.46), "horse": (0.45, 0.27, 0.15)}
STEEL = (0.66, 0.70, 0.76)
SUIT = (0.90, 0.91, 0.94)
GLASS = (0.20, 0.26, 0.38)
PARTS = 24


@dataclass
class Parts:
    """Capsules from `a` to `b`, painted in order: `a`, `b` "n parts 2", `radius` "n parts 2", `colour` "n parts 3".

    A part with negative radii covers nothing.
    """

    a: Tensor
    b: Tensor
    radius: Tensor
    colour: Tensor
    count: int = 0

    @classmethod
    def empty(cls, n: int) -> "Parts":
        def full(width: int, value: float) -> Tensor:
            return torch.full((n, PARTS, width), value)

        return cls(full(2, 0.0), full(2, 0.0), full(2, -1.0), full(3, 0.0))

    def add(self, a: Tensor, b: Tensor, radii: tuple[float, float], colour: Tensor, dim: float = 1.0) -> None:
        k = self.count
        self.a[:, k], self.b[:, k], self.colour[:, k] = a, b, colour * dim
        self.radius[:, k] = torch.tensor(radii)
        self.count += 1

    def put(self, rows: Tensor, other: "Parts") -> None:
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine[rows] = theirs

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.a, self.b, self.radius, self.colour


@dataclass(frozen=True)
class Motion:
    """The table's row for one action and the phase in radians, "n" frames."""

    phase: Tensor
    row: dict[str, float]
    together: bool

    def __getattr__(self, name: str) -> float:
        return self.row[name]

    def of(self, far: bool) -> Tensor:
        """Phase of the near or the far limb."""
        return self.phase + (pi if far and not self.together else 0.0)

    @property
    def bend(self) -> Tensor:
        """How deep the crouch is, 0 to 1, before a leap; two dips a turn when the legs alternate."""
        return torch.relu(-torch.sin(self.phase)) if self.together else 0.5 - 0.5 * torch.cos(2 * self.phase)

    @property
    def flight(self) -> Tensor:
        """Height above the ground over the leap's height."""
        rise = torch.sin(self.phase)
        return torch.relu(rise) ** 0.8 if self.together else rise**2


def motion(action: str, seconds: Tensor, *, start: float) -> Motion:
    """The motion of `action` at the times `seconds` ("n"), its phase starting at `start` turns."""
    row = dict(zip(COLUMNS, MOTIONS[action], strict=True))
    return Motion(2 * pi * (row["turns"] * seconds + start), row, action in IN_PHASE)


def speed(action: str) -> float:
    """Travel in body heights a second."""
    return dict(zip(COLUMNS, MOTIONS[action], strict=True))["speed"]


def reach(point: Tensor, angle: Tensor, length: float) -> Tensor:
    """The end of a limb of `length` that hangs from `point` at `angle` from straight down."""
    return point + length * torch.stack([torch.sin(angle), -torch.cos(angle)], -1)


@dataclass(frozen=True)
class Leg:
    """Joint positions relative to the hip, "n 2" each."""

    hip: Tensor
    knee: Tensor
    ankle: Tensor
    toe: Tensor


def leg(move: Motion, phase: Tensor, *, thigh: float, shin: float, swing: float = 1.0) -> Leg:
    """A leg hanging from the origin."""
    crouch = move.crouch * move.bend
    hip = swing * move.hip * torch.sin(phase) + crouch
    knee = move.knee + move.knee_swing * swing * torch.relu(torch.cos(phase)) + 2 * crouch
    origin = torch.zeros(len(phase), 2)
    middle = reach(origin, hip, thigh)
    ankle = reach(middle, hip - knee, shin)
    pitch = (hip - knee) * 0.6 + pi / 2
    return Leg(origin, middle, ankle, reach(ankle, pitch, 0.075))


def lift(legs: list[Leg], move: Motion, *, sole: float) -> Tensor:
    """The hip's position that puts the lower foot on the ground (plus the leap), "n 2"."""
    lowest = torch.stack([torch.minimum(one.ankle[:, 1], one.toe[:, 1]) for one in legs]).amin(0)
    height = sole - lowest + move.leap * move.flight
    return torch.stack([torch.zeros_like(height), height], -1)


@dataclass(frozen=True)
class Look:
    """The colours of one figure, "3" each, and its subject."""

    subject: str
    coat: Tensor
    skin: Tensor
    hair: Tensor
    trousers: Tensor


def biped(look: Look, move: Motion) -> Parts:
    """A person, a robot or an astronaut, painted from the far side to the near side."""
    child = look.subject == "child"
    parts = Parts.empty(len(move.phase))
    near, far = (leg(move, move.of(side), thigh=0.235, shin=0.225) for side in (False, True))
    hip = lift([near, far], move, sole=0.03)
    sway = 0.035 * torch.sin(move.phase) if move.row["arm"] == 1.70 else 0 * move.phase
    hip = hip + torch.stack([sway, 0 * sway], -1)
    lean = pi + torch.full_like(move.phase, -move.lean)
    shoulder = reach(hip, lean, 0.27)
    head = reach(shoulder, lean * 0.5 + pi / 2, 0.155 if child else 0.145)
    _arm(parts, look, move, shoulder, far=True)
    _leg(parts, look, far, hip, dim=0.72)
    if look.subject == "woman":
        parts.add(head, reach(head, torch.full_like(lean, -0.35), 0.20), (0.085, 0.06), look.hair, 0.9)
    _leg(parts, look, near, hip)
    _trunk(parts, look, near, far, hip, shoulder)
    _head(parts, look, head, lean)
    _arm(parts, look, move, shoulder, far=False)
    return parts


def _arm(parts: Parts, look: Look, move: Motion, shoulder: Tensor, *, far: bool) -> None:
    phase, rest = move.of(not far), move.far_arm if far else move.arm
    # one arm waves; the far arm of a waving figure hangs still
    swing = 0.0 if far and move.row["arm"] == 1.95 else 1.0
    upper = rest + swing * move.arm_swing * torch.sin(phase)
    elbow = reach(shoulder, upper, 0.15)
    bend = move.elbow * (1.0 if swing else 0.5) + swing * move.elbow_swing * torch.sin(phase)
    hand = reach(elbow, upper + bend, 0.14)
    dim = 0.70 if far else 1.0
    sleeve = look.coat * (1.0 if far else 0.90)
    parts.add(shoulder, elbow, (0.052, 0.045), sleeve, dim)
    parts.add(elbow, hand, (0.045, 0.037), sleeve, dim)
    parts.add(hand, reach(hand, upper + bend, 0.02), (0.034, 0.032), look.skin, dim)


def _leg(parts: Parts, look: Look, limb: Leg, hip: Tensor, dim: float = 1.0) -> None:
    thick = 0.05 if look.subject == "woman" else 0.062
    shoe = torch.tensor((0.16, 0.11, 0.09)) if look.subject != "robot" else torch.tensor(STEEL) * 0.6
    parts.add(hip + limb.hip, hip + limb.knee, (thick * 1.1, thick), look.trousers, dim)
    parts.add(hip + limb.knee, hip + limb.ankle, (thick, thick * 0.72), look.trousers, dim)
    parts.add(hip + limb.ankle, hip + limb.toe, (0.04, 0.034), shoe, dim)


def _trunk(parts: Parts, look: Look, near: Leg, far: Leg, hip: Tensor, shoulder: Tensor) -> None:
    wide = {"woman": (0.080, 0.088), "child": (0.092, 0.105), "astronaut": (0.115, 0.115)}.get(look.subject, (0.098, 0.092))
    if look.subject in ("astronaut", "child"):
        back = torch.tensor((-0.11, -0.05)) + shoulder
        pack = torch.tensor(SUIT) * 0.8 if look.subject == "astronaut" else look.trousers * 1.3
        parts.add(back, back + torch.tensor((0.0, -0.12)), (0.07, 0.075), pack)
    parts.add(shoulder + torch.tensor((0.0, -0.01)), hip + torch.tensor((0.0, 0.02)), wide, look.coat)
    if look.subject in ("man", "woman", "child"):
        # the coat's skirt follows the thighs; a woman's reaches the knees, which tells her from a man at any size
        fall = 0.72 if look.subject == "woman" else 0.30
        middle = hip + fall * 0.5 * (near.knee + far.knee)
        flare = 0.135 if look.subject == "woman" else wide[1] * 1.08
        parts.add(hip, middle, (wide[1], flare), look.coat)


def _head(parts: Parts, look: Look, head: Tensor, lean: Tensor) -> None:
    painter = {"robot": _robot_head, "astronaut": _helmet}.get(look.subject, _human_head)
    painter(parts, look, head, 1.22 if look.subject == "child" else 1.0)


def _human_head(parts: Parts, look: Look, head: Tensor, big: float) -> None:
    def at(x: float, y: float) -> Tensor:
        return head + big * torch.tensor((x, y))

    size = 0.085 * big
    parts.add(at(0.0, -0.09), head, (0.04, 0.045), look.skin)
    parts.add(at(0.008, -0.01), at(0.012, 0.015), (size, size), look.skin)
    parts.add(at(0.088, -0.012), at(0.094, -0.014), (0.020 * big, 0.016 * big), look.skin)
    parts.add(at(-0.045, -0.005), at(-0.03, 0.045), (0.058 * big, 0.062 * big), look.hair)
    parts.add(at(-0.035, 0.055), at(0.045, 0.068), (0.05 * big, 0.036 * big), look.hair)
    parts.add(at(0.055, 0.0), at(0.055, 0.01), (0.013 * big, 0.013 * big), torch.tensor((0.07, 0.06, 0.08)))
    if look.subject == "child":
        parts.add(at(-0.07, 0.055), at(0.07, 0.06), (0.04 * big, 0.036 * big), look.coat)
        parts.add(at(0.0, 0.12), at(0.0, 0.13), (0.03, 0.03), torch.tensor((0.97, 0.95, 0.92)))


def _robot_head(parts: Parts, look: Look, head: Tensor, big: float) -> None:
    steel = torch.tensor(STEEL)
    parts.add(head + torch.tensor((0.0, -0.1)), head, (0.035, 0.035), steel * 0.7)
    for y in (-0.045, 0.0, 0.04):  # three flat capsules make a box with soft corners
        parts.add(head + torch.tensor((-0.055, y)), head + torch.tensor((0.06, y)), (0.045, 0.045), steel)
    parts.add(head + torch.tensor((0.0, 0.06)), head + torch.tensor((0.0, 0.14)), (0.013, 0.013), steel * 0.6)
    parts.add(head + torch.tensor((0.0, 0.14)), head + torch.tensor((0.0, 0.142)), (0.028, 0.028), look.coat)
    parts.add(head + torch.tensor((0.05, 0.0)), head + torch.tensor((0.075, 0.0)), (0.025, 0.025), torch.tensor((0.2, 0.95, 1.0)))


def _helmet(parts: Parts, look: Look, head: Tensor, big: float) -> None:
    white, glass = torch.tensor(SUIT), torch.tensor(GLASS)
    parts.add(head + torch.tensor((0.0, -0.02)), head + torch.tensor((0.0, 0.0)), (0.115, 0.115), white)
    parts.add(head + torch.tensor((0.04, -0.01)), head + torch.tensor((0.06, -0.01)), (0.07, 0.065), glass)
    parts.add(head + torch.tensor((0.06, 0.02)), head + torch.tensor((0.075, 0.02)), (0.018, 0.014), glass * 3)


SHAPES = {  # leg, trunk length, trunk radius, head radius, neck height and reach, tail length
    "dog": (0.36, 0.62, 0.150, 0.135, 0.26, 0.20, 0.34),
    "cat": (0.32, 0.66, 0.140, 0.150, 0.22, 0.16, 0.55),
    "horse": (0.50, 0.58, 0.140, 0.085, 0.36, 0.24, 0.34),
}


def quadruped(look: Look, move: Motion) -> Parts:
    """A dog, a cat or a horse, wearing its coat as a blanket."""
    limb, length, thick, skull, neck_up, neck_out, tail = SHAPES[look.subject]
    parts, fur = Parts.empty(len(move.phase)), torch.tensor(FURS[look.subject])
    offsets = (0.0, pi) if move.together else (0.0, pi / 2 if move.leap == 0 else pi * 0.85)
    legs = [
        leg(move, move.phase + offset + side, thigh=limb * 0.52, shin=limb * 0.48, swing=0.9)
        for offset in (offsets if not move.together else (0.0, 0.0))
        for side in ((pi, 0.0) if not move.together else (0.0, 0.0))
    ]
    hip = lift(legs, move, sole=0.03)
    rear, front = hip + torch.tensor((-length / 2, 0.0)), hip + torch.tensor((length / 2, 0.0))
    wag = 2.4 + 0.35 * torch.sin(2 * move.phase)
    parts.add(rear, reach(rear, -wag, tail), (0.045, 0.028), fur, 0.85)
    for place, limb_pose, dim in ((rear, legs[0], 0.7), (front, legs[2], 0.7)):
        _paw(parts, limb_pose, place, fur, dim, thick)
    parts.add(rear + torch.tensor((0.0, 0.04)), front + torch.tensor((0.0, 0.05)), (thick, thick * 1.05), fur)
    for place, limb_pose in ((rear, legs[1]), (front, legs[3])):
        _paw(parts, limb_pose, place, fur, 1.0, thick)
    saddle = torch.tensor((0.0, 0.06))
    parts.add(rear * 0.75 + front * 0.25 + saddle, rear * 0.15 + front * 0.85 + saddle, (thick * 1.06, thick * 1.1), look.coat)
    _muzzle(parts, look, front + torch.tensor((0.03, 0.06)), torch.tensor((neck_out, neck_up)), skull)
    return parts


def _paw(parts: Parts, limb: Leg, place: Tensor, fur: Tensor, dim: float, thick: float) -> None:
    parts.add(place + limb.hip, place + limb.knee, (thick * 0.55, thick * 0.36), fur, dim)
    parts.add(place + limb.knee, place + limb.ankle, (thick * 0.36, thick * 0.28), fur, dim)
    parts.add(place + limb.ankle, place + limb.ankle + torch.tensor((0.05, 0.0)), (0.035, 0.03), fur, dim * 0.7)


def _muzzle(parts: Parts, look: Look, chest: Tensor, neck: Tensor, skull: float) -> None:
    fur, head = torch.tensor(FURS[look.subject]), chest + neck
    long = {"dog": 1.25, "cat": 0.65, "horse": 2.1}[look.subject] * skull
    parts.add(chest, head, (skull * 0.95, skull * 0.75), fur)
    parts.add(head + torch.tensor((-0.5, 0.9)) * skull, head + torch.tensor((-0.62, 1.45)) * skull, (0.3 * skull, 0.12 * skull), fur, 0.7)
    parts.add(head, head + torch.tensor((long, -0.45 * long)), (skull, skull * 0.6), fur)
    parts.add(head + torch.tensor((long + 0.4 * skull, -0.5 * long)), head + torch.tensor((long + 0.45 * skull, -0.5 * long)), (0.26 * skull, 0.2 * skull), torch.tensor((0.08, 0.06, 0.07)))
    parts.add(head + torch.tensor((0.3, 0.25)) * skull, head + torch.tensor((0.32, 0.25)) * skull, (0.16 * skull, 0.16 * skull), torch.tensor((0.08, 0.06, 0.07)))


def body(look: Look, move: Motion) -> Parts:
    """The parts of any subject in motion."""
    return quadruped(look, move) if look.subject in FURS else biped(look, move)


def rasterise(parts: Parts, x: Tensor, y: Tensor, *, pixel: Tensor, light: Tensor) -> Tensor:
    """Paint the parts at the points (x, y) ("n h w", in body heights); "n 4 h w", premultiplied RGBA.

    `pixel` ("n") is the size of a pixel in body heights, for anti-aliased edges; `light` ("n 3": a direction in x and
    y and a strength) brightens the side of every capsule that faces it, which gives the flat shapes their volume.
    """
    canvas = [torch.zeros_like(x) for _ in range(4)]
    edge = (1 / pixel)[:, None, None]
    push = (light[:, :2] * light[:, 2:])[:, :, None, None]
    for k in range(PARTS):
        if bool((parts.radius[:, k] < 0).all()):
            continue
        (ax, ay), (bx, by) = parts.a[:, k].T[..., None, None], parts.b[:, k].T[..., None, None]
        near, far = parts.radius[:, k].T[..., None, None]
        dx, dy, ex, ey = x - ax, y - ay, bx - ax, by - ay
        along = ((dx * ex + dy * ey) / (ex * ex + ey * ey + 1e-6)).clamp_(0, 1)
        dx, dy, radius = dx - along * ex, dy - along * ey, torch.lerp(near, far, along)
        cover = ((radius - torch.hypot(dx, dy)) * edge).add_(0.5).clamp_(0, 1)
        shade = ((dx * push[:, 0] + dy * push[:, 1]) / radius.clamp(min=1e-3)).clamp_(-0.35, 0.6).add_(1.0)
        for channel in range(3):
            colour = (shade * parts.colour[:, k, channel, None, None]).clamp_(0, 1)
            canvas[channel] = torch.lerp(canvas[channel], colour, cover)
        canvas[3] = torch.lerp(canvas[3], torch.ones_like(cover), cover)
    return torch.stack(canvas, 1)
