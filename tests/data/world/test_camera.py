"""Cameras: where they look, and that a window on a strip shows the strip."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mutoscope.data.world import Scene
from mutoscope.data.world.camera import LEAD, PAN, PIVOT, Track, facing, track, window
from mutoscope.data.world.gait import speed
from mutoscope.data.world.vocabulary import with_words

SECONDS = torch.arange(25) / 12
WALK = Scene("man", "walking", "red", "street", "clear", "day", "flat illustration", "left", "following", 5)


def path(scene: Scene = WALK, **words: str) -> Track:
    return track(with_words(scene, **words), SECONDS, random=np.random.default_rng(0))


def test_a_following_camera_keeps_the_figure_where_it_is():
    away = path().figure - path().camera
    assert torch.allclose(away, away[:1].expand_as(away), atol=1e-6)


@pytest.mark.parametrize("camera", ["following", "still"])
@pytest.mark.parametrize("action", ["waving", "standing still"])
def test_a_figure_that_stays_in_its_place_has_room_ahead(action: str, camera: str):
    for direction, side in (("left", 1), ("right", -1)):
        at = path(direction=direction, action=action, camera=camera)
        away = side * float((at.figure - at.camera)[12])
        assert LEAD - 0.12 <= away <= LEAD + 0.12


def test_a_walk_past_a_still_camera_is_in_the_middle_half_way():
    assert abs(float(path(camera="still").figure[12])) <= 0.12


@pytest.mark.parametrize("direction", ["left", "right"])
def test_the_figure_travels_its_own_way_at_its_speed(direction: str):
    travelled = path(direction=direction).figure.diff() * 12
    wanted = facing(with_words(WALK, direction=direction)) * speed("walking") * 0.70
    assert torch.allclose(travelled, torch.full_like(travelled, wanted), atol=1e-4)


def test_still_cameras_stay_and_panning_ones_turn_at_one_rate():
    assert path(camera="still").camera.abs().max() == 0
    for action in ("walking", "waving"):
        turned = path(camera="panning", action=action).camera.diff() * 12
        assert torch.allclose(turned.abs(), torch.full_like(turned, PAN), atol=1e-4)
    assert bool((path(camera="panning", direction="right").camera.diff() > 0).all())


def test_only_a_zooming_camera_enlarges():
    assert bool((path(camera="zooming in").zoom.diff() > 0).all())
    for camera in ("still", "following", "panning"):
        assert bool((path(camera=camera).zoom == 1).all())


def strips(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 4, 16, 64, generator=torch.Generator().manual_seed(0))


def test_a_window_at_a_whole_pixel_shows_the_strip_there():
    given, width = strips(1), 24
    # the middle of a picture 24 wide is 12 pixels right of its edge; a picture height is 16 pixels
    seen = window(given, torch.tensor([[(5 + 12) / 16]]), zoom=torch.ones(1, 1), width=width)
    assert torch.allclose(seen[0, 0], given[0, :, :, 5 : 5 + width], atol=1e-5)


def test_the_strip_goes_round():
    places = torch.tensor([[0.3, 0.3 + 64 / 16, 0.3 - 2 * 64 / 16]])
    seen = window(strips(1), places, zoom=torch.ones(1, 3), width=24)
    assert torch.allclose(seen[0, 0], seen[0, 1], atol=1e-4)
    assert torch.allclose(seen[0, 0], seen[0, 2], atol=1e-4)


def test_passing_strips_are_seen_as_by_grid_sampling():
    """The way without zoom is a shortcut: it must show what the general way shows."""
    given, places = strips(), torch.rand(2, 5, generator=torch.Generator().manual_seed(1)) * 4
    short = window(given, places, zoom=torch.ones(2, 5), width=24)
    general = window(given, places, zoom=torch.full((2, 5), 1 + 1e-6), width=24)
    assert torch.allclose(short, general, atol=1e-3)


def test_a_zoom_enlarges_around_the_pivot():
    rows = torch.arange(32.0)[None, None, :, None].expand(1, 4, 32, 128)
    seen = window(rows, torch.ones(1, 1), zoom=torch.full((1, 1), 2.0), width=32)[0, 0, 0]
    middle = PIVOT * 32 - 0.5
    below, above = int(middle) + 8, int(middle) - 8
    assert abs(float(seen[below, 16] - seen[above, 16]) - 8) < 0.1  # 16 rows show 8 of the strip
    assert abs(float(F.interpolate(seen[None, None], scale_factor=1)[0, 0, round(middle), 16]) - middle) < 0.6


def test_tracks_stack_into_a_batch():
    both = Track.stack([path(), path(camera="still")])
    assert both.figure.shape == both.zoom.shape == (2, 25)
    assert torch.equal(both.camera[0], path().camera)
