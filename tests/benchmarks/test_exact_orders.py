"""E8 and E9: the orders of the solvers at the fine end, and the moments of a mixture."""

import math

import pytest
import torch
from benchmarks.exact import mixture, orders

from mutoscope.diffusion.multistep import Multistep2, Multistep2Sde
from mutoscope.diffusion.sampler import Euler, Heun
from mutoscope.diffusion.schedule import STRAIGHT, Edm
from mutoscope.diffusion.stochastic import Ddim


@pytest.mark.parametrize(
    ("sampler", "expected"), [(Euler(), 1), (Ddim(0.0), 1), (Heun(), 2), (Multistep2(), 2)], ids=str
)
def test_orders_at_the_fine_end(sampler, expected):
    assert orders.order(sampler, 128) == pytest.approx(expected, abs=0.05)


def test_euler_is_ddim_and_2m_sde_without_noise_is_2m():
    assert orders.error(Euler(), 16) == orders.error(Ddim(0.0), 16)
    assert orders.error(Multistep2(), 16) == orders.error(Multistep2Sde(0.0), 16)
    assert orders.error(Heun(), 64) < orders.error(Euler(), 64) / 10


def test_ddim_shrinks_a_unit_gaussian_by_the_closed_form():
    for steps in (1, 4, 10):
        assert orders.factor(steps) == pytest.approx(math.cos(math.pi / 2 / steps) ** steps, abs=1e-12)


def test_the_mixtures_quantiles_have_its_moments():
    known = mixture.Moments.of(mixture.MIXTURE.quantiles(4001, sigma=0.0))
    assert known.mean == pytest.approx(0.8, abs=2e-3)
    assert known.var == pytest.approx(0.3 * 4.25 + 0.7 * 4.0625 - 0.64, abs=5e-3)
    assert known.left == pytest.approx(0.3, abs=5e-4)


def gauss(residue, std):
    return torch.exp(-0.5 * (residue / std) ** 2) / std


@pytest.mark.parametrize("schedule", [STRAIGHT, Edm()])
def test_the_denoiser_is_the_score_of_the_mixture(schedule):
    """Tweedie: alpha clean = noisy + sigma^2 d/dnoisy log p, the density differentiated by torch."""
    t = torch.tensor([[0.4]], dtype=torch.float64)
    alpha, sigma = schedule.alpha(t).item(), schedule.sigma(t).item()
    noisy = torch.linspace(-3, 3, 13, dtype=torch.float64).reshape(-1, 1, 1, 1, 1).requires_grad_()
    parts = zip(mixture.MIXTURE.shares, mixture.MIXTURE.means, mixture.MIXTURE.stds, strict=True)
    density = sum(
        share * gauss(noisy - alpha * mean, math.hypot(alpha * std, sigma)) for share, mean, std in parts
    )
    (score,) = torch.autograd.grad(density.log().sum(), noisy)
    guess = mixture.MixtureDenoiser(schedule=schedule)(noisy, t.expand(13, 1), None)
    torch.testing.assert_close(alpha * guess, noisy + sigma**2 * score, atol=1e-10, rtol=1e-10)


def test_heun_makes_the_mixture_if_it_starts_from_it():
    right = mixture.moments(32, from_mixture=True, points=2001)
    usual = mixture.moments(32, from_mixture=False, points=2001)
    assert right.left == pytest.approx(0.3, abs=2e-3) and right.mean == pytest.approx(0.8, abs=0.01)
    assert usual.left > right.left + 2e-3
    assert (usual.mean, usual.var) == pytest.approx((0.781, 3.537), abs=0.02)
