"""Figures as characters: where marks go, and what is left out."""

import pytest
import torch

from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure, Heat, palette
from mutoscope.diffusion.drawings.terminal import HIGH, MARGIN, WIDE, text
from mutoscope.diffusion.plan import SHADES

RAMP = torch.linspace(0, 1, 21, dtype=torch.float64)


def canvas(*curves: Curve, **settings) -> list[str]:
    """The lines inside the axes."""
    lines = text(Figure("one", [Curves("two", "x", "y", curves, **settings)])).splitlines()
    return [line[MARGIN + 1 :].ljust(WIDE) for line in lines if line[MARGIN : MARGIN + 1] == "|"]


def test_a_straight_line_is_a_diagonal():
    lines = canvas(Curve("a", RAMP, RAMP))
    assert len(lines) == HIGH and lines[0].endswith("o") and lines[-1].startswith("o")
    heights = [next(row for row in range(HIGH) if lines[row][column] == "o") for column in range(WIDE)]
    assert heights == sorted(heights, reverse=True)


def test_points_may_come_in_any_order():
    backwards = Curve("a", RAMP.flip(0), RAMP.flip(0))
    assert canvas(backwards) == canvas(Curve("a", RAMP, RAMP))


def test_dashes_leave_gaps_and_dots_are_only_the_points():
    dashes = "".join(canvas(Curve("a", RAMP, RAMP, "dashes"))).count("o")
    dots = "".join(canvas(Curve("a", RAMP, RAMP, "dots"))).count("o")
    assert (dashes, dots) == (WIDE // 2, len(RAMP))


def test_a_power_is_a_straight_line_on_two_logarithmic_axes():
    x = torch.logspace(0, 3, 30, dtype=torch.float64)
    assert canvas(Curve("a", x, x**2), log_x=True, log_y=True) == canvas(Curve("a", x.log(), x.log()))


def test_what_is_not_finite_is_left_out():
    y = torch.where(RAMP == 0, torch.inf, RAMP)
    assert "".join(canvas(Curve("a", RAMP, y, "dots"))).count("o") == len(RAMP) - 1


def test_a_constant_has_a_place():
    assert canvas(Curve("a", RAMP, torch.ones_like(RAMP)))[-1].strip() == "o" * WIDE


def test_legend_axes_and_rows_are_said():
    curves = [Curve("one", RAMP, RAMP), Curve("", RAMP, RAMP, colour=0), Curve("two", RAMP, RAMP)]
    drawn = text(Figure("title", [Curves("panel", "time", "level", curves, rows=("low", "high"))]))
    for words in ("title", "panel", "time", "y: level; 0: low; 1: high", "o one   x two"):
        assert words in drawn


def test_colours_go_on_after_those_that_were_chosen():
    flat = [Curve(str(n), RAMP, RAMP, colour=colour) for n, colour in enumerate((None, None, 5, None))]
    assert palette(flat) == [0, 1, 5, 6]


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_table_runs_through_all_shades(low):
    values = torch.linspace(low, 1, len(SHADES), dtype=torch.float64)[None]
    lines = text(Figure("one", [Heat("two", "x", "y", values, low)])).splitlines()
    wide = WIDE // 2 // len(SHADES)
    assert lines[3].strip() == f"|{''.join(shade * wide for shade in SHADES)}|"
    assert f"{low:.3g} is blank" in lines[4]


def test_a_large_table_is_sampled():
    lines = text(Figure("one", [Heat("two", "x", "y", torch.ones(300, 300))])).splitlines()
    assert max(map(len, lines[3:-1])) == WIDE + MARGIN + 2 and len(lines) < 50
