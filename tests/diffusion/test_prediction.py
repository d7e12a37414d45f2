"""Every prediction says the same, or is refused."""

from itertools import permutations

import pytest
import torch

from mutoscope.diffusion.betas import scaled_linear_betas, zero_terminal
from mutoscope.diffusion.prediction import convert, target, to_clean, to_noise
from mutoscope.diffusion.schedule import Cosine, Edm, RectifiedFlow, Sigmoid
from mutoscope.video import Refusal

KINDS = ["clean", "noise", "flow", "velocity", "score"]
# The straight line, three that keep the variance, one that explodes, a table that ends in pure noise.
SCHEDULES = [
    RectifiedFlow(),
    Cosine(),
    Cosine(limit=20.0),
    Sigmoid(),
    Edm(sigma_min=0.05, sigma_max=5.0),  # at 0.002 the score would take six digits with it
    zero_terminal(scaled_linear_betas()),
]
T = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.7, 0.2]], dtype=torch.float64)


@pytest.fixture
def films():
    return torch.randn(2, 2, 2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_gives_back_what_it_was_made_of(films, kind, schedule):
    clean, noise = films
    level = schedule.level(T)
    value = target(kind, clean=clean, noise=noise, level=level)
    noisy = level.mix(clean, noise)
    torch.testing.assert_close(to_clean(kind, value, noisy=noisy, level=level), clean, atol=1e-12, rtol=0)
    torch.testing.assert_close(to_noise(kind, value, noisy=noisy, level=level), noise, atol=1e-12, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("source", "to"), permutations(KINDS, 2))
def test_conversions_are_mutually_inverse(films, source, to, schedule):
    value, noisy = films
    level = schedule.level(T)
    there = convert(value, noisy, source=source, to=to, level=level)
    back = convert(there, noisy, source=to, to=source, level=level)
    torch.testing.assert_close(back, value, atol=1e-12, rtol=1e-12)


def test_targets_are_the_textbook_ones(films):
    clean, noise = films
    level = Cosine().level(T)
    alpha, sigma = (x[:, None, :, None, None] for x in (level.alpha, level.sigma))
    torch.testing.assert_close(target("flow", clean=clean, noise=noise, level=level), noise - clean)
    velocity = target("velocity", clean=clean, noise=noise, level=level)
    torch.testing.assert_close(velocity, alpha * noise - sigma * clean)


def test_at_pure_noise_velocity_is_minus_clean_and_noise_is_refused(films):
    clean, noise = films
    level = Cosine().level(torch.tensor([[0.5, 1.0, 0.5]], dtype=torch.float64))
    velocity = target("velocity", clean=clean, noise=noise, level=level)
    assert torch.equal(velocity[:, :, 1], -clean[:, :, 1])
    assert torch.equal(to_clean("velocity", velocity, noisy=noise, level=level)[:, :, 1], clean[:, :, 1])
    with pytest.raises(Refusal, match="noise prediction says nothing at alpha = 0"):
        to_clean("noise", noise, noisy=noise, level=level)
    assert to_noise("noise", noise, noisy=noise, level=level) is noise


def test_a_table_that_ends_in_pure_noise_is_no_different(films):
    """I2: at alpha_bar = 0 the velocity is minus the clean film, and noise is refused, not NaN."""
    clean, noise = films
    level = zero_terminal(scaled_linear_betas()).level(torch.ones(1, 3, dtype=torch.float64))
    assert torch.equal(target("velocity", clean=clean, noise=noise, level=level), -clean)
    for kind in ("noise", "score"):
        with pytest.raises(Refusal, match="alpha = 0"):
            to_clean(kind, noise, noisy=noise, level=level)


def test_the_score_is_the_gradient_of_the_log_density(films):
    clean, noise = films
    level = Cosine().level(T)
    noisy = level.mix(clean, noise).requires_grad_()
    alpha, sigma = (x[:, None, :, None, None] for x in (level.alpha, level.sigma))
    (-((noisy - alpha * clean) ** 2) / (2 * sigma**2)).sum().backward()
    score = target("score", clean=clean, noise=noise, level=level)
    torch.testing.assert_close(score, noisy.grad, atol=1e-12, rtol=1e-12)


def test_where_nothing_is_noise_the_score_is_infinite_and_the_film_is_known(films):
    clean, score = films
    level = RectifiedFlow().level(torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64))
    for call in (
        lambda: target("score", clean=clean, noise=score, level=level),
        lambda: to_noise("score", score, noisy=clean, level=level),
        lambda: convert(clean, clean, source="flow", to="score", level=level),
    ):
        with pytest.raises(Refusal, match="score at sigma = 0"):
            call()
    assert torch.equal(to_clean("score", score, noisy=clean, level=level)[:, :, 1], clean[:, :, 1])


def test_at_pure_noise_the_score_still_tells_the_noise(films):
    clean, noise = films
    level = Cosine().level(torch.ones(1, 3, dtype=torch.float64))
    score = target("score", clean=clean, noise=noise, level=level)
    assert torch.equal(to_noise("score", score, noisy=noise, level=level), noise)


def test_other_words_are_refused(films):
    with pytest.raises(
        Refusal, match="prediction 'epsilon': it must be one of clean, noise, flow, velocity, score"
    ):
        target("epsilon", clean=films[0], noise=films[1], level=Cosine().level(T))  # pyright: ignore


def test_where_nothing_is_noise_clean_does_not_tell_the_noise(films):
    clean, noisy = films
    level = RectifiedFlow().level(torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64))
    assert convert(clean, noisy, source="clean", to="clean", level=level) is clean
    with pytest.raises(Refusal, match="clean prediction says nothing at sigma = 0"):
        convert(clean, noisy, source="clean", to="velocity", level=level)
    assert torch.isfinite(convert(clean, noisy, source="flow", to="noise", level=level)).all()
