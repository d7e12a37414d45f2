"""Whatever a network predicts, in whatever precision, comes out as the clean film."""

import pytest
import torch

from mutoscope.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser, Preconditioning
from mutoscope.diffusion.prediction import target
from mutoscope.diffusion.schedule import Cosine, Edm, RectifiedFlow
from mutoscope.video import Refusal

T = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.7, 0.2]], dtype=torch.float64)


@pytest.fixture
def films():
    return torch.randn(2, 2, 2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Cosine()])
@pytest.mark.parametrize("kind", ["clean", "noise", "flow", "velocity"])
def test_a_perfect_network_of_any_kind_returns_the_clean_film(films, kind, schedule):
    clean, noise = films
    level = schedule.level(T)

    def network(noisy, t, condition):
        assert torch.equal(t, T) and condition == "rain"
        return target(kind, clean=clean, noise=noise, level=level)

    denoiser = NetworkDenoiser(network, schedule=schedule, prediction=kind)
    torch.testing.assert_close(denoiser(level.mix(clean, noise), T, "rain"), clean, atol=1e-12, rtol=0)


def test_only_the_network_sees_its_dtype(films):
    noisy = films[0].float()
    seen = {}

    def network(noisy, t, condition):
        seen.update(noisy=noisy.dtype, t=t.dtype)
        return 0.5 * noisy

    clean = NetworkDenoiser(network, dtype=torch.bfloat16)(noisy, T, None)
    assert seen == {"noisy": torch.bfloat16, "t": torch.float32} and clean.dtype == torch.float32
    by_hand = noisy - T.float()[:, None, :, None, None] * (0.5 * noisy.bfloat16()).float()
    torch.testing.assert_close(clean, by_hand, atol=1e-6, rtol=0)
    assert NetworkDenoiser(network)(noisy.bfloat16(), T, None).dtype == torch.float32


def test_a_noise_prediction_needs_something_clean(films):
    ones = torch.ones_like(T)
    with pytest.raises(Refusal, match="alpha = 0"):
        NetworkDenoiser(lambda x, t, c: x, Cosine(), "noise")(films[0], ones, None)
    clean = NetworkDenoiser(lambda x, t, c: x, Cosine(limit=20.0), "noise")(films[0], ones, None)
    assert torch.isfinite(clean).all()


def test_the_gaussian_denoiser_is_the_posterior_mean():
    """Against the textbook: condition the joint Gaussian of (clean, noisy) on noisy."""
    mean = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    root = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    covariance = root @ root.T
    noisy = torch.randn(1, 1, 3, 1, 1, dtype=torch.float64)
    t = T[:1]
    a, s = torch.diag(1 - t[0]), torch.diag(t[0])
    expected = mean + covariance @ a @ torch.linalg.inv(a @ covariance @ a + s @ s) @ (
        noisy.flatten() - a @ mean
    )
    guess = GaussianDenoiser(mean, covariance)(noisy, t, None)
    torch.testing.assert_close(guess.flatten(), expected, atol=1e-12, rtol=0)


def test_the_gaussian_denoiser_at_the_ends(films):
    noisy = films[0]
    mean = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    correlated = 0.9 ** (torch.arange(3)[:, None] - torch.arange(3)).abs().double()
    denoiser = GaussianDenoiser(mean, correlated, schedule=Cosine())
    assert torch.equal(denoiser(noisy, torch.ones_like(T), None), mean[:, None, None].expand_as(noisy))
    torch.testing.assert_close(denoiser(noisy, torch.zeros_like(T), None), noisy, atol=1e-12, rtol=0)
    point = GaussianDenoiser(mean, torch.zeros(3, 3))
    assert torch.equal(point(noisy, torch.zeros_like(T), None), mean[:, None, None].expand_as(noisy))


def test_a_known_frame_tells_about_its_neighbour():
    """AR(1): with frame 0 known and frame 1 unseen, the guess of frame 1 is rho times frame 0."""
    denoiser = GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    noisy = torch.tensor([2.0, -5.0], dtype=torch.float64).reshape(1, 1, 2, 1, 1)
    guess = denoiser(noisy, torch.tensor([[0.0, 1.0]], dtype=torch.float64), None)
    torch.testing.assert_close(
        guess.flatten(), torch.tensor([2.0, 1.8], dtype=torch.float64), atol=1e-6, rtol=0
    )


LEVELS = [Edm(), RectifiedFlow(), Cosine()]
INSIDE = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)[None]
each_level = pytest.mark.parametrize("schedule", LEVELS, ids=lambda schedule: type(schedule).__name__)


def test_preconditioning_is_edms():
    """2206.00364, Table 1, where alpha is 1."""
    level = Edm().level(INSIDE)
    ours, sigma, std = Preconditioning(level, std=0.5), level.sigma, 0.5
    total = sigma**2 + std**2
    for got, published in (
        (ours.skip, std**2 / total),
        (ours.out, sigma * std / total.sqrt()),
        (ours.into, 1 / total.sqrt()),
        (ours.about, sigma.log() / 4),
    ):
        torch.testing.assert_close(got, published, atol=0, rtol=1e-12)


@each_level
def test_preconditioned_inputs_and_targets_have_variance_1(schedule):
    """I5, for independent clean films of variance std^2 and noise: by their shares, exactly."""
    level, std = schedule.level(INSIDE), 0.7
    pre = Preconditioning(level, std=std)
    into = (pre.into * level.alpha * std) ** 2 + (pre.into * level.sigma) ** 2
    goal = ((1 - pre.skip * level.alpha) * std / pre.out) ** 2 + (pre.skip * level.sigma / pre.out) ** 2
    torch.testing.assert_close(into, torch.ones_like(into), atol=1e-12, rtol=0)
    torch.testing.assert_close(goal, torch.ones_like(goal), atol=1e-9, rtol=0)


@each_level
def test_a_perfect_preconditioned_network_gives_back_the_clean_film(films, schedule):
    clean, noise = films
    level = schedule.level(T)
    pre, noisy = Preconditioning(level), level.mix(clean, noise)
    said = pre.target(clean, noisy)
    skip, out = (x[:, None, :, None, None] for x in (pre.skip, pre.out))
    torch.testing.assert_close(skip * noisy + out * said, clean, atol=1e-12, rtol=0)


def test_preconditioning_for_films_of_deviation_1_is_minus_velocity(films):
    """Which is how Stable Video Diffusion's scaling and v-prediction are one (2311.15127)."""
    clean, noise = films
    level = Cosine().level(T)
    said = Preconditioning(level, std=1.0).target(clean, level.mix(clean, noise))
    velocity = target("velocity", clean=clean, noise=noise, level=level)
    torch.testing.assert_close(said, -velocity, atol=1e-12, rtol=1e-12)


@pytest.mark.oracle
def test_preconditioning_is_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.EDMEulerScheduler(sigma_data=0.5)
    level = Edm().level(INSIDE)
    ours = Preconditioning(level, std=0.5)
    for column, sigma in enumerate(level.sigma[0]):
        torch.testing.assert_close(
            theirs.precondition_inputs(torch.ones(1).double(), sigma)[0], ours.into[0, column]
        )
        torch.testing.assert_close(theirs.precondition_noise(sigma), ours.about[0, column])
        noisy, said = torch.tensor([0.3, -2.0]).double()
        got = theirs.precondition_outputs(noisy, said, sigma)
        torch.testing.assert_close(got, ours.skip[0, column] * noisy + ours.out[0, column] * said)
