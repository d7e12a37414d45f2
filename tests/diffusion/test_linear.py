"""The best linear guess of films: exact where they are Gaussian, measured from clips, blind to pictures."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.known import Condition, Conditioned
from mutoscope.diffusion.linear import Linear
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.schedule import Cosine, Level
from mutoscope.video import Refusal

SCHEDULE = Cosine(limit=20.0)


def white(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(n: int, *, frames: int = 4, side: int = 4, seed: int = 0) -> Tensor:
    """Films whose two channels are mixed and of unlike sizes, with still parts and others that change."""
    still, change = white(n, 2, 1, side, side, seed=seed), white(n, 2, frames, side, side, seed=seed + 1)
    mix = torch.tensor([[1.0, 0.4], [0.2, 0.5]], dtype=torch.float64)
    film = torch.einsum("k c, b c f h w -> b k f h w", mix, still + 0.5 * change)
    return film + torch.tensor([0.3, -1.0], dtype=torch.float64).view(1, 2, 1, 1, 1)


def one_number(still: float, change: float, *, mean: float = 0.0) -> Linear:
    """Of films of one channel, pixel by pixel."""
    values = (torch.tensor([x], dtype=torch.float64) for x in (mean, 1.0, still, change))
    mean_, direction, still_, change_ = values
    return Linear(1, mean_, direction.view(1, 1), still_, change_)


def level_of(t: Tensor) -> Level:
    return SCHEDULE.level(t)


def test_it_is_the_exact_denoiser_of_gaussian_films_with_any_time_for_each_frame():
    still, change, mean = 0.7, 0.2, 0.4
    t = torch.tensor([[0.1, 0.5, 0.9, 0.3], [0.0, 0.99, 1.0, 0.6]], dtype=torch.float64)
    noisy = white(2, 1, 4, 2, 2)
    covariance = torch.full((4, 4), still, dtype=torch.float64) + change * torch.eye(4)
    exact = GaussianDenoiser(torch.full((4,), mean, dtype=torch.float64), covariance, SCHEDULE)
    guess = one_number(still, change, mean=mean).guess(noisy, level_of(t))
    torch.testing.assert_close(guess.film, exact(noisy, t, None), rtol=1e-6, atol=1e-6)


def test_what_it_lacks_has_the_deviation_that_it_says():
    linear, t = one_number(0.7, 0.2), torch.tensor([[0.2, 0.5, 0.8]], dtype=torch.float64).expand(20000, -1)
    clean = 0.7**0.5 * white(20000, 1, 1, 1, 1) + 0.2**0.5 * white(20000, 1, 3, 1, 1, seed=1)
    guess = linear.guess(level_of(t).mix(clean, white(20000, 1, 3, 1, 1, seed=2)), level_of(t))
    found = (guess.film - clean).square().mean(dim=0).sqrt().flatten()
    torch.testing.assert_close(found, guess.lacks[0, :, 0], rtol=0.02, atol=0)
    new = guess.new.square().mean(dim=0).flatten()  # of deviation 1, as the network sees it
    torch.testing.assert_close(new, torch.ones_like(new), rtol=0.03, atol=0)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("t", [0.0, 0.01, 0.5, 1.0])
def test_of_films_in_which_nothing_changes_all_is_finite(frames: int, t: float):
    still = 8 * white(400, 1, 1, 1, 1).float().expand(-1, -1, frames, -1, -1)
    level = level_of(torch.full((400, frames), t, dtype=torch.float64))
    guess = one_number(64.0, 1e-6).guess(level.mix(still, white(400, 1, frames, 1, 1, seed=1).float()), level)
    assert guess.film.isfinite().all() and guess.lacks.isfinite().all()
    if t:
        assert float(guess.new.square().mean()) == pytest.approx(1, rel=0.15)
    else:
        torch.testing.assert_close(guess.film, still, rtol=1e-3, atol=1e-3)


def test_what_was_fitted_is_what_films_were_made_of():
    linear = Linear.fitted(made(4000), patch=1)
    turned = linear.directions.double().T @ torch.tensor([[1.0, 0.4], [0.2, 0.5]], dtype=torch.float64)
    ours = turned @ turned.T  # of what stands still; a quarter of it changes
    torch.testing.assert_close(linear.still.double(), ours.diagonal(), rtol=0.03, atol=0.005)
    torch.testing.assert_close(linear.change.double(), ours.diagonal() / 4, rtol=0.03, atol=0.002)
    torch.testing.assert_close(linear.mean, torch.tensor([0.3, -1.0]), rtol=0, atol=0.03)
    assert abs(float(ours[0, 1])) < 0.01


def test_no_other_linear_guess_of_a_patch_and_its_film_is_better():
    films, fresh = made(3000, seed=5), made(3000, seed=9)
    linear, level = Linear.fitted(films, patch=2), level_of(torch.full((3000, 4), 0.5, dtype=torch.float64))
    noisy = level.mix(fresh, white(*fresh.shape, seed=11))
    error = (linear.guess(noisy, level).film - fresh).square().mean()
    # Least squares from every frame of a pixel's both channels, fitted to the very films that are guessed.
    shown = noisy.permute(0, 3, 4, 1, 2).flatten(3).flatten(0, 2)
    shown = torch.cat([shown, torch.ones(len(shown), 1, dtype=torch.float64)], dim=1)
    wanted = fresh.permute(0, 3, 4, 1, 2).flatten(3).flatten(0, 2)
    best = (shown @ torch.linalg.lstsq(shown, wanted).solution - wanted).square().mean()
    assert float(best) <= float(error) < 1.01 * float(best)


def test_at_the_ends_it_is_the_film_and_the_mean():
    linear, film = Linear.fitted(made(200), patch=2), made(2, seed=3)
    start, end = (level_of(torch.full((2, 4), t, dtype=torch.float64)) for t in (0.0, 1.0))
    torch.testing.assert_close(linear.guess(film, start).film, film, rtol=0, atol=1e-4)
    blind = linear.guess(film, end)
    mean = linear.mean.double().view(1, 2, 1, 2, 2).repeat(2, 1, 4, 2, 2)
    torch.testing.assert_close(blind.film, mean, rtol=0, atol=1e-3)
    assert bool((blind.lacks**2 <= (linear.still + linear.change).double() * 1.001).all())


def test_pictures_are_films_of_their_own():
    linear, noisy = Linear.fitted(made(200), patch=2), made(2, frames=5, seed=3).requires_grad_()
    level = level_of(torch.full((2, 5), 0.6, dtype=torch.float64))
    images = torch.tensor([[False, False, False, True, True], [True, False, True, False, True]])
    guess = linear.guess(noisy, level, images=images)
    alone = linear.guess(noisy[:1, :, 3:4], level_of(torch.full((1, 1), 0.6, dtype=torch.float64)))
    torch.testing.assert_close(guess.film[:1, :, 3:4], alone.film)
    clip = linear.guess(noisy[1:, :, 1::2], level_of(torch.full((1, 2), 0.6, dtype=torch.float64)))
    torch.testing.assert_close(guess.film[1:, :, 1::2], clip.film)
    (gradient,) = torch.autograd.grad(guess.film[0, :, 3].sum(), noisy, retain_graph=True)
    assert gradient[0, :, 3].any() and not gradient[0, :, :3].any() and not gradient[0, :, 4].any()
    (gradient,) = torch.autograd.grad(guess.film[0, :, 0].sum(), noisy)
    assert gradient[0, :, 1].any() and not gradient[0, :, 3:].any()


def test_of_pictures_nothing_stands_still():
    linear = Linear.fitted(made(500, frames=1), patch=1)
    assert not linear.still.any() and bool((linear.change > 0.01).all())


def test_films_of_no_whole_patches_are_refused():
    with pytest.raises(Refusal, match="films of 4x4 are no whole patches of 3x3"):
        Linear.fitted(made(2), patch=3)


@pytest.mark.parametrize("kind", ["velocity", "clean", "noise"])
def test_a_network_that_says_nothing_leaves_the_guess_and_one_that_knows_completes_it(kind: str):
    process = Process.model_validate({"prediction": kind})
    linear, clean = Linear.fitted(made(200), patch=2), made(2, seed=3)
    t = torch.tensor([[0.1, 0.4, 0.7, 0.9]], dtype=torch.float64).expand(2, -1)
    level = process.noising().level(t)
    noisy, seen = level.mix(clean, white(*clean.shape, seed=8)), {}
    first = linear.guess(noisy, level)

    def silent(film: Tensor, clock: Tensor, **told: object) -> Tensor:
        seen["film"] = film
        return torch.zeros_like(clean)

    def knowing(film: Tensor, clock: Tensor, **told: object) -> Tensor:
        inverse = replace(first, film=torch.zeros_like(clean), lacks=1 / first.lacks)
        return linear.completed(inverse, clean - film[:, 4:])

    guess = process.denoiser(Conditioned(silent, process, linear))(noisy, t, Condition())
    torch.testing.assert_close(guess, first.film, rtol=1e-6, atol=1e-6)
    assert torch.equal(seen["film"], torch.cat([noisy, first.new, first.film], dim=1))
    told = process.denoiser(Conditioned(knowing, process, linear))(noisy, t, Condition())
    torch.testing.assert_close(told, clean, rtol=1e-4, atol=1e-4)
