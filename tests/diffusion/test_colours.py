"""Opponent colours: a way there, a way back, and what films look like there."""

import torch

from mutoscope.data.loader import WorldSource
from mutoscope.data.world import VOCABULARIES
from mutoscope.diffusion.colours import opponent, rgb
from mutoscope.diffusion.process import Process


def test_the_way_back():
    film = torch.rand(2, 3, 4, 5, 6, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(rgb(opponent(film)), film, rtol=0, atol=1e-12)
    assert not torch.allclose(opponent(film), film, atol=0.1)


def test_grey_is_brightness_alone_and_colours_stand_against_each_other():
    def of(*colour: float) -> list[float]:
        return opponent(torch.tensor(colour, dtype=torch.float32).reshape(3, 1, 1, 1)).flatten().tolist()

    grey, red, green, blue = of(0.5, 0.5, 0.5), of(1, -1, -1), of(-1, 1, -1), of(-1, -1, 1)
    assert grey[0] > 0.5 and max(map(abs, grey[1:])) < 1e-6
    assert red[1] > 0 > blue[1] and abs(green[1]) < 1e-6
    assert green[2] < 0 < min(red[2], blue[2])


def test_those_of_the_made_world_have_variance_1_and_nothing_in_common():
    source = WorldSource(VOCABULARIES["small"], frames=2, size=(48, 32), fps=2.0, seed=3)
    pixels = opponent(source.batch(0, 128).video).movedim(1, 0).flatten(1)
    assert ((pixels.std(dim=1) - 1).abs() < 0.2).all()
    assert (torch.corrcoef(pixels) - torch.eye(3)).abs().max() < 0.15


def test_a_process_says_which_colours():
    film = torch.rand(1, 3, 2, 4, 4) * 2 - 1
    plain, other = Process(), Process(colours="opponent")
    assert torch.equal(plain.coded(film), film) and torch.equal(plain.decoded(film), film)
    assert torch.equal(other.coded(film), opponent(film))
    torch.testing.assert_close(other.decoded(other.coded(film)), film, rtol=0, atol=1e-5)
