"""From scenes to clips: sky, far strip, near strip, shadow, figure, style, weather, in that order.

Everything that moves is a function of time in seconds, so a scene can be drawn at any size, length and frame rate and
shows the same thing. The strips are painted once a clip and looked at through a moving window (one gather a batch);
only the figure is painted anew in every frame, and only inside a box around it.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.world import backdrop, figure, style, weather
from mutoscope.data.world.vocabulary import TRAVELLING, Scene

PARALLAX = 0.35  # how far the distant strip moves when the near one moves by one
PAN = 0.28  # picture heights a second
ZOOM = 0.16  # growth a second
PIVOT = 0.62  # the height in the picture that a zoom leaves in place


@dataclass(frozen=True)
class Drawn:
    """Clips and where their subject is: `video` "b 3 f h w" in [-1, 1], `figure` "b f h w" in [0, 1]."""

    video: Float[Tensor, "b 3 f h w"]
    figure: Float[Tensor, "b f h w"]
    scenes: list[Scene] = field(repr=False)


@dataclass(frozen=True)
class Track:
    """Where camera and figure are over time, "f" each: picture heights, figure's middle and the camera's."""

    figure: Tensor
    camera: Tensor
    zoom: Tensor


def track(scene: Scene, seconds: Tensor, random: np.random.Generator) -> Track:
    """The paths of the figure and of the camera."""
    facing = 1.0 if scene.direction == "right" else -1.0
    pace = facing * figure.speed(scene.action) * figure.HEIGHTS[scene.subject]
    middle = float(seconds[-1]) / 2
    walk, offset = pace * (seconds - middle), float(random.uniform(-0.12, 0.12))
    still = torch.zeros_like(seconds)
    zoom = 1.0 + ZOOM * seconds if scene.camera == "zooming in" else 1.0 + still
    if scene.camera == "following" or (scene.camera == "zooming in" and scene.action in TRAVELLING):
        return Track(walk + offset, walk, zoom)
    if scene.camera == "panning":
        side = facing if scene.action in TRAVELLING else (1.0 if random.uniform() < 0.5 else -1.0)
        return Track(walk + offset, side * PAN * (seconds - middle), zoom)
    return Track(walk + offset, still, zoom)


def window(strips: Tensor, places: Tensor, zoom: Tensor, *, width: int) -> Tensor:
    """Look at repeating strips ("b 4 h w") from `places` ("b f", the camera's middle): "b f 4 h width"."""
    b, channels, height, period = strips.shape
    tiled = torch.cat([strips, strips[..., : width + 2]], -1)
    x = (torch.arange(width, device=strips.device) + 0.5 - width / 2) / zoom[..., None]
    start = (places * height - width / 2) % period
    columns = (start[..., None] + width / 2 + x) * 2 / tiled.shape[-1] - 1
    y = (torch.arange(height, device=strips.device) + 0.5) / height
    rows = ((y - PIVOT) / zoom[..., None] + PIVOT) * 2 - 1
    f = places.shape[1]
    grid = torch.stack(
        [
            columns[:, :, None, :].expand(b, f, height, width).reshape(b, f * height, width),
            rows[:, :, :, None].expand(b, f, height, width).reshape(b, f * height, width),
        ],
        -1,
    )
    seen = F.grid_sample(tiled, grid, padding_mode="border", align_corners=False)
    return seen.reshape(b, channels, f, height, width).transpose(1, 2)


def over(under: Tensor, layer: Tensor) -> Tensor:
    """Put a premultiplied RGBA layer ("... 4 h w") over a picture ("... 3 h w")."""
    return (under * (1 - layer[..., 3:, :, :]) + layer[..., :3, :, :]).clamp_(0, 1)


def throw_shadow(under: Tensor, layer: Tensor, strength: Tensor) -> Tensor:
    """Darken a picture where the layer above, moved aside and blurred, would shade it; `strength` is "b"."""
    if not bool((strength > 0).any()):
        return under
    shift = max(1, round(under.shape[-2] * 0.025))
    alpha = layer[..., 3:, :, :].roll((shift, shift), (-2, -1))
    b, f = alpha.shape[:2]
    soft = F.avg_pool2d(alpha.reshape(b * f, 1, *alpha.shape[-2:]), 3, stride=1, padding=1).reshape(alpha.shape)
    return under * (1 - strength[:, None, None, None, None] * soft)


def look(scene: Scene, random: np.random.Generator) -> figure.Look:
    """The colours of the figure: the coat from the scene, the rest by chance."""

    def pick(choices) -> Tensor:
        return torch.tensor(choices[int(random.integers(len(choices)))])

    skin, hair, trousers = pick(figure.SKINS), pick(figure.HAIRS), pick(figure.TROUSERS)
    if scene.subject == "robot":
        skin, trousers = torch.tensor(figure.STEEL), torch.tensor(figure.STEEL) * 0.8
    if scene.subject == "astronaut":
        skin = trousers = torch.tensor(figure.SUIT)
    return figure.Look(scene.subject, torch.tensor(figure.COATS[scene.colour]), skin, hair, trousers)


@dataclass(frozen=True)
class Cast:
    """The figures of a batch, ready to paint: parts (n = clips x frames), their scale, place and facing ("n")."""

    parts: figure.Parts
    height: Tensor
    x: Tensor
    facing: Tensor
    light: Tensor

    @classmethod
    def of(cls, scenes: list[Scene], tracks: list[Track], seconds: Tensor, randoms: list[np.random.Generator]) -> "Cast":
        f = len(seconds)
        parts = figure.Parts.empty(len(scenes) * f)
        for k, (scene, random) in enumerate(zip(scenes, randoms, strict=True)):
            move = figure.motion(scene.action, seconds, start=float(random.uniform()))
            parts.put(torch.arange(k * f, (k + 1) * f), figure.body(look(scene, random), move))
            tint = torch.tensor(backdrop.FIGURE_TINTS[scene.light])
            parts.colour[k * f : (k + 1) * f] *= tint
        zoom = torch.stack([path.zoom for path in tracks])
        place = torch.stack([(path.figure - path.camera) for path in tracks]) * zoom
        heights = torch.tensor([figure.HEIGHTS[scene.subject] for scene in scenes])[:, None] * zoom
        facing = torch.tensor([1.0 if scene.direction == "right" else -1.0 for scene in scenes])
        side = torch.tensor([_light_of(scene) for scene in scenes])
        side[:, 0] *= facing  # the light comes from the picture's left whichever way the figure faces
        return cls(parts, heights.flatten(), place.flatten(), facing.repeat_interleave(f), side.repeat_interleave(f, 0))


def _light_of(scene: Scene) -> tuple[float, float, float]:
    """Direction and strength of the light on the figure: high by day, low at sunset, a bright rim at night."""
    return {"day": (-0.6, 0.8, 0.16), "sunset": (-0.9, 0.2, 0.28), "night": (-0.7, 0.7, 0.42)}[scene.light]


def paint(cast: Cast, *, zoom: Tensor, size: tuple[int, int], device) -> Tensor:
    """All figures on transparent pictures, "n 4 h w"."""
    width, height = size
    feet = (backdrop.FEET - PIVOT) * zoom.flatten() + PIVOT
    reach = cast.height.max().item() * height
    box_h, box_w = min(height, int(reach * 1.30) + 4), int(reach * 1.15) + 6
    top = (feet * height).long() + int(0.04 * height) + 2 - box_h
    left = (cast.x * height + width / 2).long() - box_w // 2
    rows = top[:, None] + torch.arange(box_h)
    columns = left[:, None] + torch.arange(box_w)
    scale = cast.height[:, None]
    y = (feet[:, None] - (rows + 0.5) / height) / scale
    x = ((columns + 0.5 - width / 2) / height - cast.x[:, None]) / scale * cast.facing[:, None]
    n = len(feet)
    parts = figure.Parts(*(tensor.to(device) for tensor in cast.parts.tensors()))
    box = figure.rasterise(
        parts, x[:, None, :].expand(n, box_h, box_w).to(device), y[:, :, None].expand(n, box_h, box_w).to(device),
        pixel=(1 / (height * cast.height)).to(device), light=cast.light.to(device),
    )  # fmt: skip
    return _place(box, rows.to(device), columns.to(device), size=size)


def _place(box: Tensor, rows: Tensor, columns: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Copy boxes ("n 4 h w") to their places in pictures of `size`; what falls outside is cut off."""
    width, height = size
    n, channels = box.shape[:2]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    index = torch.where(inside, rows[:, :, None] * width + columns[:, None, :], height * width).reshape(n, 1, -1)
    picture = torch.zeros(n, channels, height * width + 1, device=box.device)
    picture.scatter_(2, index.expand(n, channels, -1), box.reshape(n, channels, -1))
    return picture[..., :-1].reshape(n, channels, height, width)


def stand(picture: Tensor, figures: Tensor, scenes: list[Scene]) -> Tensor:
    """The figure's shadow and, on wet ground, its reflection: the figure's own picture, flipped at the feet."""
    height = picture.shape[-2]
    line = int(backdrop.FEET * height)
    depth = height - line
    flipped = figures[..., line - depth : line, :].flip(-2)
    wet = torch.tensor([0.55 if s.weather == "rain" else 0.0 for s in scenes], device=picture.device)
    dark = torch.tensor([backdrop.shadow(1.0, scene=s) for s in scenes], device=picture.device)
    mirror = flipped * wet[:, None, None, None, None]
    picture = picture.clone()
    picture[..., line:, :] = over(picture[..., line:, :], mirror)
    blot = figures[..., 3:, line - depth * 4 :, :].amax(-2, keepdim=True)
    y = (torch.arange(height, device=picture.device) + 0.5) / height
    across = torch.exp(-(((y - backdrop.FEET) / 0.022) ** 2))[:, None]
    return picture * (1 - dark[:, None, None, None, None] * blot * across)


def draw(
    scenes: list[Scene], *, frames: int, size: tuple[int, int] = (96, 64), fps: float = 12.0, device: str | torch.device = "cpu"
) -> Drawn:
    """Draw clips of `frames` frames at `fps`, `size` = (width, height) in pixels, one for each scene.

    The same scene gives the same clip whatever else is in the batch.
    """
    seconds = torch.arange(frames) / fps
    randoms = [np.random.default_rng(scene.seed) for scene in scenes]
    tracks = [track(scene, seconds, random) for scene, random in zip(scenes, randoms, strict=True)]
    cast = Cast.of(scenes, tracks, seconds, randoms)
    zoom = torch.stack([path.zoom for path in tracks]).to(device)
    camera = torch.stack([path.camera for path in tracks]).to(device)
    picture, near = _scenery(scenes, randoms, camera, zoom, size=size)
    figures = paint(cast, zoom=zoom.cpu(), size=size, device=device).reshape(len(scenes), frames, 4, size[1], size[0])
    cut = torch.tensor([style.CAST.get(scene.style, 0.0) for scene in scenes], device=device)
    picture = over(throw_shadow(picture, near, cut), near)
    picture = stand(picture, figures, scenes)
    picture = over(throw_shadow(picture, figures, cut), figures)
    picture = _fogged(picture, scenes)
    picture = _styled(picture, figures, scenes)
    picture = _weathered(picture, scenes, randoms, seconds.to(device))
    return Drawn((picture * 2 - 1).transpose(1, 2).contiguous(), figures[:, :, 3], scenes)


def _scenery(scenes: list[Scene], randoms, camera: Tensor, zoom: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    width, height = size
    rows = [
        (
            backdrop.sky(scene, random, height=height, width=width),
            backdrop.far_strip(scene, random, height=height),
            backdrop.near_strip(scene, random, height=height),
        )
        for scene, random in zip(scenes, randoms, strict=True)
    ]
    skies, far, near = (torch.stack(parts).to(camera.device) for parts in zip(*rows, strict=True))
    drift = 1 + (zoom - 1) * 0.5
    distant = window(far, camera * PARALLAX, drift, width=width)
    cut = torch.tensor([style.CAST.get(scene.style, 0.0) for scene in scenes], device=camera.device)
    behind = skies[:, None].expand(-1, camera.shape[1], -1, -1, -1)
    return over(throw_shadow(behind, distant, cut), distant), window(near, camera, zoom, width=width)


def _fogged(picture: Tensor, scenes: list[Scene]) -> Tensor:
    veil = torch.tensor([backdrop.HAZE[s.light] for s in scenes], device=picture.device)[:, None, :, None, None]
    share = torch.tensor([0.22 if s.weather == "fog" else 0.0 for s in scenes], device=picture.device)
    return torch.lerp(picture, veil.expand_as(picture), share[:, None, None, None, None])


def _styled(picture: Tensor, figures: Tensor, scenes: list[Scene]) -> Tensor:
    done = [
        style.draw_in_style(picture[k], figures[k, :, 3:], style=scene.style) for k, scene in enumerate(scenes)
    ]
    return torch.stack(done)


def _weathered(picture: Tensor, scenes: list[Scene], randoms, seconds: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    for k, (scene, random) in enumerate(zip(scenes, randoms, strict=True)):
        ink = torch.tensor(weather.ink(scene.style, scene.weather, light=scene.light), device=picture.device)[:, None, None]
        for sheet in weather.sheets(scene.weather, float(random.uniform(-1, 1))):
            flat = weather.texture(sheet, random, height=height, width=width).to(picture.device)
            moved = weather.falling(flat[None], torch.tensor([sheet.velocity], device=picture.device), seconds)[0]
            picture[k] = torch.lerp(picture[k], ink.expand_as(picture[k]), (moved * sheet.strength)[:, None].expand_as(picture[k]))
    return picture
