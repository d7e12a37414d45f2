"""Places, skies and their light: a still sky and two wide strips of scenery that scroll past the camera.

Each strip is painted once per clip as premultiplied RGBA on a canvas that repeats every `PERIOD` picture
heights, so a clip of any length needs no more memory than a short one; the camera then only looks at a
moving window of it. Light is a tint of the painted colours; lamps and lit windows are painted after the
tint, and light without matter is colour with alpha 0. Lengths are in picture heights, y points down.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mutoscope.data.world.vocabulary import Scene

PERIOD = 4.0
GROUND = 0.80  # where the ground begins
FEET = 0.92  # where the figure stands

SKIES = {  # top, horizon
    "day": ((0.30, 0.58, 0.93), (0.74, 0.88, 0.98)),
    "sunset": ((0.32, 0.18, 0.46), (0.98, 0.56, 0.30)),
    "night": ((0.03, 0.04, 0.13), (0.11, 0.13, 0.28)),
}
TINTS = {"day": (1.0, 1.0, 1.0), "sunset": (0.86, 0.60, 0.56), "night": (0.26, 0.29, 0.46)}
FIGURE_TINTS = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.84, 0.76), "night": (0.68, 0.70, 0.84)}
OVERCAST = {"day": (0.66, 0.70, 0.75), "sunset": (0.60, 0.42, 0.46), "night": (0.10, 0.11, 0.18)}
HAZE = {"day": (0.84, 0.87, 0.89), "sunset": (0.86, 0.62, 0.54), "night": (0.22, 0.24, 0.32)}
GROUNDS = {
    "street": (0.56, 0.56, 0.59), "park": (0.42, 0.66, 0.30), "beach": (0.93, 0.83, 0.60),
    "mountains": (0.52, 0.60, 0.38), "desert": (0.90, 0.70, 0.42),
}  # fmt: skip
LAMP = (1.0, 0.86, 0.50)


@dataclass
class Canvas:
    """A strip being painted: `rgba` "4 h w" premultiplied, and the coordinates of its pixels."""

    rgba: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def blank(cls, height: int) -> "Canvas":
        width = round(PERIOD * height)
        x = (torch.arange(width) + 0.5) / height
        y = (torch.arange(height) + 0.5) / height
        return cls(torch.zeros(4, height, width), x[None, :], y[:, None])

    def from_x(self, x: float) -> Tensor:
        """Signed distance from column x, the short way round the strip."""
        return (self.x - x + PERIOD / 2) % PERIOD - PERIOD / 2

    def soft(self, distance: Tensor) -> Tensor:
        """Coverage of a shape from its signed distance (negative inside): one pixel of soft edge."""
        return (0.5 - distance * self.rgba.shape[1]).clamp(0, 1)

    def paint(self, cover: Tensor, colour) -> None:
        layer = torch.cat([_rgb(colour).expand(3, *self.rgba.shape[1:]), torch.ones_like(self.rgba[:1])])
        self.rgba += cover * (layer - self.rgba)

    def shine(self, strength: Tensor, colour) -> None:
        """Add light without matter."""
        self.rgba[:3] += strength * _rgb(colour)

    def box(self, x: float, top: float, *, width: float, bottom: float, colour) -> None:
        across = self.from_x(x).abs() - width / 2
        self.paint(self.soft(torch.maximum(across, torch.maximum(top - self.y, self.y - bottom))), colour)

    def disc(self, x: float, y: float, *, radius: float, colour, stretch: float = 1.0) -> None:
        self.paint(self.soft(torch.hypot(self.from_x(x) / stretch, self.y - y) - radius), colour)

    def below(self, line: Tensor, colour) -> None:
        """Everything under the height profile `line` ("w" or "1 w")."""
        self.paint(self.soft(line - self.y), colour)

    def glow(self, x: float, y: float, *, radius: float, strength: float, colour=LAMP) -> None:
        reach = torch.hypot(self.from_x(x), self.y - y) / radius
        self.shine(strength * torch.exp(-3.0 * reach), colour)


def _rgb(colour) -> Tensor:
    value = colour if isinstance(colour, Tensor) else torch.tensor(colour)
    return value.reshape(3, *([1, 1] if value.ndim == 1 else value.shape[1:]))


def tinted(colour, scene: Scene, *, depth: float = 0.0) -> Tensor:
    """A painted colour under the scene's light; `depth` (0 near, 1 far) lets it sink into the horizon or the
    fog.
    """
    value = torch.tensor(colour) * torch.tensor(TINTS[scene.light])
    value = torch.lerp(value, torch.tensor(SKIES[scene.light][1]), 0.45 * depth)
    if scene.weather == "fog":
        value = torch.lerp(value, torch.tensor(HAZE[scene.light]), 0.45 + 0.42 * depth)
    if scene.weather in ("rain", "snow"):
        value = torch.lerp(value, torch.tensor(OVERCAST[scene.light]), 0.25 + 0.30 * depth)
    return value


def sky(scene: Scene, random: np.random.Generator, *, height: int, width: int) -> Tensor:
    """The still sky, "3 h w"."""
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    x = ((torch.arange(width) + 0.5) / height)[None].expand(height, width)
    top, bottom = (torch.tensor(c)[:, None, None] for c in SKIES[scene.light])
    picture = torch.lerp(top, bottom, ((y / GROUND).clamp(0, 1) ** 1.3)[None].expand(3, -1, -1))
    if scene.weather == "clear":
        _lights(picture, scene, random, x, y)
        _clouds(picture, scene, random, x, y)
    else:
        veil = OVERCAST if scene.weather in ("rain", "snow") else HAZE
        share = 0.72 if scene.weather != "fog" else 0.85
        picture = torch.lerp(picture, torch.tensor(veil[scene.light])[:, None, None], share)
    return picture


def _lights(picture: Tensor, scene: Scene, random: np.random.Generator, x: Tensor, y: Tensor) -> None:
    height, wide = picture.shape[1], float(x.max())
    place = {"day": (0.17, 0.085), "sunset": (0.64, 0.13), "night": (0.16, 0.07)}[scene.light]
    colour = {"day": (1.0, 0.95, 0.62), "sunset": (1.0, 0.84, 0.48), "night": (0.95, 0.95, 0.84)}[scene.light]
    across = wide * float(random.uniform(0.12, 0.88))
    distance = torch.hypot(x - across, y - place[0])
    picture += (
        torch.exp(-4.5 * distance / 0.5)
        * {"day": 0.25, "sunset": 0.5, "night": 0.16}[scene.light]
        * _rgb(colour)
    )
    disc = ((place[1] - distance) * height + 0.5).clamp(0, 1)
    picture.lerp_(_rgb(colour).expand_as(picture), disc.expand_as(picture))
    if scene.light == "night":
        for _ in range(14):
            star = torch.hypot(x - wide * float(random.uniform()), y - 0.5 * float(random.uniform(0.02, 1)))
            picture += (0.014 * height - star * height + 0.4).clamp(0, 1) * 0.75


def _clouds(picture: Tensor, scene: Scene, random: np.random.Generator, x: Tensor, y: Tensor) -> None:
    height, wide = picture.shape[1], float(x.max())
    white = torch.tensor(
        {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.70, 0.56), "night": (0.17, 0.18, 0.30)}[scene.light]
    )
    for _ in range(2):
        cx, cy, size = (
            wide * float(random.uniform()),
            float(random.uniform(0.12, 0.38)),
            float(random.uniform(0.05, 0.08)),
        )
        shapes = [(0.0, 0.0, 1.0), (-1.1, 0.25, 0.7), (1.1, 0.2, 0.75)]
        near = torch.stack(
            [torch.hypot((x - cx - dx * size) / 1.35, y - cy - dy * size) - r * size for dx, dy, r in shapes]
        )
        cover = (0.5 - torch.maximum(near.amin(0), y - cy - 0.55 * size) * height).clamp(0, 1) * 0.8
        picture.lerp_(white[:, None, None].expand_as(picture), cover.expand_as(picture))


def _waves(
    canvas: Canvas, random: np.random.Generator, *, middle: float, heights: tuple[float, ...]
) -> Tensor:
    """A smooth height profile that repeats with the strip."""
    line = torch.full_like(canvas.x, middle)
    for k, height in enumerate(heights, start=1):
        turns, phase = 2 * np.pi * k / PERIOD, float(random.uniform(0, 6.28))
        line = line + height * torch.sin(turns * canvas.x + phase)
    return line


def _peaks(
    canvas: Canvas, random: np.random.Generator, scene: Scene, *, count: int, top: float, colour, depth: float
) -> None:
    for k in range(count):
        x = PERIOD * (k + float(random.uniform(-0.25, 0.25))) / count
        peak, slope = top + float(random.uniform(0, 0.14)), float(random.uniform(0.75, 1.0))
        rise = peak + canvas.from_x(x).abs() * slope
        canvas.below(rise, tinted(colour, scene, depth=depth))
        cap = torch.maximum(canvas.soft(rise - canvas.y) * 0 + (rise - canvas.y), canvas.y - peak - 0.10)
        canvas.paint(canvas.soft(cap), tinted((0.95, 0.96, 0.98), scene, depth=depth * 0.6))


def far_strip(scene: Scene, random: np.random.Generator, *, height: int) -> Tensor:
    """The distant scenery, "4 h w" premultiplied RGBA."""
    canvas = Canvas.blank(height)
    {"street": _skyline, "park": _hills, "beach": _sea, "mountains": _ranges, "desert": _dunes}[scene.place](
        canvas, scene, random
    )
    return canvas.rgba


def _skyline(canvas: Canvas, scene: Scene, random: np.random.Generator) -> None:
    for row, (low, high, depth, colour) in enumerate(
        ((0.22, 0.44, 0.75, (0.50, 0.56, 0.68)), (0.44, 0.60, 0.35, (0.42, 0.47, 0.58)))
    ):
        count = 9
        for k in range(count):
            x = PERIOD * (k + 0.5 * row + float(random.uniform(-0.2, 0.2))) / count
            top, width = float(random.uniform(low, high)), float(random.uniform(0.34, 0.46))
            shade = np.array(colour) * float(random.uniform(0.88, 1.1))
            canvas.box(
                x, top, width=width, bottom=1.0, colour=tinted(tuple(shade.tolist()), scene, depth=depth)
            )
            if row == 1:
                _windows(canvas, scene, random, x=x, top=top, width=width)


def _windows(
    canvas: Canvas, scene: Scene, random: np.random.Generator, *, x: float, top: float, width: float
) -> None:
    lit = scene.light != "day"
    glass = (
        torch.tensor(LAMP) * (0.95 if scene.light == "night" else 0.9)
        if lit
        else tinted((0.70, 0.80, 0.90), scene, depth=0.4)
    )
    if scene.weather == "fog":
        glass = torch.lerp(glass, torch.tensor(HAZE[scene.light]), 0.6)
    for column in range(3):
        for row in range(2):
            if lit and random.uniform() < 0.35:
                continue
            left, y = x + (column - 1) * width * 0.28, top + 0.07 + 0.12 * row
            canvas.box(left, y, width=0.055, bottom=min(y + 0.06, GROUND), colour=glass)


def _hills(canvas: Canvas, scene: Scene, random: np.random.Generator) -> None:
    canvas.below(
        _waves(canvas, random, middle=0.56, heights=(0.03, 0.04, 0.025)),
        tinted((0.46, 0.66, 0.52), scene, depth=0.6),
    )
    for k in range(9):
        x, size = PERIOD * (k + float(random.uniform(-0.3, 0.3))) / 9, float(random.uniform(0.09, 0.13))
        canvas.disc(x, 0.63, radius=size, colour=tinted((0.26, 0.50, 0.30), scene, depth=0.35), stretch=1.15)
    canvas.below(
        _waves(canvas, random, middle=0.68, heights=(0.012, 0.012)),
        tinted((0.36, 0.60, 0.30), scene, depth=0.15),
    )


def _sea(canvas: Canvas, scene: Scene, random: np.random.Generator) -> None:
    horizon = torch.full_like(canvas.x, 0.55)
    canvas.below(horizon, tinted((0.16, 0.48, 0.72), scene, depth=0.25))
    for k in range(5):
        line = _waves(canvas, random, middle=0.59 + 0.04 * k, heights=(0.0, 0.0, 0.0, 0.006)) - canvas.y
        canvas.paint(canvas.soft(line.abs() - 0.006) * 0.55, tinted((0.75, 0.90, 0.96), scene, depth=0.2))
    for k in range(2):
        x = PERIOD * (k + float(random.uniform(0.2, 0.8))) / 2
        canvas.disc(x, 0.56, radius=0.05, colour=tinted((0.50, 0.26, 0.18), scene, depth=0.2), stretch=1.8)
        sail = torch.maximum(canvas.from_x(x).abs() - (canvas.y - 0.33) * 0.4, canvas.y - 0.52)
        canvas.paint(
            canvas.soft(torch.maximum(sail, 0.33 - canvas.y)), tinted((0.97, 0.95, 0.90), scene, depth=0.1)
        )
        canvas.below(torch.full_like(canvas.x, 0.60), tinted((0.20, 0.53, 0.76), scene, depth=0.2))


def _ranges(canvas: Canvas, scene: Scene, random: np.random.Generator) -> None:
    _peaks(canvas, random, scene, count=4, top=0.14, colour=(0.46, 0.52, 0.68), depth=0.7)
    _peaks(canvas, random, scene, count=5, top=0.36, colour=(0.36, 0.42, 0.52), depth=0.35)
    canvas.below(
        _waves(canvas, random, middle=0.72, heights=(0.015, 0.012)),
        tinted((0.38, 0.52, 0.36), scene, depth=0.15),
    )


def _dunes(canvas: Canvas, scene: Scene, random: np.random.Generator) -> None:
    for middle, colour, depth in (
        (0.50, (0.93, 0.74, 0.50), 0.6),
        (0.61, (0.88, 0.64, 0.38), 0.35),
        (0.71, (0.93, 0.72, 0.45), 0.1),
    ):
        canvas.below(
            _waves(canvas, random, middle=middle, heights=(0.03, 0.035, 0.012)),
            tinted(colour, scene, depth=depth),
        )


def near_strip(scene: Scene, random: np.random.Generator, *, height: int) -> Tensor:
    """The ground and what stands on it, "4 h w" premultiplied RGBA."""
    canvas = Canvas.blank(height)
    shift = float(random.uniform(0, PERIOD))
    {"street": _lamps, "park": _trees, "beach": _palms, "mountains": _pines, "desert": _cacti}[scene.place](
        canvas, scene, shift
    )
    return canvas.rgba


def ground(canvas: Canvas, scene: Scene) -> None:
    """The ground with marks that show how fast it passes: wet in the rain, white in the snow."""
    colour = torch.tensor(GROUNDS[scene.place])
    mark = colour * 0.78
    if scene.weather == "snow":
        colour = torch.lerp(colour, torch.tensor((0.96, 0.97, 1.0)), 0.85)
        mark = colour * 0.86
    if scene.weather == "rain":
        colour, mark = colour * 0.72, mark * 0.68
    base = tinted(tuple(colour.tolist()), scene)
    canvas.below(torch.full_like(canvas.x, GROUND), base)
    canvas.paint(canvas.soft((canvas.y - GROUND - 0.012).abs() - 0.014), base * 0.80)
    slanted = canvas.x - (canvas.y - GROUND) * 0.5
    step = PERIOD / 10
    line = ((slanted + step / 2) % step - step / 2).abs() - 0.014
    canvas.paint(
        canvas.soft(torch.maximum(line, GROUND + 0.03 - canvas.y)), tinted(tuple(mark.tolist()), scene)
    )


def _lamps(canvas: Canvas, scene: Scene, shift: float) -> None:
    ground(canvas, scene)
    on = scene.light != "day"
    for k in range(3):
        x = (shift + PERIOD * k / 3) % PERIOD
        canvas.box(x, 0.26, width=0.036, bottom=GROUND + 0.02, colour=tinted((0.20, 0.22, 0.26), scene))
        canvas.disc(x, 0.25, radius=0.05, colour=LAMP if on else tinted((0.95, 0.93, 0.82), scene))
        if on:
            canvas.glow(x, 0.25, radius=0.42, strength=0.55 if scene.light == "night" else 0.30)


def _trees(canvas: Canvas, scene: Scene, shift: float) -> None:
    ground(canvas, scene)
    leaf = (0.95, 0.96, 1.0) if scene.weather == "snow" else (0.20, 0.54, 0.22)
    for k in range(3):
        x = (shift + PERIOD * k / 3) % PERIOD
        canvas.box(x, 0.45, width=0.06, bottom=GROUND + 0.02, colour=tinted((0.42, 0.28, 0.18), scene))
        for dx, y, r in ((-0.09, 0.42, 0.13), (0.09, 0.42, 0.13), (0.0, 0.31, 0.15)):
            canvas.disc(x + dx, y, radius=r, colour=tinted(tuple(0.85 * c for c in leaf), scene))
        canvas.disc(x + 0.02, 0.31, radius=0.11, colour=tinted(leaf, scene))


def _palms(canvas: Canvas, scene: Scene, shift: float) -> None:
    ground(canvas, scene)
    for k in range(3):
        x = (shift + PERIOD * k / 3) % PERIOD
        bend = canvas.from_x(x) - 0.10 * ((GROUND - canvas.y) / 0.5) ** 2
        trunk = torch.maximum(bend.abs() - 0.024, torch.maximum(0.30 - canvas.y, canvas.y - GROUND - 0.02))
        canvas.paint(canvas.soft(trunk), tinted((0.52, 0.36, 0.22), scene))
        for side in (-1.0, -0.45, 0.45, 1.0):
            across = canvas.from_x(x + 0.10) * np.sign(side)
            droop = canvas.y - 0.30 - 0.35 * across**2 / abs(side) + (1 - abs(side)) * 0.35 * across
            leaf = torch.maximum(
                droop.abs() - 0.028, torch.maximum(-across, across - 0.27 * abs(side) - 0.05)
            )
            canvas.paint(canvas.soft(leaf), tinted((0.22, 0.56, 0.28), scene))


def _pines(canvas: Canvas, scene: Scene, shift: float) -> None:
    ground(canvas, scene)
    leaf = (0.90, 0.93, 0.98) if scene.weather == "snow" else (0.14, 0.38, 0.26)
    for k in range(4):
        x = (shift + PERIOD * k / 4 + 0.12 * (k % 2)) % PERIOD
        canvas.box(x, 0.66, width=0.05, bottom=GROUND + 0.02, colour=tinted((0.36, 0.24, 0.16), scene))
        for top, reach in ((0.46, 0.17), (0.34, 0.13), (0.23, 0.10)):
            roof = torch.maximum(
                canvas.from_x(x).abs() - (canvas.y - top) * reach / 0.22, canvas.y - top - 0.22
            )
            canvas.paint(
                canvas.soft(torch.maximum(roof, top - canvas.y)),
                tinted(tuple(c * (1.1 - top / 2) for c in leaf), scene),
            )


def _cacti(canvas: Canvas, scene: Scene, shift: float) -> None:
    ground(canvas, scene)
    green = tinted((0.24, 0.50, 0.28), scene)
    for k in range(3):
        x = (shift + PERIOD * k / 3) % PERIOD
        canvas.box(x, 0.46, width=0.09, bottom=GROUND + 0.02, colour=green)
        canvas.disc(x, 0.46, radius=0.045, colour=green)
        for side, low, high in ((-1, 0.64, 0.52), (1, 0.58, 0.48)):
            canvas.box(x + side * 0.07, low - 0.03, width=0.13, bottom=low + 0.03, colour=green)
            canvas.box(x + side * 0.125, high, width=0.06, bottom=low + 0.03, colour=green)
            canvas.disc(x + side * 0.125, high, radius=0.03, colour=green)


def shadow(scene: Scene) -> float:
    """How dark the figure's shadow on the ground is."""
    dark = {"day": 0.35, "sunset": 0.40, "night": 0.30}[scene.light]
    return dark * (1.0 if scene.weather == "clear" else 0.5)
