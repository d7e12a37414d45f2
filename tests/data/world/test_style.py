"""Styles: what their descriptions say can be measured in the picture."""

import pytest
import torch
from torch import Tensor

from mutoscope.data.world import FULL, Drawn, Scene, draw
from mutoscope.data.world.style import CAST, PASSES, contours, hatching, redraw
from mutoscope.data.world.vocabulary import with_words

SCENE = Scene("man", "walking", "red", "park", "clear", "day", "flat illustration", "left", "following", 5)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawn]:
    return {name: draw([with_words(SCENE, style=name)], frames=2, size=(96, 64)) for name in FULL.style}


def picture(drawn: Drawn, *, of_figure: bool) -> Tensor:
    """The pixels inside or outside the figure, "n 3" in [0, 1]."""
    inside = drawn.figure[0] > 0.95 if of_figure else drawn.figure[0] == 0
    return (drawn.video[0].permute(1, 2, 3, 0) / 2 + 0.5)[inside]


def colourfulness(pixels: Tensor) -> float:
    return float((pixels.amax(-1) - pixels.amin(-1)).mean())


def test_every_style_has_its_pass():
    assert {*PASSES, "flat illustration"} == set(FULL.style) and set(CAST) <= set(FULL.style)


def test_a_pencil_sketch_is_grey_but_for_the_figure(drawn: dict[str, Drawn]):
    around, within = (
        [
            colourfulness(picture(drawn[name], of_figure=where))
            for name in ("pencil sketch", "flat illustration")
        ]
        for where in (False, True)
    )
    assert around[0] < 0.6 * around[1] and within[0] > 0.7 * within[1]


def test_neon_glows_in_the_dark(drawn: dict[str, Drawn]):
    flat, neon = (picture(drawn[name], of_figure=False) for name in ("flat illustration", "neon"))
    assert float(neon.mean()) < 0.6 * float(flat.mean())
    assert float(neon.median()) < 0.25 < float(neon.amax(-1).quantile(0.98))


def test_paper_has_few_tones(drawn: dict[str, Drawn]):
    """A smooth sky falls apart into bands: more jumps."""

    def jumps(name: str) -> float:
        return float((drawn[name].video[0, :, 0, :28].diff(dim=1).abs() > 0.15).float().mean())

    assert jumps("paper cut-out") > 1.3 * jumps("flat illustration")


def test_no_shadow_comes_round_from_the_other_edge(drawn: dict[str, Drawn]):
    """The ground throws none on the top of the sky."""
    flat, paper = (drawn[name].video[0, :, 0] for name in ("flat illustration", "paper cut-out"))
    assert float((paper - flat)[:, :2].abs().mean()) < 0.15


def test_paper_throws_shadows(drawn: dict[str, Drawn]):
    flat, paper = (drawn[name].video[0].mean(0) for name in ("flat illustration", "paper cut-out"))
    assert float((paper < flat - 0.25).float().mean()) > 0.02  # beside edges it is darker
    assert CAST["paper cut-out"] > 0


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_shape_range_and_what_it_was_given(name: str):
    generator = torch.Generator().manual_seed(0)
    given = torch.rand(2, 3, 3, 16, 24, generator=generator)
    figure = torch.rand(2, 3, 1, 16, 24, generator=generator)
    before = given.clone()
    seen = redraw(given, figure, style=name)
    assert seen.shape == given.shape and seen.min() >= 0 and seen.max() <= 1
    assert torch.equal(given, before)
    alone = redraw(given[1:, 2:], figure[1:, 2:], style=name)
    assert torch.allclose(alone[0, 0], seen[1, 2], atol=1e-6)  # frames know nothing of each other


def test_contours_are_where_tones_change():
    half = torch.zeros(1, 3, 8, 8)
    half[..., 4:] = 1.0
    edges = contours(half)
    assert bool((edges[..., 3:5] == 1).all()) and edges[..., :3].max() == edges[..., 5:].max() == 0


def test_strokes_stay_with_the_paper_and_are_slanted():
    strokes = hatching(40, 60, device="cpu")
    assert strokes.shape == (40, 60) and strokes.abs().max() <= 1
    assert float((strokes[10, 6:] - strokes[20, :-6]).abs().mean()) < 0.05  # ten rows down is six to the left
