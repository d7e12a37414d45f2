"""Looking back: which past counts, orders of convergence, equality with published formulas and programs."""

import math
from itertools import islice, pairwise

import pytest
import torch

from mutoscope.diffusion.betas import Betas
from mutoscope.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.multistep import Multistep2, Multistep2Sde, Multistep3Sde, UniPc
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import Plan, autoregressive, full_sequence, pyramid
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.sampler import AT_ONCE, Euler, Move, Sampler, bound, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Edm
from mutoscope.diffusion.stochastic import Ddim, HeunChurn
from mutoscope.video import Refusal
from walks import resting_frames_stay

SHAPE = (2, 4, 3, 3)
SAMPLERS = [Multistep2Sde(), Multistep3Sde(), Multistep3Sde(eta=0.0), UniPc(1), UniPc(2), UniPc(3)]
MEAN = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
AR1 = 0.9 ** (torch.arange(4)[:, None] - torch.arange(4)).abs().double()
PAUSES = [
    [1, 1, 0.6, 0.9],
    [0.7, 1, 0.6, 0.4],
    [0.7, 0.5, 0.3, 0],
    [0.6, 0.4, 0.2, 0],
    [0.2, 0, 0, 0],
    [0] * 4,
]
PLANS = {
    "full": full_sequence(6, 4, shift=3.0),
    "pyramid": pyramid(6, 4, shift=3.0),
    "autoregressive": autoregressive(6, 4, shift=3.0),
    "pauses": Plan(torch.tensor(PAUSES)),
}
FRESH = Fresh((5, 6), SHAPE)


def noise(seeds=(0, 1)):
    return draw(seeds, SHAPE, dtype=torch.float64)


def bumpy(schedule=STRAIGHT, *, mixing=0.1):
    def network(noisy, t, condition):
        return torch.sin(noisy) + t[:, None, :, None, None] + mixing * noisy.mean(dim=2, keepdim=True)

    return NetworkDenoiser(network, schedule, "clean")


def alone(denoiser, film, *, plan, sampler, fresh):
    """Every move by itself, which knows its plan from the step before only."""
    step = None
    for number, (t, s) in enumerate(pairwise(plan.times.split(1)), start=1):
        back = step.move.behind if step else ()
        move = Move(t=t, s=s, schedule=denoiser.schedule, step=number, noise=fresh, back=back)
        step = sampler(bound(denoiser, None), film, move=move, past=step)
        film = step.noisy
    return film


def states(denoiser, start, **settings):
    settings.setdefault("fresh", Fresh(range(5, 5 + len(start)), tuple(start.shape[1:]), dtype=start.dtype))
    return list(sample(denoiser, start, **settings))


def result(*args, **settings):
    return states(*args, **settings)[-1].clean


def close(one, other, atol=1e-12):
    torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("sampler", [*SAMPLERS, Multistep2(), HeunChurn(churn=0.1)])
@pytest.mark.parametrize("plan", ["autoregressive", "pauses", "long"])
def test_coefficients_found_together_are_those_of_each_move_alone(sampler, plan):
    walked = pyramid(AT_ONCE, 4, lag=3) if plan == "long" else PLANS[plan]
    fresh = Fresh((5, 6), SHAPE, dtype=torch.float64)
    made = result(bumpy(), noise(), plan=walked, sampler=sampler, fresh=fresh)
    torch.testing.assert_close(
        made, alone(bumpy(), noise(), plan=walked, sampler=sampler, fresh=fresh), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine(), Edm(0.0)])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_frames_that_rest_stay_bit_identical(sampler, schedule, plan):
    walked = states(bumpy(schedule), noise(), plan=plan, sampler=sampler)
    resting_frames_stay(walked, start=noise(), t=plan.times[0])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_point_mass_is_found(sampler, plan):
    for schedule in (STRAIGHT, Cosine()):
        point = GaussianDenoiser(MEAN, torch.zeros(4, 4), schedule=schedule)
        made = result(point, noise(), plan=plan, sampler=sampler)
        close(made, MEAN[:, None, None].expand_as(made))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_frames_on_their_own_do_not_care_for_the_plan(sampler):
    """Without fresh noise, which is drawn by the step, every plan over one grid gives the same film."""
    silent = lambda step, purpose: torch.zeros(2, *SHAPE, dtype=torch.float64)  # noqa: E731
    full, *others = (PLANS[name] for name in ("full", "pyramid", "autoregressive"))
    expected = result(bumpy(mixing=0), noise(), plan=full, sampler=sampler, fresh=silent)
    for plan in others:
        close(result(bumpy(mixing=0), noise(), plan=plan, sampler=sampler, fresh=silent), expected)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_special_cases_are_what_they_are_elsewhere(plan):
    """Two steps of past and no noise is Multistep2; without a past all are first-order, noise or none."""
    two = result(bumpy(), noise(), plan=plan, sampler=Multistep2())
    assert torch.equal(result(bumpy(), noise(), plan=plan, sampler=Multistep2Sde(0.0), fresh=None), two)
    alone = Plan(torch.stack([plan.times[0], 0.5 * plan.times[0], 0 * plan.times[0]]))
    for sampler in (Multistep2Sde(), Multistep3Sde()):
        first = states(bumpy(), noise(), plan=alone, sampler=sampler)[0].noisy
        close(first, states(bumpy(), noise(), plan=alone, sampler=Ddim(1.0))[0].noisy)
    first = states(bumpy(), noise(), plan=alone, sampler=UniPc(3))[0].noisy
    assert torch.equal(first, states(bumpy(), noise(), plan=alone, sampler=Euler())[0].noisy)


def the_gaussian_map(start, schedule):
    """Where the probability flow takes a film: a z + (a^2 K + s^2)^(1/2) with z from the other end."""
    (a0, a1), (s0, s1) = (end(torch.tensor([0.0, 1.0]).double()) for end in (schedule.alpha, schedule.sigma))
    values, vectors = torch.linalg.eigh(AR1)
    grown = ((a0**2 * values + s0**2) / (a1**2 * values + s1**2)).sqrt()
    mean, stretch = MEAN[:, None, None], vectors @ torch.diag(grown) @ vectors.T
    return a0 * mean + torch.einsum("fg,bcghw->bcfhw", stretch, start - a1 * mean)


def errors(sampler, *steps):
    """On films whose log-SNR is finite throughout."""
    schedule, start = Cosine(limit=8.0), noise((0,))
    denoiser, exact = GaussianDenoiser(MEAN, AR1, schedule=schedule), the_gaussian_map(start, schedule)
    made = (result(denoiser, start, plan=full_sequence(n, 4), sampler=sampler) for n in steps)
    return [(film - exact).abs().max().item() for film in made]


@pytest.mark.parametrize(
    ("sampler", "low", "high"),
    [
        (Multistep2Sde(0.0), 1.9, 2.1),
        (UniPc(1), 1.9, 2.1),
        (UniPc(2), 2.8, 3.2),
        (Multistep3Sde(0.0), 2.0, 3.1),
        (UniPc(3), 3.1, 4.1),
    ],
    ids=str,
)
def test_order_of_convergence(sampler, low, high):
    """UniPC's corrector gives an order more than its predictor has. The last two are between two orders: of
    their steps, third and fourth, and of the first step of all, which has no past to look back to."""
    coarse, fine = errors(sampler, 192, 384)
    assert low < math.log2(coarse / fine) < high


def test_more_past_is_better():
    two, three = errors(Multistep2(), 96)[0], errors(Multistep3Sde(0.0), 96)[0]
    one, corrected, best = (errors(UniPc(order), 96)[0] for order in (1, 2, 3))
    assert three < 0.7 * two and best < corrected < one


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_sample_depends_on_its_own_seed_alone_and_needs_no_device(sampler):
    def made(seeds):
        fresh = Fresh(seeds, SHAPE, dtype=torch.float64)
        return result(bumpy(), noise(seeds), plan=PLANS["pyramid"], sampler=sampler, fresh=fresh)

    close(made([8]), made([3, 8])[1:])
    silent = NetworkDenoiser(lambda noisy, t, condition: noisy, Cosine(limit=20.0), "noise")
    meta = Fresh((5, 6), SHAPE, device="meta")
    walked = states(silent, noise().to("meta"), plan=PLANS["pyramid"], sampler=sampler, fresh=meta)
    assert walked[-1].clean.device.type == "meta"


def test_one_call_a_step_and_settings_out_of_range():
    asked = []

    def network(noisy, t, condition):
        asked.append(t)
        return noisy

    for number, sampler in enumerate(SAMPLERS, start=1):
        result(NetworkDenoiser(network), noise(), plan=PLANS["full"], sampler=sampler)
        assert len(asked) == 6 * number
    with pytest.raises(Refusal, match="order is 4"):
        UniPc(4)
    with pytest.raises(Refusal, match="eta is -1"):
        Multistep3Sde(-1.0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("order", [2, 3])
def test_the_sde_solvers_are_k_diffusions(order, eta):
    """Its published formulas (dpmpp_2m_sde with midpoint, dpmpp_3m_sde) in sigma / alpha and float64."""
    sampler = {2: Multistep2Sde, 3: Multistep3Sde}[order](eta)
    fresh, grid = Fresh((3, 4), SHAPE, dtype=torch.float64), full_sequence(9, 4).times[1:]
    walked = states(bumpy(), noise(), plan=Plan(grid), sampler=sampler, fresh=fresh)
    sigmas, x, past = grid[:, 0] / (1 - grid[:, 0]), noise() / (1 - grid[0, 0]), []
    for step, (sigma, to) in enumerate(pairwise(sigmas), start=1):
        clean = bumpy()(x / (1 + sigma), grid[step - 1].expand(2, 4), None)
        h = (sigma / to).log()
        wide = h * (1 + eta)
        x = torch.exp(-wide) * x - torch.expm1(-wide) * clean
        phi_2 = torch.expm1(-wide) / wide + 1
        if to == 0:
            x = clean
        elif order == 2 and past:
            x = x - 0.5 * torch.expm1(-wide) * (h / past[-1][0]) * (clean - past[-1][1])
        elif len(past) > 1:
            (h_2, older), (h_1, old) = past[-2:]
            r0, r1 = h_1 / h, h_2 / h
            one, two = (clean - old) / r0, (old - older) / r1
            x = x + phi_2 * (one + (one - two) * r0 / (r0 + r1))
            x = x - (phi_2 / wide - 0.5) * (one - two) / (r0 + r1)
        elif past:
            x = x + phi_2 * (clean - past[-1][1]) / (past[-1][0] / h)
        if eta and to > 0:
            x = x + fresh(step, "noise") * to * (-torch.expm1(-2 * h * eta)).sqrt()
        past.append((h, clean))
        close(walked[step - 1].noisy * (1 + to), x, atol=1e-11)


def velocity(noisy, t, condition):
    """A made-up network, random enough to agree by no accident."""
    return torch.sin(noisy) + t[:, None, :, None, None] * noisy - 0.1 * noisy.mean(dim=2, keepdim=True)


def beside(theirs, steps, sampler, fresh, **given):
    """Walks a public scheduler over a table of betas and ours, with the same network; yields both films."""
    theirs.set_timesteps(steps)
    times = torch.cat([(theirs.timesteps.double() + 1) / 1000, torch.zeros(1)])
    denoiser = NetworkDenoiser(velocity, Betas(theirs.alphas_cumprod), "velocity")
    plan, x = Plan(times[:, None].expand(-1, 4)), noise().float()
    for state in states(denoiser, x, plan=plan, sampler=sampler, fresh=fresh):
        k = theirs.timesteps[state.step - 1]
        said = velocity(x, ((k + 1) / 1000).float().expand(2, 4), None)
        more = {"variance_noise": fresh(state.step, "noise")} if "sde" in given.values() else {}
        x = theirs.step(said, k, x, **more).prev_sample
        yield state.noisy, x


def dpm(order, kind, type="midpoint"):
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        prediction_type="v_prediction",
        solver_order=order,
        algorithm_type=kind,
        solver_type=type,
        timestep_spacing="trailing",
        lower_order_final=False,
    )


@pytest.mark.oracle
@pytest.mark.parametrize("steps", [4, 10, 20])
def test_the_second_order_ones_are_diffusers_step_for_step(steps):
    for one, other in beside(dpm(2, "dpmsolver++"), steps, Multistep2(), None):
        close(one, other, atol=1e-5)
    for one, other in beside(dpm(2, "sde-dpmsolver++"), steps, Multistep2Sde(), FRESH, kind="sde"):
        close(one, other, atol=1e-5)


@pytest.mark.oracle
def test_the_third_order_sde_of_diffusers_has_a_sign_wrong():
    """Its last coefficient, ((1 - e^-2h - 2h) / (2h)^2 - 1/2), goes to -1 with h and ours, with + 1/2, to 0
    as it must. Without noise both approach a limit, theirs from much farther off."""

    def silent(step, purpose):
        return torch.zeros(2, *SHAPE)

    def both(steps):
        theirs = dpm(3, "sde-dpmsolver++", "heun")
        return list(beside(theirs, steps, Multistep3Sde(), silent, kind="sde"))

    for one, other in both(20)[:2]:  # before there is past enough for three orders
        close(one, other, atol=1e-5)
    limit, _ = both(100)[-1]
    apart = [[(film - limit).abs().mean().item() for film in both(n)[-1]] for n in (20, 40)]
    (ours, theirs), (ours_finer, theirs_finer) = apart
    assert theirs > 5 * ours and theirs_finer > 5 * ours_finer


@pytest.mark.oracle
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [5, 20])
def test_unipc_is_diffusers_step_for_step(steps, order):
    from diffusers import UniPCMultistepScheduler

    theirs = UniPCMultistepScheduler(
        prediction_type="v_prediction",
        solver_order=order,
        solver_type="bh2",
        timestep_spacing="trailing",
        lower_order_final=order
        < 3,  # it would lower the last step but one too, and without it the last fails
    )
    for one, other in islice(beside(theirs, steps, UniPc(order), None), steps - (order == 3)):
        close(one, other, atol=1e-5)


@pytest.mark.parametrize("sampler", [Multistep2(), UniPc(), UniPc(order=3), Multistep3Sde(eta=0.0)], ids=str)
def test_the_last_step_carries_nothing_on_where_the_log_snr_is_cut_off(sampler: Sampler) -> None:
    """At 16 steps the way to a log-SNR of 20 is eleven times that of the step before: the guess stays.

    Of N(0, 1) every flow is the identity, whatever the steps; carried on, it would be far from it."""
    unit = GaussianDenoiser(torch.zeros(1).double(), torch.eye(1).double(), Cosine(limit=20.0))
    noise = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    *_, last = sample(unit, noise, plan=full_sequence(16, 1), sampler=sampler)
    assert float(last.clean) == pytest.approx(1.0, abs=0.05)
