"""Strips of scenery: shapes where they should be, the same wherever the strip is cut, over what was there."""

import pytest
import torch

from mutoscope.data.world.canvas import PERIOD, Canvas

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def strip(height: int = 40) -> Canvas:
    return Canvas.blank(height)


def test_a_blank_strip_is_transparent_and_four_heights_wide():
    assert strip(40).rgba.shape == (4, 40, PERIOD * 40) and strip().rgba.abs().max() == 0


def test_a_box_covers_its_area():
    canvas = strip()
    canvas.box(1.0, 0.25, width=0.5, bottom=0.75, colour=RED)
    assert abs(float(canvas.rgba[3].sum()) / 40**2 - 0.25) < 1e-4
    assert torch.equal(canvas.rgba[0], canvas.rgba[3]) and canvas.rgba[1:3].abs().max() == 0
    assert float(canvas.rgba[3, 10:30, 30:50].min()) > 0.9999


def test_a_disc_is_round_and_an_ellipse_is_stretched():
    areas = []
    for stretch in (1.0, 2.0):
        canvas = strip()
        canvas.disc(2.0, 0.5, radius=0.2, colour=RED, stretch=stretch)
        areas.append(float(canvas.rgba[3].sum()) / 40**2)
    assert abs(areas[0] - torch.pi * 0.04) < 0.003 and abs(areas[1] / areas[0] - 2) < 0.05


@pytest.mark.parametrize("x", [0.0, 0.05, -0.1, PERIOD - 0.05, PERIOD + 1.0])
def test_shapes_go_round_the_strip(x: float):
    """Painted across the seam, a shape is the same as in the middle, shifted."""
    here, there = strip(), strip()
    for canvas, place in ((here, x), (there, 2.0)):
        canvas.box(place, 0.2, width=0.4, bottom=0.5, colour=RED)
        canvas.disc(place, 0.6, radius=0.15, colour=BLUE)
        canvas.glow(place, 0.3, radius=0.1, strength=0.5, colour=RED)
    assert torch.allclose(here.rgba.roll(round((2.0 - x) * 40), -1), there.rgba, atol=1e-4)


def test_later_colours_lie_over_earlier_ones():
    canvas = strip()
    canvas.below(0.5, RED)
    canvas.box(1.0, 0.6, width=0.5, bottom=0.9, colour=BLUE)
    assert canvas.rgba[:, 30, 40].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert canvas.rgba[:, 30, 100].tolist() == [1.0, 0.0, 0.0, 1.0]
    assert canvas.rgba[:, 15].abs().max() == 0


def test_rows_of_boxes_are_boxes_one_by_one():
    together, apart = strip(64), strip(64)
    rows = [(0.2, 0.3, [-0.2, 0.0, 0.2]), (0.4, 0.5, [0.2]), (0.6, 0.7, [])]
    together.boxes(0.1, rows, width=0.08, colour=RED)
    for top, bottom, offsets in rows:
        for offset in offsets:
            apart.box(0.1 + offset, top, width=0.08, bottom=bottom, colour=RED)
    assert torch.allclose(together.rgba, apart.rgba, atol=1e-6)


def test_below_follows_a_line():
    canvas = strip()
    line = 0.5 + 0.2 * torch.sin(2 * torch.pi * canvas.x / PERIOD)
    canvas.below(line, RED)
    assert torch.allclose(canvas.rgba[3].sum(0) / 40, 1 - line[0], atol=0.02)


def test_light_has_no_matter_and_fades():
    canvas = strip()
    canvas.glow(2.0, 0.5, radius=0.4, strength=0.5, colour=RED)
    assert canvas.rgba[3].abs().max() == 0
    assert float(canvas.rgba[0, 20, 80]) > 2 * float(canvas.rgba[0, 20, 100]) > 0


def test_parts_of_a_strip_share_its_pixels_and_cover_what_was_asked():
    canvas = strip()
    parts = list(canvas.around(0.0, reach=0.25, top=0.4, bottom=0.6))
    assert len(parts) == 2  # on both sides of the seam
    assert sum(part.x.shape[1] for part in parts) >= 20
    assert all(part.y.min() < 0.4 and part.y.max() > 0.6 for part in parts)
    for part in parts:
        part.rgba.fill_(1.0)
    assert bool((canvas.rgba[:, 16:24, :10] == 1).all()) and bool((canvas.rgba[:, 16:24, -10:] == 1).all())
    assert canvas.rgba[:, :, 40:-40].abs().max() == 0
    assert [part.x.shape[1] for part in canvas.around(1.0, reach=9.0)] == [160]
