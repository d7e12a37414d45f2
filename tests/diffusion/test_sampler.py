"""Samplers: what they leave alone, how fast they converge, and equality with public schedulers."""

import math
from itertools import pairwise

import pytest
import torch

from mutoscope.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.guidance import ClassifierFree
from mutoscope.diffusion.multistep import Multistep2
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import Plan, autoregressive, flow_match, full_sequence, pyramid
from mutoscope.diffusion.sampler import Euler, Heun, Move, Sampler, Step, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Schedule
from mutoscope.video import Refusal
from walks import resting_frames_stay

SAMPLERS = [Euler(), Heun(), Multistep2()]
SCHEDULES = [STRAIGHT, Cosine()]
MEAN = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)
AR1 = 0.9 ** (torch.arange(4)[:, None] - torch.arange(4)).abs().double()
PLANS = {
    "full": full_sequence(5, 4, shift=3.0),
    "pyramid": pyramid(5, 4, shift=3.0),
    "autoregressive": autoregressive(5, 4, shift=3.0),
}


def noise(batch=2, frames=4):
    return draw(range(batch), (2, frames, 3, 3), dtype=torch.float64)


def states(denoiser, start, **settings):
    return list(sample(denoiser, start, **settings))


def result(denoiser, start, **settings):
    return states(denoiser, start, **settings)[-1].clean


def bumpy(schedule: Schedule = STRAIGHT, *, mixing: float = 0.0) -> NetworkDenoiser:
    """A smooth made-up network; with `mixing` 0 every frame is on its own."""

    def network(noisy, t, condition):
        return torch.sin(2 * noisy) + t[:, None, :, None, None] + mixing * noisy.mean(dim=2, keepdim=True)

    return NetworkDenoiser(network, schedule, "clean")


def random_plan(rows: int, frames: int) -> Plan:
    """Every frame walks the same grid, each row moving frames by chance."""
    generator = torch.Generator().manual_seed(3)
    moves = (torch.rand(20 * rows, frames, generator=generator) < 0.5).cumsum(dim=0).clamp(max=rows)
    grid = full_sequence(rows, 1, shift=3.0).times[:, 0]
    times = grid[torch.cat([torch.zeros(1, frames, dtype=torch.long), moves])]
    return Plan(times.unique_consecutive(dim=0))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_states_count_up_and_end_in_the_result(sampler, plan):
    walked = states(bumpy(mixing=0.1), noise(), plan=plan, sampler=sampler)
    assert [state.step for state in walked] == list(range(1, plan.steps + 1))
    assert all(state.steps == plan.steps for state in walked)
    assert torch.equal(torch.stack([state.t for state in walked]), plan.times[1:])
    for state in walked:
        done = state.t == 0
        assert torch.equal(state.clean[:, :, done], state.noisy[:, :, done])
    assert torch.equal(walked[-1].clean, walked[-1].noisy) and torch.isfinite(walked[-1].clean).all()


@pytest.mark.parametrize("plan", [*PLANS.values(), random_plan(4, 4)], ids=[*PLANS, "random"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_frames_whose_level_rests_stay_bit_identical(sampler, schedule, plan):
    walked = states(bumpy(schedule, mixing=0.1), noise(), plan=plan, sampler=sampler)
    resting_frames_stay(walked, start=noise(), t=plan.times[0])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_known_frames_come_out_as_they_went_in(sampler, plan):
    plan = plan.knowing([0, -1])
    film = torch.rand(2, 2, 4, 3, 3, dtype=torch.float64)
    start = STRAIGHT.level(plan.times[:1]).mix(film, noise())
    made = result(bumpy(mixing=0.1), start, plan=plan, sampler=sampler)
    assert torch.equal(made[:, :, [0, -1]], film[:, :, [0, -1]])
    assert not torch.equal(made[:, :, 1:3], film[:, :, 1:3])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_frames_on_their_own_do_not_care_for_the_plan(sampler):
    """One grid and a denoiser that looks at each frame alone: every plan gives the same film, bit for bit."""
    expected = result(bumpy(), noise(), plan=PLANS["full"], sampler=sampler)
    plans = [PLANS["pyramid"], PLANS["autoregressive"], pyramid(5, 4, lag=2.5, shift=3.0)]
    if not isinstance(sampler, Multistep2):  # which forgets a frame that pauses halfway
        plans.append(random_plan(5, 4))
    for plan in plans:
        assert torch.equal(result(bumpy(), noise(), plan=plan, sampler=sampler), expected)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_point_mass_is_found(sampler, schedule, plan):
    point = GaussianDenoiser(MEAN, torch.zeros(4, 4), schedule=schedule)
    made = result(point, noise(), plan=plan, sampler=sampler)
    torch.testing.assert_close(made, MEAN[:, None, None].expand_as(made), atol=1e-12, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_to_clean_is_the_guess(sampler):
    denoiser = bumpy(mixing=0.1)
    guess = denoiser(noise(), torch.ones(2, 4, dtype=torch.float64), None)
    assert torch.equal(result(denoiser, noise(), plan=full_sequence(1, 4), sampler=sampler), guess)


def the_gaussian_map(start, schedule):
    """Where the probability flow takes a film: a z + (a^2 K + s^2)^(1/2) with z from the other end (K
    commutes with K)."""
    (a0, a1), (s0, s1) = (end(torch.tensor([0.0, 1.0]).double()) for end in (schedule.alpha, schedule.sigma))
    values, vectors = torch.linalg.eigh(AR1)
    grown = ((a0**2 * values + s0**2) / (a1**2 * values + s1**2)).sqrt()
    mean, stretch = MEAN[:, None, None], vectors @ torch.diag(grown) @ vectors.T
    return a0 * mean + torch.einsum("fg,bcghw->bcfhw", stretch, start - a1 * mean)


def orders(sampler, schedule):
    """Observed orders from 32 to 64 to 128 steps, and the last error."""
    denoiser, start = GaussianDenoiser(MEAN, AR1, schedule=schedule), noise(batch=1)
    exact = the_gaussian_map(start, schedule)
    plans = [full_sequence(n, 4) for n in (32, 64, 128)]
    made = [result(denoiser, start, plan=plan, sampler=sampler) for plan in plans]
    errors = [(film - exact).abs().max().item() for film in made]
    return [math.log2(a / b) for a, b in pairwise(errors)], errors[-1]


@pytest.mark.parametrize("schedule", [*SCHEDULES, Cosine(limit=8.0)])
@pytest.mark.parametrize(("sampler", "order"), [(Euler(), 1), (Heun(), 2)])
def test_order_of_convergence(sampler, order, schedule):
    observed, error = orders(sampler, schedule)
    assert observed == pytest.approx([order, order], abs=0.2)
    assert error < (0.04 if order == 1 else 0.001)


def test_order_of_multistep2():
    """Two, where log-SNR is finite. From exactly noise to exactly clean its step in log-SNR does not shrink
    at the ends (ln 2 next to them, whatever n), which costs a logarithm: the observed order creeps up to two
    from below."""
    observed, _ = orders(Multistep2(), Cosine(limit=8.0))
    assert observed == pytest.approx([2, 2], abs=0.2)
    for schedule in SCHEDULES:
        observed, error = orders(Multistep2(), schedule)
        assert all(1.4 < order < 2.1 for order in observed)
        assert error < orders(Euler(), schedule)[1] / 4


def test_ddim_on_a_unit_gaussian_contracts_by_the_closed_form():
    """On N(0, 1) with the quarter circle cut into n equal angles, every DDIM step multiplies by cos(pi /
    2n)."""
    for n, expected in ((4, 0.72855), (10, 0.88349), (50, 0.97562)):
        unit = GaussianDenoiser(torch.zeros(1), torch.eye(1), schedule=Cosine())
        made = result(unit, noise(frames=1), plan=full_sequence(n, 1))
        torch.testing.assert_close(made, math.cos(math.pi / 2 / n) ** n * noise(frames=1), atol=1e-12, rtol=0)
        assert math.cos(math.pi / 2 / n) ** n == pytest.approx(expected, abs=1e-5)


def wasserstein(plan):
    """Squared W2 distance between what a plan makes of white noise and AR(1) films. The map is linear: feed
    it a basis."""
    basis = torch.eye(4, dtype=torch.float64).reshape(4, 1, 4, 1, 1)
    made = result(GaussianDenoiser(torch.zeros(4), AR1), basis, plan=plan).reshape(4, 4)
    covariance = made.T @ made
    values, vectors = torch.linalg.eigh(AR1)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    return (AR1.trace() + covariance.trace() - 2 * cross).item()


@pytest.mark.parametrize("make", [full_sequence, pyramid, autoregressive])
def test_any_plan_is_right_in_the_limit(make):
    """A first-order error in the film is a second-order error in its squared distance: a quarter per
    doubling."""
    coarse, fine = wasserstein(make(32, 4)), wasserstein(make(64, 4))
    assert coarse / fine == pytest.approx(4, abs=0.7)
    assert fine < 0.01


def test_equal_times_are_ordinary_video_diffusion():
    """Per-frame bookkeeping changes nothing: the loop a textbook writes, with one number a step, gives the
    same bits."""
    denoiser, x = bumpy(mixing=0.1), noise()
    times = PLANS["full"].times[:, 0]
    for t, s in pairwise(times):
        clean = denoiser(x, t.expand(2, 4), None)
        keep = s / t
        x = keep * x + ((1 - s) - keep * (1 - t)) * clean
    assert torch.equal(result(denoiser, noise(), plan=PLANS["full"]), x)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(sampler):
    together = result(bumpy(mixing=0.1), noise(batch=3), plan=PLANS["pyramid"], sampler=sampler)
    for seed in range(3):
        start = draw([seed], (2, 4, 3, 3), dtype=torch.float64)
        alone = result(bumpy(mixing=0.1), start, plan=PLANS["pyramid"], sampler=sampler)
        torch.testing.assert_close(together[seed : seed + 1], alone, atol=1e-13, rtol=0)


def test_how_often_the_denoiser_is_asked():
    asked = []

    def network(noisy, t, condition):
        asked.append(t[0].tolist())
        return noisy

    for sampler, calls in ((Euler(), 4), (Multistep2(), 4), (Heun(), 7)):
        asked.clear()
        result(NetworkDenoiser(network), noise(), plan=full_sequence(4, 4), sampler=sampler)
        assert len(asked) == calls
    assert [row[0] for row in asked] == [1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_waits_for_the_device(sampler):
    """On the meta device nothing can be read back: a look at its values from the host would fail here."""

    def network(noisy, t, condition):
        assert noisy.device.type == t.device.type == "meta" and noisy.dtype == torch.bfloat16
        return noisy

    denoiser = NetworkDenoiser(network, Cosine(limit=20.0), "noise", dtype=torch.bfloat16)
    guided = ClassifierFree(denoiser, 3.0, band=(0.2, 0.8), rescale=0.5)
    walked = states(guided, noise().to("meta"), plan=PLANS["pyramid"], sampler=sampler)
    assert len(walked) == PLANS["pyramid"].steps and walked[-1].clean.device.type == "meta"


def test_it_can_be_stopped_and_keeps_no_gradients():
    weight = torch.ones((), requires_grad=True)
    walk = sample(NetworkDenoiser(lambda x, t, c: weight * x), noise(), plan=PLANS["full"])
    assert not next(walk).clean.requires_grad
    assert torch.is_grad_enabled()
    walk.close()
    assert list(walk) == []


def test_the_condition_arrives_and_half_precision_is_not_walked_in():
    def network(noisy, t, condition):
        assert condition == "rain" and t.dtype == noisy.dtype == torch.float32
        return noisy

    made = result(NetworkDenoiser(network), noise().bfloat16(), plan=PLANS["full"], condition="rain")
    assert made.dtype == torch.float32


def test_a_plan_for_another_film_is_refused_at_once():
    with pytest.raises(Refusal, match="the plan has 3 frames and the noise 4"):
        sample(bumpy(), noise(), plan=full_sequence(4, 3))


def test_fresh_noise_is_asked_for_by_step_and_purpose():
    class Shaken(Sampler):
        def __call__(self, guess, noisy, *, move, past):
            step = Euler()(guess, noisy, move=move, past=past)
            return Step(move=move, noisy=step.noisy + move.fresh("shake"), clean=step.clean)

    asked = []

    def fresh(step, purpose):
        asked.append((step, purpose))
        return torch.full((2, 2, 4, 3, 3), float(step), dtype=torch.float64)

    walked = states(black(), noise(), plan=full_sequence(3, 4), sampler=Shaken(), fresh=fresh)
    assert asked == [(1, "shake"), (2, "shake"), (3, "shake")]
    assert walked[-1].noisy.unique().tolist() == [3.0]
    with pytest.raises(Refusal, match="adds noise on its way"):
        states(black(), noise(), plan=full_sequence(3, 4), sampler=Shaken())


def black():
    """Guesses black, whatever it sees."""
    return NetworkDenoiser(lambda noisy, t, condition: 0 * noisy, STRAIGHT, "clean")


def test_coefficients_of_a_move():
    t, s = torch.tensor([[1.0, 0.5, 0.0, 0.3]]).double(), torch.tensor([[1.0, 0.0, 0.0, 0.2]]).double()
    move = Move(t=t, s=s, schedule=Cosine())
    assert move.keep[0, :3].tolist() == [1, 0, 1] and move.pull[0, :3].tolist() == [0, 1, 0]
    assert move.goes_on.tolist() == [[0, 0, 0, 1]]
    half_log_snr = torch.log(torch.tensor([math.tan(0.15 * math.pi) / math.tan(0.1 * math.pi)]))
    torch.testing.assert_close(move.stretch[0, 3:].float(), half_log_snr.float())


class Public:
    """Walks diffusers' scheduler beside ours with the same velocities, in float32."""

    def __init__(self, scheduler, steps):
        self.scheduler = scheduler
        scheduler.set_timesteps(steps)

    def walk(self, x, flow):
        for t in self.scheduler.timesteps:
            sigma = self.scheduler.sigmas[self.scheduler.step_index or 0]
            velocity = flow(x, sigma.expand(len(x), x.shape[2]), None)
            x = self.scheduler.step(velocity, t, x, return_dict=False)[0]
            yield x


def flow(noisy, t, condition):
    return torch.sin(2 * noisy) + t[:, None, :, None, None] * noisy - 0.1 * noisy.mean(dim=2, keepdim=True)


@pytest.mark.oracle
@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (4, 1.0), (20, 3.0), (50, 5.0)])
def test_euler_is_flow_match_euler_step_for_step(steps, shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    start = noise().float()
    ours = sample(NetworkDenoiser(flow), start, plan=flow_match(steps, 4, shift=shift))
    theirs = Public(FlowMatchEulerDiscreteScheduler(shift=shift), steps).walk(start, flow)
    for state, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(state.noisy, expected, atol=1e-5, rtol=0)


@pytest.mark.oracle
@pytest.mark.parametrize("steps", [2, 10])
def test_heun_is_flow_match_heun(steps):
    from diffusers import FlowMatchHeunDiscreteScheduler

    start = noise().float()
    theirs = Public(FlowMatchHeunDiscreteScheduler(shift=3.0), steps)
    grid = theirs.scheduler.sigmas.unique().flip(0)
    *_, expected = theirs.walk(start, flow)
    plan = Plan(grid[:, None].expand(-1, 4))
    made = result(NetworkDenoiser(flow), start, plan=plan, sampler=Heun())
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.oracle
@pytest.mark.parametrize("steps", [2, 16, 24])
def test_multistep2_is_public_dpm_solver(steps):
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=3.0,
        solver_order=2,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        lower_order_final=False,
        final_sigmas_type="zero",
    )
    start = noise().float()
    theirs = Public(scheduler, steps)
    plan = Plan(scheduler.sigmas[:, None].expand(-1, 4))
    ours = sample(NetworkDenoiser(flow), start, plan=plan, sampler=Multistep2())
    for state, expected in zip(ours, theirs.walk(start, flow), strict=True):
        torch.testing.assert_close(state.noisy, expected, atol=2e-5, rtol=0)
