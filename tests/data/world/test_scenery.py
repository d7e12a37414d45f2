"""Places: strips without a seam, told apart by their colours, changed by weather and hour."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from mutoscope.data.world import FULL, Scene
from mutoscope.data.world.scenery import far_strip, near_strip
from mutoscope.data.world.vocabulary import with_words

SCENE = Scene("man", "walking", "red", "street", "clear", "day", "flat illustration", "left", "following", 5)


def strips(seed: int = 0, *, height: int = 48, **words: str) -> tuple[Tensor, Tensor]:
    scene, random = with_words(SCENE, **words), np.random.default_rng(seed)
    return far_strip(scene, random, height=height), near_strip(scene, random, height=height)


@pytest.mark.parametrize("place", FULL.place)
def test_strips_are_premultiplied_and_have_no_seam(place: str):
    for strip in strips(place=place, height=96):
        assert strip.shape == (4, 96, 4 * 96)
        assert strip[3].min() >= 0 and strip[3].max() <= 1 + 1e-6
        assert bool((strip[:3] <= strip[3:] + 1e-4).all())  # no lamp is on by day
        seam = float((strip[..., 0] - strip[..., -1]).abs().mean())
        assert seam <= 1.1 * float(strip.diff(dim=-1).abs().mean((0, 1)).max())


@pytest.mark.parametrize("place", FULL.place)
def test_the_ground_is_solid_and_the_sky_is_free(place: str):
    far, near = strips(place=place)
    assert bool((near[3, 40:] > 0.999).all())
    assert float(far[3, :4].max()) == 0 and float(near[3, :6].max()) == 0
    assert float((near[3, :36] == 0).float().mean()) > 0.5  # one sees the distance between what stands near


def test_places_are_told_apart_by_their_colours():
    means = {place: torch.cat([s.mean((1, 2))[:3] for s in strips(place=place)]) for place in FULL.place}
    for one, other in combinations(FULL.place, 2):
        assert float((means[one] - means[other]).abs().max()) > 0.04


@pytest.mark.parametrize("place", FULL.place)
def test_the_same_seed_paints_the_same_and_another_does_not(place: str):
    one, again, other = strips(1, place=place), strips(1, place=place), strips(2, place=place)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])


@pytest.mark.parametrize("place", FULL.place)
def test_snow_whitens_the_ground_rain_darkens_it_and_night_more(place: str):
    ground = {}
    for name, words in {"clear": {}, "snow": {"weather": "snow"}, "rain": {"weather": "rain"}}.items():
        ground[name] = strips(place=place, **words)[1][:3, 44:].mean()
    night = strips(place=place, light="night")[1][:3, 44:].mean()
    assert ground["snow"] > ground["clear"] > ground["rain"] > night


def test_lamps_and_windows_are_lit_when_it_is_dark():
    day, night = strips(light="day"), strips(light="night")
    for lit, unlit in zip(night, day, strict=True):
        warm = (lit[0] > 0.8) & (lit[2] < 0.65)  # lamp light: much red, little blue
        assert int(warm.sum()) > 10
        assert int(((unlit[0] > 0.8) & (unlit[2] < 0.65)).sum()) == 0
    glow = (night[1][0] > night[1][3] + 0.05).any(0)
    assert float(glow.float().mean()) > 0.3  # light without matter, around the lamps


def test_larger_strips_show_the_same():
    for small, large in zip(strips(height=32), strips(height=64), strict=True):
        halved = torch.nn.functional.avg_pool2d(large, 2)
        assert float((halved - small).abs().mean()) < 0.02
