"""Noise on the way: how much, when not, and that it is what other derivations and programs add."""

import math
from itertools import pairwise

import pytest
import torch

from mutoscope.diffusion.betas import Betas, linear_betas
from mutoscope.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import Plan, autoregressive, full_sequence, pyramid
from mutoscope.diffusion.prior import Fresh, Mixed
from mutoscope.diffusion.sampler import Euler, Heun, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Edm
from mutoscope.diffusion.stochastic import Ancestral, Ddim, HeunChurn, Lcm
from mutoscope.video import Refusal
from walks import resting_frames_stay

SHAPE = (2, 4, 3, 3)
SAMPLERS = [
    Ddim(0.5),
    Ddim(1.0),
    Lcm(),
    Ancestral(),
    Ancestral(gamma=1.0),
    Ancestral(gamma=0.3, corrector=0.1),
    HeunChurn(0.2),
]
RIGHT = [s for s in SAMPLERS if not (isinstance(s, Ancestral) and s.gamma)]  # gamma adds more than belongs
MEAN = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
AR1 = 0.9 ** (torch.arange(4)[:, None] - torch.arange(4)).abs().double()
UNEVEN = Plan(
    torch.tensor([[1, 1, 0.6, 0.9], [0.7, 1, 0.6, 0.4], [0.7, 0.5, 0.3, 0], [0.2, 0, 0, 0], [0] * 4])
)
PLANS = {
    "full": full_sequence(5, 4, shift=3.0),
    "pyramid": pyramid(5, 4, shift=3.0),
    "autoregressive": autoregressive(5, 4, shift=3.0),
    "uneven": UNEVEN,
}


def noise(seeds=(0, 1)):
    return draw(seeds, SHAPE, dtype=torch.float64)


def bumpy(schedule=STRAIGHT):
    def network(noisy, t, condition):
        return torch.sin(2 * noisy) + t[:, None, :, None, None] + 0.1 * noisy.mean(dim=2, keepdim=True)

    return NetworkDenoiser(network, schedule, "clean")


def states(denoiser, start, **settings):
    settings.setdefault("fresh", Fresh(range(5, 5 + len(start)), tuple(start.shape[1:]), dtype=start.dtype))
    return list(sample(denoiser, start, **settings))


def result(*args, **settings):
    return states(*args, **settings)[-1].clean


def spreads(denoiser, *, plan, sampler, start=None):
    """Exactly: the covariance over frames after every step, by sending every unit of every noise through
    the (linear) sampler. `start` is the covariance of the first row's films, white if None."""
    asked, frames = [], plan.frames

    def count(step, purpose):
        asked.append((step, purpose))
        return torch.zeros(1, 1, frames, 1, 1, dtype=torch.float64)

    list(sample(denoiser, count(0, "start"), plan=plan, sampler=sampler, fresh=count))

    def unit(step, purpose):
        films = torch.zeros(len(asked), frames, frames, dtype=torch.float64)
        films[asked.index((step, purpose))] = torch.eye(frames)
        return films.reshape(-1, 1, frames, 1, 1)

    first = unit(0, "start")
    if start is not None:
        first[:frames] = torch.linalg.cholesky(start).T.reshape(frames, 1, frames, 1, 1)
    assert len(set(asked)) == len(asked)
    for state in sample(denoiser, first, plan=plan, sampler=sampler, fresh=unit):
        films = state.noisy.reshape(-1, frames)
        yield films.T @ films


def close(one, other, atol=1e-12):
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine(), Edm(0.0)])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_frames_that_rest_stay_bit_identical(sampler, schedule, plan):
    walked = states(bumpy(schedule), noise(), plan=plan, sampler=sampler)
    resting_frames_stay(walked, start=noise(), t=plan.times[0])


@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine(limit=20.0), linear_betas()])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_what_arrives_is_the_guess_without_noise(sampler, schedule):
    """Two denoisers, one that knows the film: it comes out to the last bit that the schedule lets it."""
    point = GaussianDenoiser(MEAN, torch.zeros(4, 4), schedule=schedule)
    made = result(point, noise(), plan=PLANS["pyramid"], sampler=sampler)
    close(made, MEAN[:, None, None].expand_as(made), atol=2e-4 if schedule == Cosine(limit=20.0) else 1e-10)
    one = result(bumpy(), noise(), plan=full_sequence(1, 4), sampler=sampler, fresh=None)
    assert torch.equal(one, bumpy()(noise(), torch.ones(2, 4, dtype=torch.float64), None))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine(), Edm(0.0)])
@pytest.mark.parametrize("sampler", RIGHT, ids=str)
def test_a_known_film_has_at_every_level_exactly_the_noise_that_belongs_there(sampler, schedule, plan):
    """If the guess is right (a point mass), the variance at s is sigma_s^2 however the steps were made, and
    whatever was added on the way: exactly, by linearity."""
    if getattr(sampler, "corrector", 0):
        pytest.skip("a corrector of finite steps keeps it only to second order")
    point = GaussianDenoiser(torch.zeros(4), torch.zeros(4, 4), schedule=schedule)
    sigma = schedule.sigma(plan.times)
    for s, covariance in zip(
        sigma[1:], spreads(point, plan=plan, sampler=sampler, start=sigma[0].diag() ** 2), strict=True
    ):
        close(covariance.diag(), s**2, atol=1e-12 * float(sigma.max()) ** 2)


def test_gamma_takes_the_fresh_variance_between_its_two_bounds():
    point = GaussianDenoiser(torch.zeros(1), torch.zeros(1, 1), schedule=Cosine())
    plan = Plan(torch.tensor([[0.8], [0.5], [0.0]]))
    before, after = Cosine().level(plan.times[:1]), Cosine().level(plan.times[1:2])
    share = 1 - (before.alpha / after.alpha * after.sigma / before.sigma) ** 2
    for gamma in (0.0, 0.3, 1.0):
        first = next(spreads(point, plan=plan, sampler=Ancestral(gamma), start=before.sigma**2))
        fresh = share * after.sigma ** (2 - 2 * gamma) * before.sigma ** (2 * gamma)
        close(first, (1 - share) * after.sigma**2 + fresh)


def gap(schedule, sampler, steps):
    """Distance of the films' covariance from the data's, which is also the start's where there is noise."""
    exact = GaussianDenoiser(torch.zeros(4), AR1, schedule=schedule)
    a, s = schedule.alpha(torch.ones(1).double()), schedule.sigma(torch.ones(1).double())
    start = a**2 * AR1 + s**2 * torch.eye(4)
    *_, made = spreads(exact, plan=full_sequence(steps, 4), sampler=sampler, start=start)
    return (made - AR1).abs().max().item()


@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (Ddim(1.0), 1),
        (Ancestral(), 1),
        (Ancestral(corrector=0.1), None),
        (HeunChurn(0.2), None),
        (Lcm(), None),
    ],
    ids=str,
)
def test_gaussian_films_keep_their_covariance_in_the_limit(sampler, order):
    """Exactly, by linearity. The posterior's own noise is right to first order in the step. The corrector of
    a set size helps; churn of a set size, and renewing everything, do not shrink with the step."""
    coarse, fine = gap(Cosine(limit=8.0), sampler, 16), gap(Cosine(limit=8.0), sampler, 32)
    if order:
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)
    assert fine < {Lcm: 1.0, HeunChurn: 0.02}.get(type(sampler), 0.15)


def test_the_corrector_brings_the_covariance_nearer():
    plain, corrected = (gap(Cosine(limit=8.0), Ancestral(corrector=d), 16) for d in (0.0, 0.1))
    assert corrected < 0.9 * plain


@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine(), Edm(0.002)])
def test_churn_keeps_the_marginal_of_gaussian_films(schedule):
    """What Heun's first look sees has exactly the covariance of the level it is told."""
    plan, looked = Plan(torch.tensor([[0.6, 0.9, 0.3, 0.5], [0.2, 0.4, 0.3, 0.1], [0, 0, 0, 0]])), []
    exact = GaussianDenoiser(torch.zeros(4), AR1, schedule=schedule)

    class Seen(GaussianDenoiser):
        def __call__(self, noisy, t, condition):
            looked.append((noisy.reshape(-1, 4), t[0]))
            return super().__call__(noisy, t, condition)

    def marginal(t):
        return schedule.alpha(t)[:, None] * AR1 * schedule.alpha(t) + torch.diag(schedule.sigma(t) ** 2)

    seen = Seen(exact.mean, exact.covariance, schedule=schedule)
    next(spreads(seen, plan=plan, sampler=HeunChurn(0.3), start=marginal(plan.times[0])))
    films, top = looked[-2]
    torch.testing.assert_close(films.T @ films, marginal(top), rtol=1e-11, atol=1e-12)
    grown = (
        schedule.sigma(top)
        / schedule.alpha(top)
        * schedule.alpha(plan.times[0])
        / schedule.sigma(plan.times[0])
    )
    torch.testing.assert_close(
        grown, torch.tensor([1.3, 1.3, 1, 1.3], dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_churn_has_a_band_a_bound_and_a_ceiling():
    walked = []

    def network(noisy, t, condition):
        walked.append(t[0, 0].item())
        return 0 * noisy

    plan = Plan(torch.tensor([[1.0], [0.75], [0.5], [0.25], [0.0]]).expand(5, 4))
    result(NetworkDenoiser(network), noise(), plan=plan, sampler=HeunChurn(9.0, band=(0.3, 0.8)))
    told = walked[::2]
    assert told[0] == 1.0 and told[3] == 0.25
    for t, top in zip((0.75, 0.5), told[1:3], strict=True):
        assert top / (1 - top) == pytest.approx(t / (1 - t) * math.sqrt(2), rel=1e-9)


def test_without_noise_they_are_what_they_are_made_of():
    for plan in PLANS.values():
        expected = result(bumpy(), noise(), plan=plan, sampler=Euler())
        assert torch.equal(result(bumpy(), noise(), plan=plan, sampler=Ddim(), fresh=None), expected)
        expected = result(bumpy(), noise(), plan=plan, sampler=Heun())
        for quiet in (HeunChurn(), HeunChurn(0.5, band=(0.0, 0.0))):
            assert torch.equal(result(bumpy(), noise(), plan=plan, sampler=quiet, fresh=None), expected)


@pytest.mark.parametrize("schedule", [Cosine(limit=20.0), linear_betas()])
def test_eta_1_is_the_ddpm_posterior(schedule):
    """mean = (sqrt(abar_s) beta clean + sqrt(a) (1 - abar_s) noisy) / (1 - abar_t), as DDPM writes it."""
    fresh, plan, denoiser = Fresh((3, 4), SHAPE, dtype=torch.float64), full_sequence(10, 4), bumpy(schedule)
    x = noise()
    walked = states(denoiser, x, plan=plan, sampler=Ddim(1.0), fresh=fresh)
    ancestral = states(denoiser, x, plan=plan, sampler=Ancestral(), fresh=fresh)
    for step, (t, s) in enumerate(pairwise(plan.times[:-1]), start=1):
        bar_t, bar_s = schedule.alpha(t[0]) ** 2, schedule.alpha(s[0]) ** 2
        a = bar_t / bar_s
        clean = denoiser(x, t.expand(2, 4), None)
        mean = (bar_s.sqrt() * (1 - a) * clean + a.sqrt() * (1 - bar_s) * x) / (1 - bar_t)
        x = mean + ((1 - bar_s) / (1 - bar_t) * (1 - a)).sqrt() * fresh(step, "noise")
        close(walked[step - 1].noisy, x, atol=1e-11)
        close(ancestral[step - 1].noisy, x, atol=1e-11)


def test_euler_ancestral_is_k_diffusions():
    """Its published formulas, in sigma / alpha and float64, beside ours on a schedule that is neither."""
    fresh, plan, denoiser = Fresh((3, 4), SHAPE, dtype=torch.float64), UNEVEN, bumpy()
    plan = full_sequence(8, 4).times[1:]
    walked = states(denoiser, noise(), plan=Plan(plan), sampler=Ddim(0.7), fresh=fresh)
    sigmas, x = plan[:, 0] / (1 - plan[:, 0]), noise() / (1 - plan[0, 0])
    for step, (sigma, to) in enumerate(pairwise(sigmas), start=1):
        clean = denoiser(x / (1 + sigma), plan[step - 1].expand(2, 4), None)
        up = torch.minimum(to, 0.7 * (to**2 * (sigma**2 - to**2) / sigma**2).sqrt())
        down = (to**2 - up**2).sqrt()
        x = x + (x - clean) / sigma * (down - sigma)
        x = x + fresh(step, "noise") * up if to > 0 else x
        close(walked[step - 1].noisy * (1 + to), x, atol=1e-11)


def test_edm_churn_is_the_papers_algorithm():
    """Algorithm 2 of 2206.00364, in its own words, on its own schedule."""
    schedule, fresh = Edm(0.0), Fresh((3, 4), SHAPE, dtype=torch.float64)
    denoiser, plan = (
        bumpy(schedule),
        Plan(torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0])[:, None].expand(-1, 4)),
    )
    sampler = HeunChurn(0.3, noise=1.007, band=(0.2, 0.8))
    walked = states(denoiser, noise(), plan=plan, sampler=sampler, fresh=fresh)
    x, times = noise(), plan.times[:, 0]

    def slope(x, sigma, told):
        return (x - denoiser(x, told.expand(2, 4), None)) / sigma

    for step, (t, s) in enumerate(pairwise(times), start=1):
        sigma, to = schedule.sigma(t), schedule.sigma(s)
        top, told = sigma, t
        if 0.2 < t <= 0.8:
            top = 1.3 * sigma
            told = (top ** (1 / 7)) / 80 ** (1 / 7)
            x = x + (top**2 - sigma**2).sqrt() * 1.007 * fresh(step, "churn")
        d = slope(x, top, told)
        ahead = x + (to - top) * d
        x = x + (to - top) * (d + slope(ahead, to, s)) / 2 if to > 0 else ahead
        close(walked[step - 1].noisy, x, atol=1e-9)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_sample_depends_on_its_own_seed_alone(sampler):
    def made(seeds):
        fresh = Fresh(seeds, SHAPE, Mixed(1.0), dtype=torch.float64)
        return result(bumpy(), noise(seeds), plan=PLANS["pyramid"], sampler=sampler, fresh=fresh)

    together = made([3, 8])
    close(made([8]), together[1:], atol=1e-13)
    assert not torch.allclose(together[0], made([9])[0])


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_nothing_waits_for_the_device(sampler):
    denoiser = NetworkDenoiser(lambda noisy, t, condition: noisy, Cosine(limit=20.0), "noise")
    fresh = Fresh((5, 6), SHAPE, device="meta")
    walked = states(denoiser, noise().to("meta"), plan=PLANS["pyramid"], sampler=sampler, fresh=fresh)
    assert walked[-1].clean.device.type == "meta"


def test_settings_out_of_range_and_missing_noise_are_refused():
    for make in (lambda: Ddim(1.5), lambda: Ancestral(gamma=-1), lambda: Ancestral(corrector=2.0)):
        with pytest.raises(Refusal, match=r"must be in \[0, 1\]"):
            make()
    with pytest.raises(Refusal, match="churn -1"):
        HeunChurn(-1)
    for sampler in SAMPLERS:
        with pytest.raises(Refusal, match="adds noise on its way"):
            result(bumpy(), noise(), plan=UNEVEN, sampler=sampler, fresh=None)


def velocity(noisy, t, condition):
    """A made-up network, random enough to agree by no accident."""
    return torch.sin(noisy) + t[:, None, :, None, None] * noisy - 0.1 * noisy.mean(dim=2, keepdim=True)


def levels(scheduler):
    """The plan of a public scheduler over a table of betas; its step k is our time (k + 1) / 1000."""
    times = torch.cat([(scheduler.timesteps.double() + 1) / 1000, torch.zeros(1)])
    return Plan(times[:, None].expand(-1, 4))


def ask(x, k):
    return velocity(x, ((k + 1) / 1000).float().expand(len(x), 4), None)


FRESH = Fresh((5, 6), SHAPE)


@pytest.mark.oracle
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [10, 50])
def test_ddim_is_diffusers_step_for_step(steps, eta):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    x, schedule = noise().float(), Betas(theirs.alphas_cumprod)
    ours = states(
        NetworkDenoiser(velocity, schedule, "velocity"),
        x,
        plan=levels(theirs),
        sampler=Ddim(eta),
        fresh=FRESH,
    )
    for state, k in zip(ours, theirs.timesteps, strict=True):
        last = state.step == steps  # theirs has a variance of 0 there, and is given noise all the same
        given = FRESH(state.step, "noise") if eta and not last else torch.zeros_like(x) if eta else None
        x = theirs.step(ask(x, k), k, x, eta=eta, variance_noise=given).prev_sample
        close(state.noisy, x, atol=1e-5)


@pytest.mark.oracle
def test_ddim_of_diffusers_lands_beside_its_own_grid():
    """7 steps of 1000: it steps 142 levels down while its timesteps are 143 apart, so even with the film
    known what it hands to the network is not at the level that it says. Ours is."""
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(prediction_type="sample", clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(7)
    schedule, plan = Betas(theirs.alphas_cumprod), levels(theirs)
    point = GaussianDenoiser(MEAN, torch.zeros(4, 4), schedule=schedule)
    white, film = noise().float(), MEAN.float()[:, None, None].expand(2, *SHAPE)
    x = schedule.level(plan.times[:1]).mix(film, white)
    ours, off = states(point, x, plan=plan, sampler=Ddim()), []
    for state, k in zip(ours[:-1], theirs.timesteps, strict=False):
        x = theirs.step(film, k, x).prev_sample
        belongs = schedule.level(state.t[None]).mix(film, white)
        close(state.noisy, belongs, atol=1e-5)
        off.append((x - belongs).abs().max().item())
    assert max(off) > 2e-3


@pytest.mark.oracle
def test_euler_ancestral_is_diffusers(monkeypatch):
    from diffusers import EulerAncestralDiscreteScheduler
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as module

    theirs = EulerAncestralDiscreteScheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    theirs.set_timesteps(10)
    schedule, given = Betas(theirs.alphas_cumprod), []
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **more: given[-1])
    ours = states(
        NetworkDenoiser(velocity, schedule, "velocity"),
        noise().float(),
        plan=levels(theirs),
        sampler=Ddim(1.0),
        fresh=FRESH,
    )
    x = noise().float() * (1 + theirs.sigmas[0] ** 2).sqrt()
    for state, k, to in zip(ours, theirs.timesteps, theirs.sigmas[1:], strict=True):
        given.append(FRESH(state.step, "noise"))
        x = theirs.step(ask(theirs.scale_model_input(x, k), k), k, x).prev_sample
        close(state.noisy, x / (1 + to**2).sqrt(), atol=1e-5)


@pytest.mark.oracle
def test_lcm_is_diffusers(monkeypatch):
    """Its boundary scalings belong to the model, which thereby is the identity at step 0."""
    from diffusers import LCMScheduler
    from diffusers.schedulers import scheduling_lcm as module

    theirs = LCMScheduler(prediction_type="v_prediction", clip_sample=False)
    theirs.set_timesteps(4)
    schedule, given, x = Betas(theirs.alphas_cumprod), [], noise().float()
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **more: given[-1])

    def consistent(noisy, t, condition):
        k = (t[0, 0] * 1000).round() - 1
        skip, out = theirs.get_scalings_for_boundary_condition_discrete(k)
        inner = NetworkDenoiser(velocity, schedule, "velocity")
        return out * inner(noisy, t, condition) + skip * noisy

    denoiser = NetworkDenoiser(consistent, schedule, "clean")
    for state in states(denoiser, x, plan=levels(theirs), sampler=Lcm(), fresh=FRESH):
        k = theirs.timesteps[state.step - 1]
        given.append(FRESH(state.step, "noise"))
        x = theirs.step(ask(x, k), k, x).prev_sample
        close(state.noisy, x, atol=1e-5)
