"""Places: for each a distant strip and a near one with the ground, scrolling at different speeds.

A place is told from another by big shapes and colours, so that it can be seen at 64 pixels as at 480; the
ground has marks that show how fast it passes. What the seed leaves open (skylines, peaks, lit windows)
differs from clip to clip.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.world.canvas import PERIOD, Canvas, Rgb
from mutoscope.data.world.light import GROUND, LAMP, LIGHTS, mixed, tinted
from mutoscope.data.world.vocabulary import Scene

__all__ = ["far_strip", "near_strip"]

GROUNDS: dict[str, Rgb] = {
    "street": (0.56, 0.56, 0.59), "park": (0.42, 0.66, 0.30), "beach": (0.93, 0.83, 0.60),
    "mountains": (0.52, 0.60, 0.38), "desert": (0.90, 0.70, 0.42),
}  # fmt: skip
SNOW = (0.96, 0.97, 1.0)

Random = np.random.Generator


def far_strip(scene: Scene, random: Random, *, height: int) -> Float[Tensor, "4 h w"]:
    """The distant scenery, premultiplied RGBA."""
    canvas = Canvas.blank(height)
    painters = {"street": _skyline, "park": _hills, "beach": _sea, "mountains": _ranges, "desert": _dunes}
    painters[scene.place](canvas, scene, random)
    return canvas.rgba


def near_strip(scene: Scene, random: Random, *, height: int) -> Float[Tensor, "4 h w"]:
    """The ground and what stands on it, premultiplied RGBA."""
    canvas = Canvas.blank(height)
    shift = float(random.uniform(0, PERIOD))
    _ground(canvas, scene)
    painters = {"street": _lamps, "park": _trees, "beach": _palms, "mountains": _pines, "desert": _cacti}
    painters[scene.place](canvas, scene, shift)
    return canvas.rgba


def _scaled(colour: Rgb, factor: float) -> Rgb:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _waves(canvas: Canvas, random: Random, *, middle: float, heights: tuple[float, ...]) -> Tensor:
    """A smooth height profile that repeats with the strip."""
    line = torch.full_like(canvas.x, middle)
    for k, height in enumerate(heights, start=1):
        turns, phase = 2 * np.pi * k / PERIOD, float(random.uniform(0, 6.28))
        line = line + height * torch.sin(turns * canvas.x + phase)
    return line


HOUSES = ((0.22, 0.44, 0.75, (0.50, 0.56, 0.68)), (0.44, 0.60, 0.35, (0.42, 0.47, 0.58)))


def _skyline(canvas: Canvas, scene: Scene, random: Random) -> None:
    """Two rows of houses, the nearer with windows."""
    for row, (low, high, depth, colour) in enumerate(HOUSES):
        for k in range(9):
            x = PERIOD * (k + 0.5 * row + float(random.uniform(-0.2, 0.2))) / 9
            top, width = float(random.uniform(low, high)), float(random.uniform(0.34, 0.46))
            shade = tinted(_scaled(colour, float(random.uniform(0.88, 1.1))), scene, depth=depth)
            canvas.box(x, top, width=width, bottom=1.0, colour=shade)
            if row == 1:
                _windows(canvas, scene, random, x=x, top=top, width=width)


def _windows(canvas: Canvas, scene: Scene, random: Random, *, x: float, top: float, width: float) -> None:
    lit = scene.light != "day"
    glass = tinted((0.70, 0.80, 0.90), scene, depth=0.4)
    if lit:
        glass = _scaled(LAMP, 0.95 if scene.light == "night" else 0.9)
    if scene.weather == "fog":
        glass = mixed(glass, LIGHTS[scene.light].haze, 0.6)
    offsets: tuple[list[float], list[float]] = ([], [])
    for column in range(3):
        for row in range(2):
            if not (lit and random.uniform() < 0.35):
                offsets[row].append((column - 1) * width * 0.28)
    tops = (top + 0.07, top + 0.19)
    rows = [(y, min(y + 0.06, GROUND), offset) for y, offset in zip(tops, offsets, strict=True)]
    canvas.boxes(x, rows, width=0.055, colour=glass)


def _hills(canvas: Canvas, scene: Scene, random: Random) -> None:
    back = _waves(canvas, random, middle=0.56, heights=(0.03, 0.04, 0.025))
    canvas.below(back, tinted((0.46, 0.66, 0.52), scene, depth=0.6))
    bush = tinted((0.26, 0.50, 0.30), scene, depth=0.35)
    for k in range(9):
        x, size = PERIOD * (k + float(random.uniform(-0.3, 0.3))) / 9, float(random.uniform(0.09, 0.13))
        canvas.disc(x, 0.63, radius=size, colour=bush, stretch=1.15)
    front = _waves(canvas, random, middle=0.68, heights=(0.012, 0.012))
    canvas.below(front, tinted((0.36, 0.60, 0.30), scene, depth=0.15))


def _sea(canvas: Canvas, scene: Scene, random: Random) -> None:
    """Water with lines of foam, and two sailing boats."""
    canvas.below(0.55, tinted((0.16, 0.48, 0.72), scene, depth=0.25))
    for k in range(5):
        line = _waves(canvas, random, middle=0.59 + 0.04 * k, heights=(0.0, 0.0, 0.0, 0.006)) - canvas.y
        canvas.paint(canvas.soft(line.abs() - 0.006) * 0.55, tinted((0.75, 0.90, 0.96), scene, depth=0.2))
    for k in range(2):
        x = PERIOD * (k + float(random.uniform(0.2, 0.8))) / 2
        for part in canvas.around(x, reach=0.2):
            _boat(part, scene, x)
        canvas.below(0.60, tinted((0.20, 0.53, 0.76), scene, depth=0.2))


def _boat(canvas: Canvas, scene: Scene, x: float) -> None:
    """A hull, and a large and a small sail on both sides of the mast."""
    hull = torch.hypot(canvas.from_x(x) / 1.8, canvas.y - 0.545) - 0.06
    deck = torch.maximum(hull, 0.545 - canvas.y)
    canvas.paint(canvas.soft(deck), tinted((0.50, 0.26, 0.18), scene, depth=0.2))
    for side, top, reach, shade in ((1.0, 0.27, 0.11, 1.0), (-1.0, 0.34, 0.08, 0.9)):
        out = canvas.from_x(x) * side
        slope = out - (canvas.y - top) * reach / (0.52 - top)
        sail = torch.maximum(torch.maximum(slope, 0.006 - out), canvas.y - 0.52)
        canvas.paint(canvas.soft(sail), tinted(_scaled((0.97, 0.95, 0.90), shade), scene, depth=0.1))


def _ranges(canvas: Canvas, scene: Scene, random: Random) -> None:
    _peaks(canvas, scene, random, count=4, top=0.14, colour=(0.46, 0.52, 0.68), depth=0.7)
    _peaks(canvas, scene, random, count=5, top=0.36, colour=(0.36, 0.42, 0.52), depth=0.35)
    meadow = _waves(canvas, random, middle=0.72, heights=(0.015, 0.012))
    canvas.below(meadow, tinted((0.38, 0.52, 0.36), scene, depth=0.15))


def _peaks(
    canvas: Canvas, scene: Scene, random: Random, *, count: int, top: float, colour: Rgb, depth: float
) -> None:
    """A row of mountains with snow on their tops."""
    for k in range(count):
        x = PERIOD * (k + float(random.uniform(-0.25, 0.25))) / count
        peak, slope = top + float(random.uniform(0, 0.14)), float(random.uniform(0.75, 1.0))
        rise = peak + canvas.from_x(x).abs() * slope
        canvas.below(rise, tinted(colour, scene, depth=depth))
        cap = torch.maximum(rise - canvas.y, canvas.y - peak - 0.10)
        canvas.paint(canvas.soft(cap), tinted((0.95, 0.96, 0.98), scene, depth=depth * 0.6))


DUNES = (
    (0.50, (0.93, 0.74, 0.50), 0.6), (0.61, (0.88, 0.64, 0.38), 0.35), (0.71, (0.93, 0.72, 0.45), 0.1)
)  # fmt: skip


def _dunes(canvas: Canvas, scene: Scene, random: Random) -> None:
    for middle, colour, depth in DUNES:
        line = _waves(canvas, random, middle=middle, heights=(0.03, 0.035, 0.012))
        canvas.below(line, tinted(colour, scene, depth=depth))


def _ground(canvas: Canvas, scene: Scene) -> None:
    """The ground with marks that show how fast it passes: wet in the rain, white in the snow."""
    colour = GROUNDS[scene.place]
    mark = _scaled(colour, 0.78)
    if scene.weather == "snow":
        colour = mixed(colour, SNOW, 0.85)
        mark = _scaled(colour, 0.86)
    if scene.weather == "rain":
        colour, mark = _scaled(colour, 0.72), _scaled(mark, 0.68)
    base = tinted(colour, scene)
    canvas.below(GROUND, base)
    for part in canvas.around(0.0, reach=PERIOD, top=GROUND - 0.02):
        part.paint(part.soft((part.y - GROUND - 0.012).abs() - 0.014), _scaled(base, 0.80))
        slanted = part.x - (part.y - GROUND) * 0.5
        step = PERIOD / 10
        line = ((slanted + step / 2) % step - step / 2).abs() - 0.014
        part.paint(part.soft(torch.maximum(line, GROUND + 0.03 - part.y)), tinted(mark, scene))


def _places(shift: float, count: int) -> list[float]:
    return [(shift + PERIOD * k / count) % PERIOD for k in range(count)]


def _lamps(canvas: Canvas, scene: Scene, shift: float) -> None:
    on = scene.light != "day"
    post = tinted((0.20, 0.22, 0.26), scene)
    for x in _places(shift, 3):
        canvas.box(x, 0.26, width=0.036, bottom=GROUND + 0.02, colour=post)
        canvas.disc(x, 0.25, radius=0.05, colour=LAMP if on else tinted((0.95, 0.93, 0.82), scene))
        if on:
            strength = 0.55 if scene.light == "night" else 0.30
            canvas.glow(x, 0.25, radius=0.42, strength=strength, colour=LAMP)


def _trees(canvas: Canvas, scene: Scene, shift: float) -> None:
    leaf = (0.95, 0.96, 1.0) if scene.weather == "snow" else (0.20, 0.54, 0.22)
    trunk, crown = tinted((0.42, 0.28, 0.18), scene), tinted(_scaled(leaf, 0.85), scene)
    for x in _places(shift, 3):
        canvas.box(x, 0.45, width=0.06, bottom=GROUND + 0.02, colour=trunk)
        for dx, y, r in ((-0.09, 0.42, 0.13), (0.09, 0.42, 0.13), (0.0, 0.31, 0.15)):
            canvas.disc(x + dx, y, radius=r, colour=crown)
        canvas.disc(x + 0.02, 0.31, radius=0.11, colour=tinted(leaf, scene))


FRONDS = (  # how far a leaf of the palm reaches, how it rises at first and how it droops
    (-0.30, 0.30, 1.5), (0.30, 0.30, 1.5), (-0.24, 0.95, 3.4), (0.24, 0.95, 3.4),
    (-0.20, -0.5, 1.2), (0.20, -0.5, 1.2),
)  # fmt: skip


def _palms(canvas: Canvas, scene: Scene, shift: float) -> None:
    for x in _places(shift, 3):
        for part in canvas.around(x + 0.10, reach=0.45):
            _palm(part, scene, x)


def _palm(canvas: Canvas, scene: Scene, x: float) -> None:
    """A bent trunk that grows thinner, and a crown of leaves that arch and droop."""
    height = ((GROUND - canvas.y) / 0.5).clamp(min=0)
    bend = (canvas.from_x(x) + 0.10 * height**2).abs() - 0.032 + 0.010 * height
    ends = torch.maximum(0.29 - canvas.y, canvas.y - GROUND - 0.02)
    canvas.paint(canvas.soft(torch.maximum(bend, ends)), tinted((0.52, 0.36, 0.22), scene))
    crown, leaf = x - 0.105, (0.22, 0.56, 0.28)
    for k, (reach, rise, droop) in enumerate(FRONDS):
        out = canvas.from_x(crown) / reach  # 0 at the crown, 1 at the leaf's tip
        arch = 0.285 + abs(reach) * (droop * abs(reach) * out**2 - rise * out)
        thick = 0.036 * (1 - out) * (0.35 + 2.6 * out.clamp(0, 1))
        blade = torch.maximum((canvas.y - arch).abs() - thick, torch.maximum(-out, out - 1) * abs(reach))
        canvas.paint(canvas.soft(blade), tinted(_scaled(leaf, 0.78 + 0.22 * (k < 4)), scene))
    for side in (-0.022, 0.024):
        nut = tinted((0.40, 0.25, 0.15), scene)
        canvas.paint(canvas.soft(torch.hypot(canvas.from_x(crown + side), canvas.y - 0.312) - 0.02), nut)


def _pines(canvas: Canvas, scene: Scene, shift: float) -> None:
    leaf = (0.90, 0.93, 0.98) if scene.weather == "snow" else (0.14, 0.38, 0.26)
    trunk = tinted((0.36, 0.24, 0.16), scene)
    for k in range(4):
        x = (shift + PERIOD * k / 4 + 0.12 * (k % 2)) % PERIOD
        canvas.box(x, 0.66, width=0.05, bottom=GROUND + 0.02, colour=trunk)
        for part in canvas.around(x, reach=0.20):
            for top, reach in ((0.46, 0.17), (0.34, 0.13), (0.23, 0.10)):
                slope = part.from_x(x).abs() - (part.y - top) * reach / 0.22
                roof = torch.maximum(torch.maximum(slope, part.y - top - 0.22), top - part.y)
                part.paint(part.soft(roof), tinted(_scaled(leaf, 1.1 - top / 2), scene))


def _cacti(canvas: Canvas, scene: Scene, shift: float) -> None:
    green = tinted((0.24, 0.50, 0.28), scene)
    for x in _places(shift, 3):
        canvas.box(x, 0.46, width=0.09, bottom=GROUND + 0.02, colour=green)
        canvas.disc(x, 0.46, radius=0.045, colour=green)
        for side, low, high in ((-1, 0.64, 0.52), (1, 0.58, 0.48)):
            canvas.box(x + side * 0.07, low - 0.03, width=0.13, bottom=low + 0.03, colour=green)
            canvas.box(x + side * 0.125, high, width=0.06, bottom=low + 0.03, colour=green)
            canvas.disc(x + side * 0.125, high, radius=0.03, colour=green)
