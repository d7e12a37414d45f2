"""Weather: coarse particles on a torus that fall at their speed for ever."""

import numpy as np
import pytest
import torch

from mutoscope.data.world import FULL
from mutoscope.data.world.weather import fall, falling, ink, sheets, texture


def flat(kind: str, number: int = 1, *, seed: int = 0, size: tuple[int, int] = (96, 64)) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return texture(sheets(kind, 0.5)[number], random, height=size[1], width=size[0])


def test_only_rain_and_snow_have_sheets():
    assert sheets("clear", 0.3) == sheets("fog", 0.3) == ()
    assert len(sheets("rain", 0.3)) == len(sheets("snow", 0.3)) == 2


def test_snow_falls_more_slowly_than_rain_and_near_sheets_faster_than_far_ones():
    for wind in (-1.0, 0.0, 1.0):
        rain, snow = ([sheet.velocity[1] for sheet in sheets(kind, wind)] for kind in ("rain", "snow"))
        assert 0 < snow[0] < snow[1] < rain[0] / 3 < rain[1]


def test_wind_blows_both_ways():
    for kind in ("rain", "snow"):
        left, right = (sheets(kind, wind)[1].velocity[0] for wind in (-1.0, 1.0))
        assert left == -right < 0


def test_near_particles_are_larger_and_stronger():
    for kind in ("rain", "snow"):
        far, near = sheets(kind, 0.0)
        assert near.width > far.width and near.strength > far.strength and near.length >= far.length


@pytest.mark.parametrize("kind", ["rain", "snow"])
@pytest.mark.parametrize("size", [(96, 64), (40, 60), (30, 20)])
def test_particles_are_painted_as_by_the_formula_at_every_pixel(kind: str, size: tuple[int, int]):
    """Only the surroundings of a particle are computed; here all pixels are, one particle at a time."""
    sheet, random = sheets(kind, 0.5)[1], np.random.default_rng(0)
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / height, (np.arange(height) + 0.5) / height)
    slant = np.array(sheet.velocity) / np.hypot(*sheet.velocity) * sheet.length
    wide, cover = width / height, np.zeros((height, width))
    for k in range(sheet.count):
        cx, cy = wide * (k + random.uniform(0.1, 0.9)) / sheet.count, random.uniform()
        dx, dy = (x - cx + wide / 2) % wide - wide / 2, (y - cy + 0.5) % 1 - 0.5
        along = np.clip((dx * slant[0] + dy * slant[1]) / (slant @ slant + 1e-9), -0.5, 0.5)
        distance = np.hypot(dx - along * slant[0], dy - along * slant[1])
        cover = np.maximum(cover, np.clip((sheet.width / 2 - distance) * height + 0.5, 0, 1))
    assert np.abs(flat(kind, size=size).numpy() - cover).max() < 1e-4


def test_streaks_are_long_and_flakes_are_round():
    rain, snow = flat("rain"), flat("snow")

    def upright(cover: torch.Tensor) -> float:
        """Likeness to the row below over likeness to the column beside."""
        return float((cover[1:] * cover[:-1]).sum() / (cover[:, 1:] * cover[:, :-1]).sum())

    assert upright(rain) > 1.3 and 0.8 < upright(snow) < 1.25


def test_falling_shifts_whole_pixels_round_the_torus():
    one = flat("rain")[None]
    moved = falling(one, torch.tensor([[0.25, 0.5]]), seconds=torch.tensor([0.0, 1.0, 4.0]))
    assert moved.shape == (1, 3, 64, 96)
    assert torch.equal(moved[0, 0], one[0])
    assert torch.equal(moved[0, 1], one[0].roll((32, 16), (0, 1)))
    assert torch.equal(moved[0, 2], one[0].roll((128, 64), (0, 1)))


def test_clips_of_one_weather_fall_together_as_alone():
    pictures = torch.rand(2, 3, 3, 24, 36, generator=torch.Generator().manual_seed(0))
    layers = []
    for seed in (0, 1):
        random = np.random.default_rng(seed)
        drawn = [(s, texture(s, random, height=24, width=36)) for s in sheets("snow", 0.2 * seed)]
        layers.append(drawn)
    inks, seconds = torch.tensor([[1.0, 1.0, 1.0], [0.2, 0.2, 0.3]]), torch.arange(3) / 12
    both = fall(pictures, layers, inks=inks, seconds=seconds)
    for k in (0, 1):
        alone = fall(pictures[k : k + 1], layers[k : k + 1], inks=inks[k : k + 1], seconds=seconds)
        assert torch.allclose(both[k], alone[0], atol=1e-6)
    assert float((both - pictures).abs().max()) > 0.3


def test_ink_shows_against_what_it_falls_on():
    for style in FULL.style:
        for kind in ("rain", "snow"):
            assert all(0 <= value <= 1 for value in ink(style, kind, light="day"))
    night, day = (sum(ink("pencil sketch", "rain", light=light)) for light in ("night", "day"))
    assert night > 2 > day  # white on dark paper
