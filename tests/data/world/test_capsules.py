"""Capsules: soft edges where the formula says, painted in order, cut off at the picture's edge."""

import pytest
import torch
from torch import Tensor

from mutoscope.data.world.capsules import Part, Parts, Stage, paint

WHITE, RED = torch.ones(3), torch.tensor([1.0, 0.0, 0.0])


def dot(x: float, y: float, radius: float, *, colour: Tensor = WHITE, n: int = 1) -> Part:
    place = torch.tensor([[x, y]]).expand(n, 2)
    return Part(place, place, (radius, radius), colour)


def stage(
    *, height: float = 1.0, x: float = 0.0, feet: float = 1.0, facing: float = 1.0, light=(0, 0, 0), n=1
):
    numbers = (torch.full((n,), float(value)) for value in (height, x, feet, facing))
    return Stage(*numbers, torch.tensor([light], dtype=torch.float32).expand(n, 3))


def test_a_disc_covers_its_area_at_its_place():
    picture = paint(Parts.of([dot(0.1, 0.6, 0.2)]), stage(), size=(80, 60))[0]
    alpha = picture[3]
    assert abs(float(alpha.sum()) / 60**2 - torch.pi * 0.2**2) < 0.002
    columns, rows = torch.arange(80) + 0.5, torch.arange(60) + 0.5
    assert abs(float((alpha.sum(0) * columns).sum() / alpha.sum()) - (40 + 0.1 * 60)) < 0.05
    assert abs(float((alpha.sum(1) * rows).sum() / alpha.sum()) - 0.4 * 60) < 0.05


def test_facing_left_mirrors_the_body():
    parts = Parts.of([dot(0.15, 0.5, 0.1), dot(-0.05, 0.3, 0.05)])
    right, left = (paint(parts, stage(facing=side), size=(50, 40)) for side in (1.0, -1.0))
    assert torch.allclose(left, right.flip(-1), atol=1e-5)


def test_later_parts_lie_over_earlier_ones():
    parts = [dot(0.0, 0.5, 0.2), dot(0.0, 0.5, 0.1, colour=RED)]
    over = paint(Parts.of(parts), stage(), size=(40, 40))[0]
    under = paint(Parts.of(parts[::-1]), stage(), size=(40, 40))[0]
    assert torch.allclose(over[:, 20, 20], torch.tensor([1.0, 0.0, 0.0, 1.0]), atol=1e-5)
    assert torch.allclose(under[:, 20, 20], torch.ones(4), atol=1e-5)


def test_a_capsule_is_as_thick_as_its_ends():
    part = Part(torch.tensor([[0.0, 0.2]]), torch.tensor([[0.0, 0.8]]), (0.15, 0.05), WHITE)
    widths = paint(Parts.of([part]), stage(), size=(100, 100))[0, 3].sum(-1) / 100
    assert abs(float(widths[80]) - 0.3) < 0.02 and abs(float(widths[20]) - 0.1) < 0.02
    assert abs(float(widths[50]) - 0.2) < 0.02


@pytest.mark.parametrize("place", [(0.48, 0.5), (-0.7, 0.5), (0.0, -0.05), (3.0, 3.0)])
def test_what_leaves_the_picture_is_cut_off(place: tuple[float, float]):
    small = paint(Parts.of([dot(*place, 0.1)]), stage(), size=(40, 40))[0, 3]
    wide = paint(Parts.of([dot(*place, 0.1)]), stage(feet=1.0, x=0.0), size=(240, 40))[0, 3]
    assert torch.allclose(small, wide[:, 100:140], atol=1e-5)


def test_light_brightens_the_side_it_falls_on():
    lit = paint(Parts.of([dot(0, 0.5, 0.3, colour=WHITE * 0.5)]), stage(light=(-1, 0, 0.4)), size=(40, 40))[0]
    assert float(lit[0, 20, 10]) > 0.55 > 0.5 > float(lit[0, 20, 29])


def test_a_negative_radius_covers_nothing():
    assert paint(Parts.of([dot(0, 0.5, -1.0)]), stage(), size=(20, 20)).abs().max() == 0


def test_bodies_with_fewer_parts_join_a_batch_unchanged():
    one, two = Parts.of([dot(0, 0.5, 0.2)]), Parts.of([dot(0, 0.3, 0.1), dot(0.1, 0.6, 0.1, colour=RED)])
    both = paint(Parts.gathered([one, two], order=[1, 0]), stage(n=2), size=(30, 30))
    assert torch.equal(both[1], paint(one, stage(), size=(30, 30))[0])
    assert torch.equal(both[0], paint(two, stage(), size=(30, 30))[0])


def test_a_figure_twice_as_high_covers_four_times_as_much():
    areas = [
        float(paint(Parts.of([dot(0, 0.5, 0.2)]), stage(height=h), size=(80, 80))[:, 3].sum())
        for h in (0.4, 0.8)
    ]
    assert abs(areas[1] / areas[0] - 4) < 0.05
