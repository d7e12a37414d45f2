"""The schedule laws: what the ends are, and what a shift does."""

import math

import pytest
import torch

from mutoscope.diffusion.schedule import (
    Cosine,
    Edm,
    RectifiedFlow,
    Sigmoid,
    SnrShifted,
    precise,
    shift,
    size_shift,
    spread,
)
from mutoscope.video import Refusal

T = torch.linspace(0, 1, 101, dtype=torch.float64)
INSIDE = T[1:-1]
KEEPS = [Cosine(), Sigmoid(), Sigmoid(start=0.0, end=3.0, tau=0.7), SnrShifted(Cosine(), -2 * math.log(4))]
FULL = [RectifiedFlow(), *KEEPS]


@pytest.mark.parametrize("schedule", [*FULL, Cosine(limit=20.0), Edm(), Edm(sigma_min=0.0)])
def test_log_snr_falls_and_is_the_ratio(schedule):
    assert (schedule.log_snr(INSIDE).diff() < 0).all()
    ratio = 2 * torch.log(schedule.alpha(INSIDE) / schedule.sigma(INSIDE))
    torch.testing.assert_close(schedule.log_snr(INSIDE), ratio, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("schedule", FULL)
def test_the_ends_are_exactly_clean_and_exactly_noise(schedule):
    assert schedule.alpha(T)[-1] == 0 and schedule.sigma(T)[0] == 0
    assert schedule.alpha(T)[0] == 1 and schedule.sigma(T)[-1] == 1
    assert schedule.log_snr(T)[0] == math.inf and schedule.log_snr(T)[-1] == -math.inf


@pytest.mark.parametrize("schedule", [*KEEPS, Cosine(limit=20.0), Cosine(limit=5.0)])
def test_the_variance_is_kept(schedule):
    torch.testing.assert_close(
        schedule.alpha(T) ** 2 + schedule.sigma(T) ** 2, torch.ones_like(T), atol=1e-14, rtol=0
    )


def test_cosine_hits_its_limits():
    ends = Cosine(limit=20.0).log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([20.0, -20.0], dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(Cosine().alpha(INSIDE), torch.cos(math.pi / 2 * INSIDE))
    with pytest.raises(Refusal, match="limit is -1"):
        Cosine(limit=-1.0)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 0.9), (0.0, 3.0, 0.3), (-3.0, 1.0, 1.1)])
def test_sigmoid_is_the_published_one(start, end, tau):
    """2212.11972, Algorithm 1, written out as there; it loses digits near the ends, ours does not."""
    low, high = (1 / (1 + math.exp(-x / tau)) for x in (start, end))
    gamma = (high - torch.sigmoid((T * (end - start) + start) / tau)) / (high - low)
    torch.testing.assert_close(Sigmoid(start, end, tau).alpha(T) ** 2, gamma, atol=1e-14, rtol=0)


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow(), Sigmoid(), Edm()])
@pytest.mark.parametrize("by", [-3.0, 0.0, 1.5])
def test_a_shifted_snr_is_shifted_everywhere(schedule, by):
    gained = SnrShifted(schedule, by).log_snr(INSIDE) - schedule.log_snr(INSIDE)
    torch.testing.assert_close(gained, torch.full_like(INSIDE, by), atol=1e-11, rtol=0)


def test_shifted_cosine_is_the_published_one():
    """2301.11093, section 2.2: logSNR = -2 log tan(pi t / 2) + 2 log(64 / d)."""
    published = -2 * torch.log(torch.tan(math.pi * INSIDE / 2)) + 2 * math.log(64 / 256)
    ours = SnrShifted(Cosine(), 2 * math.log(64 / 256)).log_snr(INSIDE)
    torch.testing.assert_close(ours, published, atol=1e-10, rtol=0)


def test_edm_walks_the_published_sigmas():
    """2206.00364, eq. 5, 18 steps; the film itself is never scaled down."""
    n = torch.arange(18, dtype=torch.float64)
    published = (80 ** (1 / 7) + n / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(Edm().sigma(1 - n / 17), published, atol=0, rtol=1e-12)
    assert (Edm().alpha(T) == 1).all()
    assert Edm(sigma_min=0.0).sigma(T)[0] == 0 and Edm(sigma_min=0.0).log_snr(T)[0] == math.inf
    with pytest.raises(Refusal, match=r"sigma from 3\.0 to 2\.0"):
        Edm(sigma_min=3.0, sigma_max=2.0)


@pytest.mark.oracle
def test_edm_is_diffusers():
    """diffusers keeps its sigmas in float32."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    theirs.set_timesteps(30)
    ours = Edm().sigma(torch.linspace(1, 0, 30, dtype=torch.float64))
    torch.testing.assert_close(ours, theirs.sigmas[:-1].double(), atol=0, rtol=3e-6)


@pytest.mark.parametrize("schedule", [*FULL, Cosine(limit=20.0), Edm(), Edm(sigma_min=0.0)])
def test_the_time_of_a_log_snr_is_found(schedule):
    torch.testing.assert_close(schedule.time(schedule.log_snr(T)), T, atol=1e-14, rtol=0)
    beyond = schedule.time(torch.tensor([math.inf, -math.inf, 1e3, -1e3], dtype=torch.float64))
    torch.testing.assert_close(beyond, torch.tensor([0.0, 1.0, 0.0, 1.0]).double(), atol=1e-15, rtol=0)


@pytest.mark.parametrize("a", [0.3, 1.0, 3.0, 3.3, 17.0])
def test_shift_fixes_the_ends_and_moves_log_snr(a):
    moved = shift(T, a)
    assert moved[0] == 0 and moved[-1] == 1 and (moved.diff() > 0).all()
    gained = RectifiedFlow().log_snr(shift(INSIDE, a)) - RectifiedFlow().log_snr(INSIDE)
    torch.testing.assert_close(gained, torch.full_like(INSIDE, -2 * math.log(a)), atol=1e-12, rtol=0)
    torch.testing.assert_close(moved, a * T / (1 + (a - 1) * T), atol=1e-15, rtol=1e-14)


def test_shifts_compose():
    torch.testing.assert_close(shift(shift(T, 3.0), 2.5), shift(T, 7.5), atol=1e-14, rtol=0)
    torch.testing.assert_close(shift(T, 1.0), T, atol=0, rtol=0)
    with pytest.raises(Refusal, match="shift is 0"):
        shift(T, 0.0)


def test_size_shift_makes_a_constant_film_as_hard_to_guess():
    small, large = (1, 8, 8), (4, 16, 12)
    moved = shift(INSIDE, size_shift(large, small))

    def spread_of_estimate(t, size):
        return t / (1 - t) / math.sqrt(math.prod(size))

    torch.testing.assert_close(spread_of_estimate(moved, large), spread_of_estimate(INSIDE, small))
    assert size_shift((5, 9, 16), (5, 9, 16)) == 1
    with pytest.raises(Refusal, match="at least 1"):
        size_shift((0, 8, 8), small)


def test_spread_lays_frames_and_never_goes_below_float32():
    film = torch.zeros(2, 3, 4, 1, 1, dtype=torch.bfloat16)
    values = torch.rand(2, 4, dtype=torch.float64)
    laid = spread(values, film)
    assert laid.shape == (2, 1, 4, 1, 1) and laid.dtype == torch.float32
    assert torch.equal(laid.squeeze(), values.float())
    assert spread(values, film.double()).dtype == torch.float64
    assert precise(film).dtype == torch.float32 and precise(film.double()).dtype == torch.float64


def test_mix_is_exact_at_the_ends():
    clean, noise = torch.randn(2, 1, 3, 2, 2, 2)
    mixed = Cosine().level(torch.tensor([[0.0, 1.0]], dtype=torch.float64)).mix(clean, noise)
    assert torch.equal(mixed[:, :, 0], clean[:, :, 0])
    assert torch.equal(mixed[:, :, 1], noise[:, :, 1])
