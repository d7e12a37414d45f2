"""Light: night is dark, sunset is warm, and the distance sinks into the air."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mutoscope.data.world import FULL, Scene
from mutoscope.data.world.light import LIGHTS, mixed, shadow, sky, tinted
from mutoscope.data.world.vocabulary import with_words

SCENE = Scene("man", "walking", "red", "street", "clear", "day", "flat illustration", "left", "following", 5)
GREEN = (0.2, 0.6, 0.3)


def heaven(seed: int = 0, **words: str) -> Tensor:
    return sky(with_words(SCENE, **words), np.random.default_rng(seed), height=48, width=72)


def away(colour: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(abs(a - b) for a, b in zip(colour, other, strict=True))


def test_a_mixture_goes_from_one_to_the_other():
    assert mixed((0, 0, 0), (1, 2, 4), 0.25) == (0.25, 0.5, 1.0)
    assert mixed(GREEN, (1.0, 1.0, 1.0), 0.0) == GREEN


def test_near_things_have_their_own_colour_by_clear_day():
    assert away(tinted(GREEN, SCENE), GREEN) < 1e-6


@pytest.mark.parametrize("weather", FULL.weather)
def test_things_are_darker_at_night(weather: str):
    day, night = (tinted(GREEN, with_words(SCENE, light=x, weather=weather)) for x in ("day", "night"))
    assert sum(night) < 0.6 * sum(day)


@pytest.mark.parametrize("light", FULL.light)
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_fog_takes_colours_away_and_more_with_the_distance(light: str, depth: float):
    clear, fog = (with_words(SCENE, light=light, weather=w) for w in ("clear", "fog"))
    veiled, bare = (away(tinted(GREEN, scene, depth=depth), LIGHTS[light].haze) for scene in (fog, clear))
    assert veiled < bare
    if depth:
        assert veiled < away(tinted(GREEN, fog, depth=depth - 0.5), LIGHTS[light].haze)


def test_skies_by_the_hour():
    day, sunset, night = (heaven(light=light).mean((1, 2)) for light in FULL.light)
    assert float(night.mean()) < 0.4 * float(day.mean())
    assert day[2] > day[0] and sunset[0] > sunset[2]  # blue by day, red at sunset


@pytest.mark.parametrize("weather", ["rain", "snow", "fog"])
def test_bad_weather_hides_sun_and_clouds(weather: str):
    assert bool((heaven(weather=weather).diff(dim=-1) == 0).all())
    assert torch.equal(heaven(0, weather=weather), heaven(1, weather=weather))


def test_clear_skies_differ_by_the_seed_and_stars_shine_at_night():
    assert not torch.equal(heaven(0), heaven(1))
    night = heaven(light="night")
    assert int((night[:, :20] > night[:, :20].mean() + 0.3).all(0).sum()) > 8


@pytest.mark.parametrize("light", FULL.light)
def test_skies_have_a_sensible_range(light: str):
    for weather in FULL.weather:
        picture = heaven(light=light, weather=weather)
        assert picture.shape == (3, 48, 72) and picture.min() >= 0 and picture.max() < 1.9


def test_shadows_are_deepest_in_clear_weather():
    for light in FULL.light:
        clear, rain = (with_words(SCENE, light=light, weather=w) for w in ("clear", "rain"))
        assert shadow(clear) == 2 * shadow(rain) > 0
