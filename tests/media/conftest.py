"""A short drawn film for every test of this room: a bright square that moves over a smooth ground."""

from collections.abc import Callable

import pytest
import torch

from mutoscope.video import Video


def draw(*, frames: int = 6, width: int = 32, height: int = 24, fps: float = 12, **notes: str) -> Video:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ground = torch.stack([rows * 4 + 40, columns * 3 + 30, 200 - rows * 2 - columns], dim=-1)
    film = ground.clamp(0, 255).to(torch.uint8).repeat(frames, 1, 1, 1)
    for index in range(frames):
        left = 2 * index % max(width - 6, 1)
        film[index, 4:10, left : left + 6] = torch.tensor([240, 220, 60], dtype=torch.uint8)
    return Video(film, fps, notes)


@pytest.fixture
def drawn() -> Callable[..., Video]:
    return draw
