"""What is known of a film, and where it leads: gradients by finite differences, and Gaussians exactly."""

from dataclasses import dataclass, field
from functools import partial

import pytest
import torch

from mutoscope.diffusion.denoiser import Denoiser, GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.guidance import ClassifierFree
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.reconstruction import Conditioning, Reconstruction, Replacement, frames_of, pooled
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Schedule

MEAN = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0], dtype=torch.float64)
AR1 = 0.9 ** (torch.arange(5)[:, None] - torch.arange(5)).abs().double()
KNOWN = (0, 1)
TIMES = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64).expand(3, 5)
UNEVEN = torch.tensor([[0.3, 0.8, 0.1, 0.5, 0.95]], dtype=torch.float64).expand(3, 5)


def films(seed=0, shape=(3, 1, 5, 2, 2)):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gaussian(schedule: Schedule = STRAIGHT):
    return GaussianDenoiser(MEAN, AR1, schedule=schedule)


def bumpy(schedule: Schedule = STRAIGHT):
    """A smooth denoiser that is no Gaussian's."""

    def network(noisy, t, condition):
        return torch.sin(2 * noisy) + noisy.mean(dim=2, keepdim=True) * noisy.roll(1, dims=-1)

    return NetworkDenoiser(network, schedule, "clean")


@dataclass
class Told:
    """A denoiser that remembers what it was shown."""

    schedule: Schedule = STRAIGHT
    shown: list = field(default_factory=list)

    def __call__(self, noisy, t, condition):
        self.shown.append(noisy.clone())
        return torch.tanh(noisy) + noisy.mean(dim=2, keepdim=True)


def close(one, other, atol=1e-10):
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


# Replacement


def test_replacement_puts_the_known_in_its_place_and_nothing_else():
    seen = films(1)[:, :, :2]
    out = Replacement(Told(), KNOWN, seen)(films(), TIMES, None)
    assert torch.equal(out[:, :, :2], seen)
    assert torch.equal(out[:, :, 2:], Told()(films(), TIMES, None)[:, :, 2:])


def test_replacement_shows_the_known_as_noisy_as_the_rest():
    inner, seen, asked = Told(), films(1)[:, :, 1:3], []

    def fresh(step, purpose):
        asked.append(purpose)
        return films(7)

    Replacement(inner, (1, 2), seen, fresh)(films(), TIMES, None)
    shown = inner.shown[0]
    t = TIMES[:, :1, None, None, None]
    close(shown[:, :, 1:3], (1 - t) * seen + t * films(7)[:, :, 1:3])
    assert torch.equal(shown[:, :, [0, 3, 4]], films()[:, :, [0, 3, 4]])
    Replacement(inner, (1, 2), seen, fresh)(films(), TIMES / 2, None)
    assert len(set(asked)) == 2  # other noise at other times


def test_without_fresh_noise_the_sampler_brings_the_known_frames_along():
    """Stepping to the known frames keeps them exactly at alpha * seen + sigma * their noise."""
    inner, seen, noise = Told(), films(1)[:, :, :2], films()
    made = [*sample(Replacement(inner, KNOWN, seen), noise, plan=full_sequence(5, 5, shift=3.0))]
    for state in made:
        t = state.t[:2, None, None]
        close(state.noisy[:, :, :2], (1 - t) * seen + t * noise[:, :, :2])
    assert torch.equal(made[-1].clean[:, :, :2], seen)


# Reconstruction guidance


def loss(denoiser, noisy, observe, seen, t):
    return (seen - observe(denoiser(noisy, t, None))).square().flatten(1).sum(dim=1)


OBSERVERS = {"frames": frames_of(KNOWN), "pooled": pooled(2), "last": frames_of([-1])}


@pytest.mark.parametrize("observe", OBSERVERS.values(), ids=OBSERVERS)
@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine()])
def test_reconstruction_is_the_gradient_by_autograd(schedule, observe):
    denoiser, noisy = bumpy(schedule), films().requires_grad_()
    seen = observe(films(1))
    (slope,) = torch.autograd.grad(loss(denoiser, noisy, observe, seen, TIMES).sum(), noisy)
    alpha = schedule.alpha(TIMES)[:, None, :, None, None]
    with torch.no_grad():  # as under a sampler
        out = Reconstruction(denoiser, observe, seen, weight=3.0)(films(), TIMES, None)
        close(out, denoiser(films(), TIMES, None) - 3.0 * alpha / 2 * slope)
    assert not out.requires_grad and slope.abs().max() > 1


@pytest.mark.parametrize("observe", OBSERVERS.values(), ids=OBSERVERS)
def test_reconstruction_is_the_gradient_by_finite_differences(observe):
    seen, step = observe(films(1)), 1e-5
    out = Reconstruction(bumpy(), observe, seen, weight=2.0)(films(), TIMES, None)
    moved = out - bumpy()(films(), TIMES, None)
    for place in [(0, 0, 0, 0), (0, 1, 1, 0), (0, 3, 0, 1), (0, 4, 1, 1)]:
        nudge = torch.zeros_like(films())
        nudge[:, *place] = step
        up, down = (loss(bumpy(), films() + sign * nudge, observe, seen, TIMES) for sign in (1, -1))
        close(moved[:, *place], -(1 - TIMES[:, 0]) * (up - down) / (2 * step), atol=1e-7)


def test_weight_zero_is_replacement():
    seen = films(1)[:, :, :2]
    guided = Replacement(Reconstruction(bumpy(), frames_of(KNOWN), seen, weight=0.0), KNOWN, seen)
    close(guided(films(), TIMES, None), Replacement(bumpy(), KNOWN, seen)(films(), TIMES, None), atol=0)


def test_nothing_moves_where_nothing_was_missed_or_all_is_noise():
    guess = bumpy()(films(), TIMES, None)
    out = Reconstruction(bumpy(), frames_of(KNOWN), guess[:, :, :2], weight=5.0)(films(), TIMES, None)
    close(out, guess, atol=1e-14)
    ones = torch.ones(3, 5, dtype=torch.float64)
    moves = []
    for t in (ones, 1 - 1e-6 * ones, 1 - 1e-3 * ones):
        out = Reconstruction(bumpy(), frames_of(KNOWN), films(1)[:, :, :2])(films(), t, None)
        moves.append((out - bumpy()(films(), t, None)).abs().max().item())
    assert moves[0] == 0 and moves[1] == pytest.approx(moves[2] / 1000, rel=0.01)


def test_samples_do_not_hear_of_each_other():
    seen = films(1)[:, :, :2]
    for made in (partial(Reconstruction, weight=2.0), partial(Conditioning, noise=0.1)):
        all_three = made(gaussian(), frames_of(KNOWN), seen)(films(), TIMES, None)
        for one in range(3):
            alone = made(gaussian(), frames_of(KNOWN), seen[one : one + 1])
            close(alone(films()[one : one + 1], TIMES[one : one + 1], None), all_three[one : one + 1])


def test_a_guided_denoiser_can_be_guided_again():
    """The gradient of the outer goes through the gradient of the inner."""
    inner = Reconstruction(bumpy(), frames_of([0]), films(1)[:, :, :1], weight=1.0)
    seen = pooled(2)(films(2))
    out = Reconstruction(inner, pooled(2), seen, weight=2.0)(films(), TIMES, None)
    step, nudge = 1e-5, torch.zeros_like(films())
    nudge[:, 0, 3, 0, 1] = step
    up, down = (loss(inner, films() + sign * nudge, pooled(2), seen, TIMES) for sign in (1, -1))
    moved = (out - inner(films(), TIMES, None))[:, 0, 3, 0, 1]
    close(moved, -(1 - TIMES[:, 0]) * (up - down) / (2 * step), atol=1e-6)
    assert not out.requires_grad


def test_through_classifier_free_guidance_and_a_sampler():
    guided = Reconstruction(ClassifierFree(bumpy(), 2.0), pooled(2), torch.zeros(3, 1, 5, 1, 1))
    with torch.inference_mode():
        made = [*sample(guided, films(), plan=full_sequence(3, 5))][-1].clean
    assert made.isfinite().all()


# Conditioning: the exact forms


def posterior(observed, seen, noisy, t, *, schedule=STRAIGHT, error=0.0):
    """E[clean | noisy, seen] of a film whose pixels and frames are flattened, by one joint Gaussian.

    observed: "k n", what the observer sees of the flattened film, as a matrix.
    """
    n = noisy[0].numel()
    pixels = n // 5
    prior = torch.kron(AR1, torch.eye(pixels, dtype=torch.float64))  # frame-major, then pixel
    mean = MEAN.repeat_interleave(pixels)
    out = []
    for z, y, time in zip(noisy.reshape(len(noisy), -1), seen.reshape(len(seen), -1), t, strict=True):
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        a, s = alpha.repeat_interleave(pixels), sigma.repeat_interleave(pixels)
        look = torch.cat([torch.diag(a), observed])
        errors = torch.diag(torch.cat([s**2, error**2 * torch.ones_like(y)]))
        gain = prior @ look.T @ torch.linalg.inv(look @ prior @ look.T + errors)
        out.append(mean + gain @ (torch.cat([z, y]) - look @ mean))
    return torch.stack(out).reshape(noisy.shape)


def matrix(observe):
    """An observer of films 1 5 2 2 as a matrix."""
    return observe(torch.eye(20, dtype=torch.float64).reshape(20, 1, 5, 2, 2)).reshape(20, -1).T


@pytest.mark.parametrize("t", [TIMES, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("observe", OBSERVERS.values(), ids=OBSERVERS)
@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine(), Cosine(limit=20.0)])
@pytest.mark.parametrize("error", [0.0, 0.3])
def test_conditioning_is_the_exact_posterior_mean(error, schedule, observe, t):
    seen = observe(films(1))
    with torch.no_grad():
        out = Conditioning(gaussian(schedule), observe, seen, noise=error)(films(), t, None)
    expected = posterior(matrix(observe), seen, films(), t, schedule=schedule, error=error)
    close(out, expected, atol=1e-8)
    plain = gaussian(schedule)(films(), t, None)
    assert (plain - expected).abs().max() > 0.1  # the observation said something
    if not error:
        close(observe(out), seen, atol=1e-8)


def test_frames_known_exactly_are_conditioned_on_by_time_zero_alike():
    """Telling the Gaussian denoiser that frames are at t = 0 and conditioning on them are the same."""
    seen, known = films(1)[:, :, :2], TIMES.clone()
    known[:, :2] = 0
    noisy = torch.cat([seen, films()[:, :, 2:]], dim=2)
    out = Conditioning(gaussian(), frames_of(KNOWN), seen)(films(), TIMES, None)
    close(out, gaussian()(noisy, known, None), atol=1e-8)


def test_as_many_iterations_as_there_are_numbers_are_exact():
    """Here: as many as frames are seen, since every pixel has the same covariance. Fewer come near."""
    observe, seen = frames_of([0, 2, 4]), films(1)[:, :, [0, 2, 4]]
    errors = []
    for iterations in (0, 1, 2, 3):
        out = Conditioning(gaussian(), observe, seen, iterations=iterations)(films(), TIMES, None)
        errors.append((observe(out) - seen).square().mean().item())
    assert errors[0] > errors[1] > errors[2] > errors[3] and errors[3] < 1e-20


def test_at_pure_noise_it_looks_just_before():
    seen = films(1)[:, :, :2]
    ones = torch.ones(3, 5, dtype=torch.float64)
    at, before = (
        Conditioning(gaussian(), frames_of(KNOWN), seen)(films(), t, None) for t in (ones, 0.99 * ones)
    )
    assert torch.equal(at, before) and at.isfinite().all()
    mean_given = MEAN[2:] + (seen[..., 0, 0][:, 0] - MEAN[:2]) @ torch.linalg.solve(AR1[:2, :2], AR1[:2, 2:])
    close(at[:, 0, 2:, 0, 0], mean_given, atol=0.1)


def test_sampling_with_it_ends_in_what_was_seen():
    seen = films(1)[:, :, :2]
    exact = Conditioning(gaussian(), frames_of(KNOWN), seen)
    made = [*sample(exact, films(), plan=full_sequence(8, 5))][-1].clean
    close(made[:, :, :2], seen, atol=1e-8)


def test_observers():
    film = films()
    assert torch.equal(frames_of([-1, 0])(film), film[:, :, [4, 0]])
    close(pooled(2)(film)[..., 0, 0], film.mean(dim=(-1, -2)))


def test_all_are_denoisers():
    seen = films(1)[:, :, :2]
    observe = frames_of(KNOWN)
    for made in (
        Replacement(gaussian(Cosine()), KNOWN, seen),
        Reconstruction(gaussian(Cosine()), observe, seen),
        Conditioning(gaussian(Cosine()), observe, seen),
    ):
        assert isinstance(made, Denoiser) and made.schedule == Cosine()
