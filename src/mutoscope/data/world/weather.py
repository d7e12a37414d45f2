"""Rain and snow with depth: sheets of streaks or flakes that fall past the camera, rigid and without end.

A sheet is painted once per clip on a torus of the picture's size and shifted by a constant velocity, so
every frame follows from the first. Nearer sheets are larger, faster and brighter. The streaks are few and
coarse on purpose: what a viewer reads as rain is their slant and speed, and what an autoencoder can keep is
what does not look like noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Sheet", "fall", "falling", "ink", "sheets", "texture"]

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
    """One sheet of weather: particles on a torus, how they look and how they move (picture heights,
    seconds).
    """

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
        return Sheet(14, 0.0, 0.038, (wind * 0.10, 0.30), 0.70), Sheet(
            11, 0.0, 0.062, (wind * 0.16, 0.46), 1.0
        )
    return ()


def texture(sheet: Sheet, random: np.random.Generator, *, height: int, width: int) -> Float[Tensor, "h w"]:
    """Coverage of the sheet's particles on a torus, in [0, 1]; only the pixels around a particle are
    computed.
    """
    wide = width / height
    # jittered columns rather than free places: no clumps, no holes
    places = np.array([(k + random.uniform(0.1, 0.9), random.uniform()) for k in range(sheet.count)])
    cx, cy = torch.tensor(places[:, 0] * wide / sheet.count), torch.tensor(places[:, 1])
    slant = np.array(sheet.velocity) / np.hypot(*sheet.velocity) * sheet.length
    rows = _around(cy * height, np.abs(slant[1]) + sheet.width, height=height, limit=height)
    columns = _around(cx * height, np.abs(slant[0]) + sheet.width, height=height, limit=width)
    x, y = (columns + 0.5) / height, (rows + 0.5) / height
    dx = ((x - cx.float()[:, None] + wide / 2) % wide - wide / 2)[:, None, :]
    dy = ((y - cy.float()[:, None] + 0.5) % 1.0 - 0.5)[:, :, None]
    along = ((dx * slant[0] + dy * slant[1]) / (slant @ slant + 1e-9)).clamp(-0.5, 0.5)
    distance = torch.hypot(dx - along * slant[0], dy - along * slant[1])
    cover = ((sheet.width / 2 - distance) * height + 0.5).clamp(0, 1)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten()
    empty = torch.zeros(height * width)
    return empty.scatter_reduce_(0, pixels, cover.flatten(), "amax").reshape(height, width)


def _around(centres: Tensor, size: float, *, height: int, limit: int) -> Tensor:
    """For every particle the indices of a run of pixels that holds it, round the torus of `limit` pixels."""
    count = min(limit, int(size * height) + 4)
    return (centres.floor().long()[:, None] - count // 2 + torch.arange(count)) % limit


def falling(
    textures: Float[Tensor, "b h w"], velocities: Float[Tensor, "b 2"], *, seconds: Float[Tensor, "f"]
) -> Float[Tensor, "b f h w"]:
    """Shift every texture to each moment, by whole pixels; velocities are in picture heights a second."""
    b, height, width = textures.shape
    steps = (velocities[:, None] * seconds[None, :, None] * height).round().long()
    rows = (torch.arange(height, device=textures.device) - steps[..., 1:]) % height
    columns = (torch.arange(width, device=textures.device) - steps[..., :1]) % width
    batch = torch.arange(b, device=textures.device)[:, None, None, None]
    return textures[batch, rows[..., :, None], columns[..., None, :]]


def fall(
    picture: Float[Tensor, "b f 3 h w"],
    layers: Sequence[Sequence[tuple[Sheet, Float[Tensor, "h w"]]]],
    *,
    inks: Float[Tensor, "b 3"],
    seconds: Float[Tensor, "f"],
) -> Float[Tensor, "b f 3 h w"]:
    """Clips of one kind of weather with it falling in front; `layers` holds every clip's sheets and
    textures.
    """
    device = picture.device
    colour = inks.to(device)[:, None, :, None, None]
    for layer in zip(*layers, strict=True):
        flat = torch.stack([texture for _, texture in layer]).to(device)
        velocities = torch.tensor([sheet.velocity for sheet, _ in layer], device=device)
        cover = falling(flat, velocities, seconds=seconds) * layer[0][0].strength
        picture = torch.lerp(picture, colour, cover[:, :, None])
    return picture
