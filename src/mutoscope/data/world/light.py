"""The light of a scene: its sky, the tint on what stands under it, what rain, snow and fog take away.

Light is a tint of the painted colours; what is far away sinks into the colour of the horizon, in bad weather
into that of the clouds, in fog almost entirely. Lamps and lit windows keep the colour they have. Lengths are
in picture heights, y points down.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.world.canvas import Rgb
from mutoscope.data.world.vocabulary import Scene

__all__ = ["GROUND", "LAMP", "LIGHTS", "mixed", "shadow", "sky", "tinted"]

GROUND = 0.80  # where the ground begins


@dataclass(frozen=True)
class Light:
    """One light of the day: its colours, RGB in [0, 1], and what casts it."""

    sky: tuple[Rgb, Rgb]  # top, horizon
    tint: Rgb
    figure_tint: Rgb
    figure_light: Rgb  # direction (x, y) and strength: high by day, low at sunset, a bright rim at night
    overcast: Rgb
    haze: Rgb
    clouds: Rgb
    shadow: float
    orb: tuple[float, float, Rgb, float]  # sun or moon: height and radius, colour, strength of the glow


LIGHTS = {
    "day": Light(
        sky=((0.30, 0.58, 0.93), (0.74, 0.88, 0.98)),
        tint=(1.0, 1.0, 1.0),
        figure_tint=(1.0, 1.0, 1.0),
        figure_light=(-0.6, 0.8, 0.16),
        overcast=(0.66, 0.70, 0.75),
        haze=(0.84, 0.87, 0.89),
        clouds=(1.0, 1.0, 1.0),
        shadow=0.35,
        orb=(0.17, 0.085, (1.0, 0.95, 0.62), 0.25),
    ),
    "sunset": Light(
        sky=((0.32, 0.18, 0.46), (0.98, 0.56, 0.30)),
        tint=(0.86, 0.60, 0.56),
        figure_tint=(1.0, 0.84, 0.76),
        figure_light=(-0.9, 0.2, 0.28),
        overcast=(0.60, 0.42, 0.46),
        haze=(0.86, 0.62, 0.54),
        clouds=(1.0, 0.70, 0.56),
        shadow=0.40,
        orb=(0.64, 0.13, (1.0, 0.84, 0.48), 0.5),
    ),
    "night": Light(
        sky=((0.03, 0.04, 0.13), (0.11, 0.13, 0.28)),
        tint=(0.26, 0.29, 0.46),
        figure_tint=(0.68, 0.70, 0.84),
        figure_light=(-0.7, 0.7, 0.42),
        overcast=(0.10, 0.11, 0.18),
        haze=(0.22, 0.24, 0.32),
        clouds=(0.17, 0.18, 0.30),
        shadow=0.30,
        orb=(0.16, 0.07, (0.95, 0.95, 0.84), 0.16),
    ),
}
LAMP = (1.0, 0.86, 0.50)
PUFFS = ((0.0, 0.0, 1.0), (-1.1, 0.25, 0.7), (1.1, 0.2, 0.75))  # a cloud: places and radii of its discs
STARS = 14


def mixed(a: Rgb, b: Rgb, share: float) -> Rgb:
    """A colour between two: a at share 0, b at share 1."""
    red, green, blue = (x + (y - x) * share for x, y in zip(a, b, strict=True))
    return red, green, blue


def tinted(colour: Rgb, scene: Scene, *, depth: float = 0.0) -> Rgb:
    """A painted colour in the scene's light; with `depth` (0 near, 1 far) it sinks into horizon or fog."""
    light = LIGHTS[scene.light]
    lit = (colour[0] * light.tint[0], colour[1] * light.tint[1], colour[2] * light.tint[2])
    value = mixed(lit, light.sky[1], 0.45 * depth)
    if scene.weather == "fog":
        return mixed(value, light.haze, 0.45 + 0.42 * depth)
    if scene.weather in ("rain", "snow"):
        return mixed(value, light.overcast, 0.25 + 0.30 * depth)
    return value


def shadow(scene: Scene) -> float:
    """How dark the figure's shadow on the ground is."""
    return LIGHTS[scene.light].shadow * (1.0 if scene.weather == "clear" else 0.5)


def sky(scene: Scene, random: np.random.Generator, *, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """The still sky: sun or moon, stars and clouds where it is clear."""
    light = LIGHTS[scene.light]
    y = ((torch.arange(height) + 0.5) / height)[:, None]
    x = ((torch.arange(width) + 0.5) / height)[None]
    top, bottom = (torch.tensor(colour)[:, None, None] for colour in light.sky)
    picture = torch.lerp(top, bottom, ((y / GROUND).clamp(0, 1) ** 1.3)[None]).repeat(1, 1, width)
    if scene.weather == "clear":
        _orb(picture, scene, random, x, y)
        _clouds(picture, scene, random, x, y)
        return picture
    veil, share = (light.haze, 0.85) if scene.weather == "fog" else (light.overcast, 0.72)
    return torch.lerp(picture, torch.tensor(veil)[:, None, None], share)


def _orb(picture: Tensor, scene: Scene, random: np.random.Generator, x: Tensor, y: Tensor) -> None:
    height, wide = picture.shape[1], float(x.max())
    level, radius, rgb, glow = LIGHTS[scene.light].orb
    colour = torch.tensor(rgb)[:, None, None]
    distance = torch.hypot(x - wide * float(random.uniform(0.12, 0.88)), y - level)
    picture += torch.exp(-4.5 * distance / 0.5) * glow * colour
    picture.lerp_(colour, ((radius - distance) * height + 0.5).clamp(0, 1))
    if scene.light == "night":
        places = [(wide * random.uniform(), 0.5 * random.uniform(0.02, 1)) for _ in range(STARS)]
        across, down = torch.tensor(places).float().T[..., None, None]
        stars = torch.hypot(x - across, y - down)
        picture += ((0.014 * height - stars * height + 0.4).clamp_(0, 1) * 0.75).sum(0)


def _clouds(picture: Tensor, scene: Scene, random: np.random.Generator, x: Tensor, y: Tensor) -> None:
    height, wide = picture.shape[1], float(x.max())
    white = torch.tensor(LIGHTS[scene.light].clouds)[:, None, None]
    for _ in range(2):
        cx, cy = wide * float(random.uniform()), float(random.uniform(0.12, 0.38))
        size = float(random.uniform(0.05, 0.08))
        puffs = [
            torch.hypot((x - cx - dx * size) / 1.35, y - cy - dy * size) - r * size for dx, dy, r in PUFFS
        ]
        shape = torch.maximum(torch.stack(puffs).amin(0), y - cy - 0.55 * size)
        picture.lerp_(white, (0.5 - shape * height).clamp(0, 1) * 0.8)
