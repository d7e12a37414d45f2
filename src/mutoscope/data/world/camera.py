"""Cameras: where they look over time, and the look itself.

    still: the figure walks through the picture · following: it stays, the scenery passes · panning · zooming
    in

The scenery is painted once a clip on strips that repeat; a camera is a window moving over them, so every
frame is a gather and a blend whatever the scenery costs. Distances are in picture heights, times in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.world.figure import HEIGHTS
from mutoscope.data.world.gait import speed
from mutoscope.data.world.vocabulary import TRAVELLING, Scene

__all__ = ["PARALLAX", "PIVOT", "Track", "track", "window"]

PARALLAX = 0.35  # how far the distant strip moves when the near one moves by one
PAN = 0.28  # picture heights a second
ZOOM = 0.16  # growth a second
LEAD = 0.2  # picture heights of room before a subject, as on any film set; it also shows which way it faces
PIVOT = 0.62  # the height in the picture that a zoom leaves in place


@dataclass(frozen=True)
class Track:
    """Over time, where the figure's middle and the camera's are, and how much it enlarges."""

    figure: Float[Tensor, "*b f"]
    camera: Float[Tensor, "*b f"]
    zoom: Float[Tensor, "*b f"]

    @classmethod
    def stack(cls, tracks: Sequence["Track"]) -> "Track":
        """The tracks of a batch, "b f"."""
        return cls(
            *(torch.stack([getattr(one, name) for one in tracks]) for name in ("figure", "camera", "zoom"))
        )


def facing(scene: Scene) -> float:
    """1 to the right, -1 to the left."""
    return 1.0 if scene.direction == "right" else -1.0


def track(scene: Scene, seconds: Float[Tensor, "f"], *, random: np.random.Generator) -> Track:
    """The paths of figure and camera; in the middle of the clip both are in the middle of the world, but for
    the lead room of a figure that stays where it is in the picture."""
    middle = float(seconds[-1]) / 2
    pace = facing(scene) * speed(scene.action) * HEIGHTS[scene.subject]
    walk, offset = pace * (seconds - middle), float(random.uniform(-0.12, 0.12))
    still = torch.zeros_like(seconds)
    zoom = 1.0 + ZOOM * seconds if scene.camera == "zooming in" else 1.0 + still
    led = walk + offset - facing(scene) * LEAD
    if scene.camera == "following" or (scene.camera == "zooming in" and scene.action in TRAVELLING):
        return Track(led, walk, zoom)
    if scene.camera == "panning":
        side = facing(scene) if scene.action in TRAVELLING else (1.0 if random.uniform() < 0.5 else -1.0)
        return Track(walk + offset, side * PAN * (seconds - middle), zoom)
    return Track(walk + offset if scene.action in TRAVELLING else led, still, zoom)


def window(
    strips: Float[Tensor, "b c h period"],
    places: Float[Tensor, "b f"],
    *,
    zoom: Float[Tensor, "b f"],
    width: int,
) -> Float[Tensor, "b f c h width"]:
    """Look at repeating strips from `places`, the middle of the picture, enlarged `zoom` times around the
    pivot.
    """
    height, period = strips.shape[-2:]
    tiled = torch.cat([strips, strips[..., : width + 2]], -1)
    x = (torch.arange(width, device=strips.device) + 0.5 - width / 2) / zoom[..., None]
    start = (places * height - width / 2) % period
    columns = (start[..., None] + width / 2 + x) * 2 / tiled.shape[-1] - 1
    if bool((zoom == 1).all()):
        return _passing(tiled, ((columns + 1) * (tiled.shape[-1] / 2) - 0.5).clamp(min=0))
    y = (torch.arange(height, device=strips.device) + 0.5) / height
    rows = ((y - PIVOT) / zoom[..., None] + PIVOT) * 2 - 1
    f = places.shape[1]
    across = columns[:, :, None].expand(-1, -1, height, -1)
    grid = torch.stack([across, rows[..., None].expand_as(across)], -1)
    seen = F.grid_sample(
        tiled, rearrange(grid, "b f h w xy -> b (f h) w xy"), padding_mode="border", align_corners=False
    )
    return rearrange(seen, "b c (f h) w -> b f c h w", f=f)


def _passing(tiled: Tensor, columns: Tensor) -> Tensor:
    """What is at fractional columns ("b f w", one apart but for rounding) of tiled strips, in every row."""
    left = columns.floor()
    share = (columns - left)[:, :, None, None]
    w = columns.shape[-1]
    first = (left - torch.arange(w, device=left.device)).amin(-1).long()
    late = (left - torch.arange(w, device=left.device) - first[..., None])[
        :, :, None, None
    ]  # 0, or 1 by rounding
    views = tiled.unfold(-1, w + 2, 1)
    clips = torch.arange(len(tiled), device=tiled.device)[:, None]
    seen = views[clips, :, :, first]
    out = seen[..., :-2] * ((1 - share) * (1 - late))
    out.addcmul_(seen[..., 1:-1], share * (1 - late) + (1 - share) * late)
    return out.addcmul_(seen[..., 2:], share * late)
