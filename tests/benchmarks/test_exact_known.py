"""The exact experiments on known frames, windows and guidance, small, and the laws behind them."""

import pytest
import torch
from benchmarks.exact import guidance, hierarchy, known_frames

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.drawings.gaussian import ar1
from mutoscope.diffusion.reconstruction import Conditioning, frames_of

STEP = {"t": torch.tensor(0.4).double(), "s": torch.tensor(0.35).double()}


def continued(make, steps=16):
    film = ar1(0.97, known_frames.FRAMES)
    return known_frames.judged(known_frames.made(make, film, steps=steps), film)


def test_better_knowledge_of_the_known_frames_comes_nearer():
    """Replacement, reconstruction, and the exact conditional, at 16 steps of 256."""
    replaced, moved, known = map(
        continued, (known_frames.reconstruction(0), known_frames.reconstruction(2), known_frames.exact)
    )
    assert replaced.distance > 3 * moved.distance > 20 * known.distance
    assert replaced.jump > 3 and moved.jump < 1.5 and 0.6 < known.jump < 1


def test_weight_zero_of_reconstruction_is_replacement_alone():
    film = ar1(0.9, known_frames.FRAMES)
    denoiser = known_frames.Steady(torch.zeros(16), film, schedule=known_frames.SCHEDULE)
    plain, nearly = (
        known_frames.step(known_frames.reconstruction(weight), denoiser, **STEP) for weight in (0, 1e-12)
    )
    torch.testing.assert_close(plain, nearly, atol=1e-10, rtol=0)


def test_the_matrix_of_a_step_is_the_step():
    """Checked against the posterior q(z_s | z_t, clean) of the film that exact conditioning guesses."""
    film = ar1(0.9, known_frames.FRAMES)
    noisy, seen = torch.linspace(-1, 1, 16).double(), torch.linspace(2, 1, 4).double()
    plain = GaussianDenoiser(torch.zeros(16), film, schedule=known_frames.SCHEDULE)
    exact = Conditioning(plain, frames_of(range(4)), seen.reshape(1, 1, 4, 1, 1))
    clean = exact(noisy.reshape(1, 1, 16, 1, 1), STEP["t"].expand(1, 16), None).flatten()
    schedule = known_frames.SCHEDULE
    a, b = schedule.alpha(STEP["t"]), schedule.alpha(STEP["s"])
    p, q = schedule.sigma(STEP["t"]), schedule.sigma(STEP["s"])
    rest = (a * q / (b * p)) ** 2
    matrix = known_frames.step(known_frames.exact, plain, **STEP)
    said = matrix[:, :20] @ torch.cat([seen, noisy])
    torch.testing.assert_close(said, rest * b / a * noisy + (1 - rest) * b * clean, atol=1e-8, rtol=0)
    added = (1 - rest).sqrt() * q * torch.eye(16).double()
    torch.testing.assert_close(matrix[:, 24:], added, atol=1e-12, rtol=0)


def test_a_perfect_film_is_judged_perfect():
    film = ar1(0.97, known_frames.FRAMES)
    joint = torch.cat([film[:4], film])
    judged = known_frames.judged(torch.cat([joint[:, :4], joint], dim=1), film)
    assert judged.distance == pytest.approx(0, abs=1e-7) and judged.jump == pytest.approx(1)


@pytest.mark.parametrize("windows", [hierarchy.hierarchy(), *map(hierarchy.autoregressive, (1, 2, 4, 6))])
def test_windows_make_every_frame_once_and_see_only_what_is_there(windows):
    made = []
    for window in windows:
        assert len(window.held) + len(window.made) <= hierarchy.WINDOW
        assert set(window.held) <= set(made)
        made += window.made
    assert sorted(made) == list(range(hierarchy.FRAMES))


def test_a_film_without_memory_beyond_the_context_is_made_exactly():
    """AR(1) is Markov: one frame of context is all there is to know, in any order of windows."""
    film = ar1(0.9, hierarchy.FRAMES)
    for windows in (hierarchy.autoregressive(1), hierarchy.hierarchy()):
        torch.testing.assert_close(hierarchy.made_by(windows, film), film, atol=1e-10, rtol=0)


def test_hierarchy_keeps_what_autoregression_forgets():
    rows = {row.quantity: row for row in hierarchy.rows()}
    assert all(row.measured == pytest.approx(row.stated, rel=0.05) for row in rows.values())


@pytest.mark.parametrize("band", [None, guidance.BAND])
def test_guidance_meets_its_closed_form(band):
    times = (0.0, 1.0) if band is None else guidance.band_of(guidance.STRAIGHT, lo=0.3, hi=3.0)
    guided = guidance.ClassifierFree(guidance.Normal(), 3.0, band=times)
    assert guidance.deviation(guided, steps=120) == pytest.approx(guidance.closed_form(3.0, band), rel=0.02)


def test_closed_forms_at_their_ends():
    assert guidance.closed_form(1.0) == guidance.closed_form(1.0, guidance.BAND) == guidance.ASKED
    assert guidance.closed_form(0.0) == guidance.ANYTHING
    assert guidance.closed_form(4.0, (1e-9, 1e9)) == pytest.approx(guidance.closed_form(4.0))
    assert guidance.closed_form(4.0, (1.0, 1.0)) == pytest.approx(guidance.ASKED)
