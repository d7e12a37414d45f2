"""From scenes to clips: sky, far strip, near strip, shadow, figure, style, weather, in that order.

Everything that moves is a function of time in seconds, so a scene can be drawn at any size, length and frame
rate and shows the same thing. What chance decides comes from the scene's own seed, always in the same order:
its clip is the same whatever else is in the batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.world import backdrop, capsules, figure, style, weather
from mutoscope.data.world.camera import PARALLAX, PIVOT, Track, facing, track, window
from mutoscope.data.world.gait import motion
from mutoscope.data.world.vocabulary import Scene

__all__ = ["Drawn", "draw"]

Randoms = Sequence[np.random.Generator]
# Direction (x, y) and strength of the light on a figure: high by day, low at sunset, a bright rim at night.
LIGHT = {
    "day": (-0.6, 0.8, 0.16),
    "sunset": (-0.9, 0.2, 0.28),
    "night": (-0.7, 0.7, 0.42),
}
WET = 0.55  # how much of the figure wet ground reflects


@dataclass(frozen=True)
class Drawn:
    """Clips in [-1, 1], where their subject is (in [0, 1]), and what they show."""

    video: Float[Tensor, "b 3 f h w"]
    figure: Float[Tensor, "b f h w"]
    scenes: list[Scene] = field(repr=False)


def draw(
    scenes: list[Scene],
    *,
    frames: int,
    size: tuple[int, int] = (96, 64),
    fps: float = 12.0,
    device: str | torch.device = "cpu",
) -> Drawn:
    """Draw clips of `frames` frames at `fps`, `size` = (width, height) in pixels, one for each scene."""
    seconds = torch.arange(frames) / fps
    randoms = [np.random.default_rng(scene.seed) for scene in scenes]
    paths = zip(scenes, randoms, strict=True)
    tracks = Track.stack([track(scene, seconds, random=random) for scene, random in paths])
    parts, stage = _cast(scenes, randoms, tracks=tracks, seconds=seconds)
    moved = Track(*(part.to(device) for part in (tracks.figure, tracks.camera, tracks.zoom)))
    cut = _each(scenes, [style.CAST.get(scene.style, 0.0) for scene in scenes], device)
    picture, near = _scenery(scenes, randoms, moved, size=size, cut=cut)
    painted = capsules.paint(parts, stage, size=size, device=device)
    figures = rearrange(painted, "(b f) c h w -> b f c h w", f=frames)
    picture = _stand(over(throw_shadow(picture, near, strength=cut), near), figures, scenes=scenes)
    picture = over(throw_shadow(picture, figures, strength=cut), figures)
    picture = _styled(_fogged(picture, scenes), figures, scenes=scenes)
    picture = _weathered(picture, scenes, randoms=randoms, seconds=seconds.to(device))
    return Drawn(rearrange(picture * 2 - 1, "b f c h w -> b c f h w").contiguous(), figures[:, :, 3], scenes)


def over(under: Float[Tensor, "b f 3 h w"], layer: Float[Tensor, "b f 4 h w"]) -> Float[Tensor, "b f 3 h w"]:
    """Put a premultiplied RGBA layer over a picture."""
    return (under * (1 - layer[..., 3:, :, :]) + layer[..., :3, :, :]).clamp_(0, 1)


def throw_shadow(
    under: Float[Tensor, "b f 3 h w"],
    layer: Float[Tensor, "b f 4 h w"],
    *,
    strength: Float[Tensor, "b 1 1 1 1"],
) -> Float[Tensor, "b f 3 h w"]:
    """Darken a picture where the layer above, moved aside and blurred, would shade it."""
    if not bool((strength > 0).any()):
        return under
    shift = max(1, round(under.shape[-2] * 0.025))
    alpha = layer[..., 3:, :, :].roll((shift, shift), (-2, -1))
    soft = F.avg_pool2d(alpha.flatten(0, 1), 3, stride=1, padding=1).reshape(alpha.shape)
    return under * (1 - strength * soft)


def _each(scenes: Sequence[Scene], values: Iterable[float], device: str | torch.device) -> Tensor:
    """A number for every clip, ready to multiply "b f c h w"."""
    return torch.tensor(list(values), device=device).reshape(len(scenes), 1, 1, 1, 1)


def _cast(
    scenes: list[Scene], randoms: Randoms, *, tracks: Track, seconds: Tensor
) -> tuple[capsules.Parts, capsules.Stage]:
    """The figures of a batch, clip by clip and frame by frame, and where they stand."""
    f, starts, colours = len(seconds), [], []
    for scene, random in zip(scenes, randoms, strict=True):
        starts.append(float(random.uniform()))
        colours.append(_colours(scene, random))
    groups, order = [], torch.empty(len(scenes) * f, dtype=torch.long)
    for subject in dict.fromkeys(scene.subject for scene in scenes):
        clips = [k for k, scene in enumerate(scenes) if scene.subject == subject]
        worn = torch.stack([colours[k] for k in clips]).repeat_interleave(f, 0)
        move = motion([scenes[k].action for k in clips], seconds, starts=[starts[k] for k in clips])
        bodies = figure.body(figure.Look(subject, *worn.unbind(1)), move)
        before = sum(group.a.shape[1] for group in groups)
        for number, k in enumerate(clips):
            order[k * f : (k + 1) * f] = before + number * f + torch.arange(f)
        groups.append(bodies)
    parts = capsules.Parts.gathered(groups, order=order.tolist())
    tints = torch.tensor([backdrop.FIGURE_TINTS[scene.light] for scene in scenes]).repeat_interleave(f, 0)
    lit = capsules.Parts(parts.a, parts.b, parts.radius, parts.colour * tints)
    return lit, _stage(scenes, tracks, f)


def _stage(scenes: list[Scene], tracks: Track, f: int) -> capsules.Stage:
    heights = torch.tensor([figure.HEIGHTS[scene.subject] for scene in scenes])[:, None] * tracks.zoom
    sides = torch.tensor([facing(scene) for scene in scenes])
    light = torch.tensor([LIGHT[scene.light] for scene in scenes])
    light[:, 0] *= sides  # the light comes from the picture's left whichever way the figure faces
    return capsules.Stage(
        height=heights.flatten(),
        x=((tracks.figure - tracks.camera) * tracks.zoom).flatten(),
        feet=((backdrop.FEET - PIVOT) * tracks.zoom + PIVOT).flatten(),
        facing=sides.repeat_interleave(f),
        light=light.repeat_interleave(f, 0),
    )


def _colours(scene: Scene, random: np.random.Generator) -> Float[Tensor, "4 3"]:
    """Coat, skin, hair and trousers: the coat from the scene, the rest by chance."""

    def pick(choices: Sequence[tuple[float, ...]]) -> Tensor:
        return torch.tensor(choices[int(random.integers(len(choices)))])

    skin, hair, trousers = pick(figure.SKINS), pick(figure.HAIRS), pick(figure.TROUSERS)
    if scene.subject == "robot":
        skin, trousers = torch.tensor(figure.STEEL), torch.tensor(figure.STEEL) * 0.8
    if scene.subject == "astronaut":
        skin = trousers = torch.tensor(figure.SUIT)
    return torch.stack([torch.tensor(figure.COATS[scene.colour]), skin, hair, trousers])


def _scenery(
    scenes: list[Scene], randoms: Randoms, tracks: Track, *, size: tuple[int, int], cut: Tensor
) -> tuple[Tensor, Tensor]:
    """The sky with the distant strip before it, and the near strip, as the camera sees them."""
    width, height = size
    rows = [
        (
            backdrop.sky(scene, random, height=height, width=width),
            backdrop.far_strip(scene, random, height=height),
            backdrop.near_strip(scene, random, height=height),
        )
        for scene, random in zip(scenes, randoms, strict=True)
    ]
    skies, far, near = (torch.stack(parts).to(cut.device) for parts in zip(*rows, strict=True))
    drift = 1 + (tracks.zoom - 1) * 0.5
    distant = window(far, tracks.camera * PARALLAX, zoom=drift, width=width)
    behind = skies[:, None].expand(-1, tracks.camera.shape[1], -1, -1, -1)
    picture = over(throw_shadow(behind, distant, strength=cut), distant)
    return picture, window(near, tracks.camera, zoom=tracks.zoom, width=width)


def _stand(picture: Tensor, figures: Tensor, *, scenes: list[Scene]) -> Tensor:
    """The figure's shadow and, on wet ground, its reflection: the figure's own picture, flipped at the feet.
    """
    height, device = picture.shape[-2], picture.device
    line = int(backdrop.FEET * height)
    depth = height - line
    wet = _each(scenes, [WET if scene.weather == "rain" else 0.0 for scene in scenes], device)
    dark = _each(scenes, [backdrop.shadow(scene) for scene in scenes], device)
    mirror = figures[..., line - depth : line, :].flip(-2) * wet
    picture = picture.clone()
    picture[..., line:, :] = over(picture[..., line:, :], mirror)
    blot = figures[..., 3:, line - depth * 4 :, :].amax(-2, keepdim=True)
    y = (torch.arange(height, device=device) + 0.5) / height
    across = torch.exp(-(((y - backdrop.FEET) / 0.022) ** 2))[:, None]
    return picture * (1 - dark * blot * across)


def _fogged(picture: Tensor, scenes: list[Scene]) -> Tensor:
    veil = torch.tensor([backdrop.HAZE[scene.light] for scene in scenes], device=picture.device)
    share = _each(scenes, [0.22 if scene.weather == "fog" else 0.0 for scene in scenes], picture.device)
    return torch.lerp(picture, veil[:, None, :, None, None].expand_as(picture), share)


def _styled(picture: Tensor, figures: Tensor, *, scenes: list[Scene]) -> Tensor:
    """Every style redraws its clips together."""
    f = picture.shape[1]
    for name in dict.fromkeys(scene.style for scene in scenes):
        clips = [k for k, scene in enumerate(scenes) if scene.style == name]
        redrawn = style.draw_in_style(
            picture[clips].flatten(0, 1), figures[clips, :, 3:].flatten(0, 1), style=name
        )
        picture[clips] = rearrange(redrawn, "(b f) c h w -> b f c h w", f=f)
    return picture


def _weathered(picture: Tensor, scenes: list[Scene], *, randoms: Randoms, seconds: Tensor) -> Tensor:
    """Every kind of weather falls on its clips together."""
    height, width = picture.shape[-2:]
    for kind in ("rain", "snow"):
        clips = [k for k, scene in enumerate(scenes) if scene.weather == kind]
        if not clips:
            continue
        layers = []
        for k in clips:
            sheets = weather.sheets(kind, float(randoms[k].uniform(-1, 1)))
            drawn = [(s, weather.texture(s, randoms[k], height=height, width=width)) for s in sheets]
            layers.append(drawn)
        inks = torch.tensor([weather.ink(scenes[k].style, kind, light=scenes[k].light) for k in clips])
        picture[clips] = weather.fall(picture[clips], layers, inks=inks, seconds=seconds)
    return picture
