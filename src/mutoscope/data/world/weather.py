"""Rain and snow with depth: sheets of streaks or flakes that fall past the camera, rigid and without end.

A sheet is painted once per clip on a torus of the picture's size and shifted by a constant velocity, so every frame
follows from the first. Nearer sheets are larger, faster and brighter. The streaks are few and coarse on purpose: what
a viewer reads as rain is their slant and speed, and what an autoencoder can keep is what does not look like noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

INKS = {  # colour of rain and of snow by style
    "flat illustration": ((0.80, 0.88, 1.0), (1.0, 1.0, 1.0)),
    "pencil sketch": ((0.22, 0.24, 0.28), (0.45, 0.50, 0.58)),
    "neon": ((0.30, 0.85, 1.0), (0.95, 0.85, 1.0)),
    "paper cut-out": ((0.62, 0.78, 0.95), (1.0, 1.0, 1.0)),
}

NIGHT_PENCIL = (0.86, 0.88, 0.92)  # on dark paper the pencil is white


def ink(style: str, kind: str, *, light: str) -> tuple[float, float, float]:
    """The colour in which a style draws rain or snow."""
    if style == "pencil sketch" and light == "night":
        return NIGHT_PENCIL
    return INKS[style][kind == "snow"]


@dataclass(frozen=True)
class Sheet:
    """One sheet of weather: particles on a torus, how they look and how they move (picture heights, seconds)."""

    count: int
    length: float
    width: float
    velocity: tuple[float, float]
    strength: float


def sheets(weather: str, wind: float) -> tuple[Sheet, ...]:
    """The sheets of a weather, far to near; none when it is clear or foggy. `wind` is in [-1, 1]."""
    if weather == "rain":
        far, near = (wind * 0.5, 2.1), (wind * 0.75, 2.9)
        return Sheet(12, 0.11, 0.024, far, 0.50), Sheet(11, 0.19, 0.034, near, 0.85)
    if weather == "snow":
        return Sheet(14, 0.0, 0.038, (wind * 0.10, 0.30), 0.70), Sheet(11, 0.0, 0.062, (wind * 0.16, 0.46), 1.0)
    return ()


def texture(sheet: Sheet, random: np.random.Generator, *, height: int, width: int) -> Tensor:
    """Coverage of the sheet's particles on a torus, "h w" in [0, 1]."""
    y = ((torch.arange(height) + 0.5) / height)[:, None]
    x = ((torch.arange(width) + 0.5) / height)[None, :]
    wide, cover = width / height, torch.zeros(height, width)
    slant = np.array(sheet.velocity) / np.hypot(*sheet.velocity) * sheet.length
    for k in range(sheet.count):
        # jittered columns rather than free places: no clumps, no holes
        cx, cy = wide * (k + float(random.uniform(0.1, 0.9))) / sheet.count, float(random.uniform())
        dx = (x - cx + wide / 2) % wide - wide / 2
        dy = (y - cy + 0.5) % 1.0 - 0.5
        along = ((dx * slant[0] + dy * slant[1]) / (slant @ slant + 1e-9)).clamp(-0.5, 0.5)
        distance = torch.hypot(dx - along * slant[0], dy - along * slant[1])
        cover = torch.maximum(cover, ((sheet.width / 2 - distance) * height + 0.5).clamp(0, 1))
    return cover


def falling(textures: Tensor, sheet_velocities: Tensor, seconds: Tensor) -> Tensor:
    """Shift every texture ("b h w") to each moment ("f"): "b f h w". Velocities "b 2" are in picture heights a second."""
    b, height, width = textures.shape
    steps = (sheet_velocities[:, None] * seconds[None, :, None] * height).round().long()
    rows = (torch.arange(height, device=textures.device) - steps[..., 1:]) % height
    columns = (torch.arange(width, device=textures.device) - steps[..., :1]) % width
    batch = torch.arange(b, device=textures.device)[:, None, None, None]
    return textures[batch, rows[..., :, None], columns[..., None, :]]
