"""From scenes to clips: sky, far strip, near strip, shadow, figure, fog, style, weather, in that order.

Everything that moves is a function of time in seconds, so a scene can be drawn at any size, length and frame
rate and shows the same thing. What chance decides comes from the scene's own seed, always in the same order:
its clip is the same whatever else is in the batch.

What stands still is painted once a clip; the frames are then put together for many clips at once, those of
one style or one weather together. On a processor a batch goes through in small groups, which stay in its
caches; on a GPU it goes through whole.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.world import capsules, figure, light, scenery, style, weather
from mutoscope.data.world.camera import PARALLAX, PIVOT, Track, facing, track, window
from mutoscope.data.world.gait import motion
from mutoscope.data.world.vocabulary import Scene

__all__ = ["Drawn", "draw"]

Randoms = Sequence[np.random.Generator]
FEET = 0.92  # where the figure stands
FOG = 0.22  # how much of the haze lies before everything
WET = 0.55  # how much of the figure wet ground reflects
GROUP = 4  # clips that are drawn at a time on a processor


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
    width, height = size
    video = torch.empty(len(scenes), 3, frames, height, width, device=device)
    masks = torch.empty(len(scenes), frames, height, width, device=device)
    group = GROUP if torch.device(device).type == "cpu" else max(1, len(scenes))
    for start in range(0, len(scenes), group):
        rows = slice(start, start + group)
        picture, figures = _group(scenes[rows], torch.arange(frames) / fps, size=size, device=device)
        torch.mul(rearrange(picture, "b f c h w -> b c f h w"), 2, out=video[rows]).sub_(1)
        masks[rows] = figures[:, :, 3]
    return Drawn(video, masks, scenes)


def _group(
    scenes: list[Scene], seconds: Tensor, *, size: tuple[int, int], device: str | torch.device
) -> tuple[Float[Tensor, "b f 3 h w"], Float[Tensor, "b f 4 h w"]]:
    """Finished pictures in [0, 1], and the figures alone."""
    randoms = [np.random.default_rng(scene.seed) for scene in scenes]
    paths = zip(scenes, randoms, strict=True)
    tracks = Track.stack([track(scene, seconds, random=random) for scene, random in paths])
    parts, stage = _cast(scenes, randoms, tracks=tracks, seconds=seconds)
    moved = Track(*(part.to(device) for part in (tracks.figure, tracks.camera, tracks.zoom)))
    cut = _each(scenes, [style.CAST.get(scene.style, 0.0) for scene in scenes], device)
    picture = _scenery(scenes, randoms, moved, size=size, cut=cut)
    painted = capsules.paint(parts, stage, size=size, device=device)
    figures = rearrange(painted, "(b f) c h w -> b f c h w", f=len(seconds))
    picture = _stand(picture, figures, scenes=scenes)
    picture = over(throw_shadow(picture, figures, strength=cut), figures)
    picture = _styled(_fogged(picture, scenes), figures, scenes=scenes)
    return _weathered(picture, scenes, randoms=randoms, seconds=seconds.to(device)), figures


def over(under: Float[Tensor, "b f 3 h w"], layer: Float[Tensor, "b f 4 h w"]) -> Float[Tensor, "b f 3 h w"]:
    """Put a premultiplied RGBA layer over a picture."""
    return (under * (1 - layer[:, :, 3:])).add_(layer[:, :, :3]).clamp_(0, 1)


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
    alpha = F.pad(layer[:, :, 3], (shift, 0, shift, 0), mode="replicate")[..., :-shift, :-shift]
    soft = F.avg_pool2d(alpha, 3, stride=1, padding=1)[:, :, None]
    return under * (1 - strength * soft)


def _each(scenes: Sequence[Scene], values: Iterable[float], device: str | torch.device) -> Tensor:
    """A number for every clip, ready to multiply "b f c h w"."""
    return torch.tensor(list(values), device=device).reshape(len(scenes), 1, 1, 1, 1)


def _where(
    holds: Callable[[Scene], bool],
    picture: Tensor,
    change: Callable[[Tensor, list[int]], Tensor],
    *,
    scenes: list[Scene],
) -> Tensor:
    """The clips, those of the scenes for which it `holds` changed; `change` is also told which they are."""
    clips = [k for k, scene in enumerate(scenes) if holds(scene)]
    if not clips:
        return picture
    if len(clips) == len(scenes):
        return change(picture, clips)
    picture[clips] = change(picture[clips], clips)
    return picture


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
    tints = torch.tensor([light.LIGHTS[scene.light].figure_tint for scene in scenes]).repeat_interleave(f, 0)
    return replace(parts, colour=parts.colour * tints), _stage(scenes, tracks, f)


def _stage(scenes: list[Scene], tracks: Track, f: int) -> capsules.Stage:
    heights = torch.tensor([figure.HEIGHTS[scene.subject] for scene in scenes])[:, None] * tracks.zoom
    sides = torch.tensor([facing(scene) for scene in scenes])
    lights = torch.tensor([light.LIGHTS[scene.light].figure_light for scene in scenes])
    lights[:, 0] *= sides  # the light comes from the picture's left whichever way the figure faces
    return capsules.Stage(
        height=heights.flatten(),
        x=((tracks.figure - tracks.camera) * tracks.zoom).flatten(),
        feet=((FEET - PIVOT) * tracks.zoom + PIVOT).flatten(),
        facing=sides.repeat_interleave(f),
        light=lights.repeat_interleave(f, 0),
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
) -> Float[Tensor, "b f 3 h w"]:
    """Sky, distant strip and near strip, as the camera sees them."""
    width, height = size
    rows = [
        (
            light.sky(scene, random, height=height, width=width),
            scenery.far_strip(scene, random, height=height),
            scenery.near_strip(scene, random, height=height),
        )
        for scene, random in zip(scenes, randoms, strict=True)
    ]
    skies, far, near = (torch.stack(parts).to(cut.device) for parts in zip(*rows, strict=True))
    picture = skies[:, None].expand(-1, tracks.camera.shape[1], -1, -1, -1)
    drift = 1 + (tracks.zoom - 1) * 0.5
    for strip, places, zoom in (
        (far, tracks.camera * PARALLAX, drift),
        (near, tracks.camera, tracks.zoom),
    ):
        layer = window(strip, places, zoom=zoom, width=width)
        picture = over(throw_shadow(picture, layer, strength=cut), layer)
    return picture


def _stand(picture: Tensor, figures: Tensor, *, scenes: list[Scene]) -> Tensor:
    """The figure's shadow and, on wet ground, its reflection: its own picture, flipped at the feet."""
    height, device = picture.shape[-2], picture.device
    line = int(FEET * height)
    depth = height - line
    wet = _each(scenes, [WET if scene.weather == "rain" else 0.0 for scene in scenes], device)
    dark = _each(scenes, [light.shadow(scene) for scene in scenes], device)
    mirror = figures[..., line - depth : line, :].flip(-2) * wet
    picture[..., line:, :] = over(picture[..., line:, :], mirror)
    blot = figures[..., 3:, line - depth * 4 :, :].amax(-2, keepdim=True)
    near = slice(int((FEET - 0.1) * height), height)  # farther up the shadow is nothing
    y = (torch.arange(height, device=device)[near] + 0.5) / height
    across = torch.exp(-(((y - FEET) / 0.022) ** 2))[:, None]
    picture[..., near, :] *= 1 - dark * blot * across
    return picture


def _fogged(picture: Tensor, scenes: list[Scene]) -> Tensor:
    hazes = torch.tensor([light.LIGHTS[scene.light].haze for scene in scenes], device=picture.device)
    return _where(
        lambda scene: scene.weather == "fog",
        picture,
        lambda part, clips: torch.lerp(part, hazes[clips, None, :, None, None], FOG),
        scenes=scenes,
    )


def _styled(picture: Tensor, figures: Tensor, *, scenes: list[Scene]) -> Tensor:
    """Every style redraws its clips together."""
    for name in style.PASSES:
        picture = _where(
            lambda scene, name=name: scene.style == name,
            picture,
            lambda part, clips, name=name: style.redraw(part, figures[clips, :, 3:], style=name),
            scenes=scenes,
        )
    return picture


def _weathered(picture: Tensor, scenes: list[Scene], *, randoms: Randoms, seconds: Tensor) -> Tensor:
    """Every kind of weather falls on its clips together."""
    height, width = picture.shape[-2:]

    def layers(k: int) -> list[tuple[weather.Sheet, Tensor]]:
        falling = weather.sheets(scenes[k].weather, float(randoms[k].uniform(-1, 1)))
        return [(one, weather.texture(one, randoms[k], height=height, width=width)) for one in falling]

    def fallen(part: Tensor, clips: list[int]) -> Tensor:
        inks = [weather.ink(scenes[k].style, scenes[k].weather, light=scenes[k].light) for k in clips]
        drawn = [layers(k) for k in clips]
        return weather.fall(part, drawn, inks=torch.tensor(inks), seconds=seconds)

    for kind in ("rain", "snow"):
        picture = _where(lambda scene, kind=kind: scene.weather == kind, picture, fallen, scenes=scenes)
    return picture
