"""Up the plan and down again."""

import math

import pytest
import torch

from mutoscope.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.inversion import invert
from mutoscope.diffusion.plan import Plan, full_sequence, pyramid
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine
from mutoscope.video import Refusal

AR1 = 0.9 ** (torch.arange(4)[:, None] - torch.arange(4)).abs().double()
MEAN = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)


def film():
    return torch.rand(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gaussian(schedule=STRAIGHT):
    return GaussianDenoiser(MEAN, AR1, schedule=schedule)


def there(denoiser, plan, **settings):
    *_, top = invert(denoiser, film(), plan=plan, **settings)
    return top.noisy


def back(denoiser, plan, **settings):
    *_, made = sample(denoiser, there(denoiser, plan, **settings), plan=plan)
    return made.clean


@pytest.mark.parametrize("make", [full_sequence, pyramid])
@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine()])
def test_up_and_down_gives_the_film_back_to_first_order(schedule, make):
    errors = [(back(gaussian(schedule), make(n, 4)) - film()).abs().max().item() for n in (64, 128, 256)]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.15)
    assert errors[2] < 0.05


def test_it_finds_the_noise_that_the_flow_carries_to_the_film():
    """On Gaussian films: (a^2 K + s^2)^(-1/2) (film - mean), here from 0 to 1 on a straight line."""
    values, vectors = torch.linalg.eigh(AR1)
    whiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    exact = torch.einsum("fg,bcghw->bcfhw", whiten, film() - MEAN[:, None, None])
    errors = [(there(gaussian(), full_sequence(n, 4)) - exact).abs().max().item() for n in (128, 256)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.2)


def test_looking_again_brings_the_film_nearer():
    """Between levels that have noise, repeated looks solve the step: Euler then comes back exactly."""
    plan = Plan(torch.tensor([0.8, 0.6, 0.4, 0.2, 0.0])[:, None].expand(-1, 4))
    once, often = ((back(gaussian(), plan, looks=n) - film()).abs().max().item() for n in (1, 200))
    assert often < 0.02 * once


def test_frames_that_the_plan_never_moves_stay_and_states_count():
    plan = pyramid(4, 4).knowing([0, -1])
    walked = list(invert(gaussian(), film(), plan=plan))
    assert [state.step for state in walked] == list(range(1, plan.steps + 1))
    assert torch.equal(torch.stack([state.t for state in walked]), plan.times.flip(0)[1:])
    assert torch.equal(walked[-1].noisy[:, :, [0, -1]], film()[:, :, [0, -1]])
    for before, after in zip([None, *walked], walked, strict=False):
        if before is not None:
            rests = before.t == after.t
            assert torch.equal(before.noisy[:, :, rests], after.noisy[:, :, rests])


def test_condition_gradients_and_refusals():
    weight = torch.ones((), requires_grad=True)

    def network(noisy, t, condition):
        assert condition == "rain"
        return weight * noisy

    denoiser = NetworkDenoiser(network)
    state = next(invert(denoiser, film().bfloat16(), plan=full_sequence(2, 4), condition="rain"))
    assert state.noisy.dtype == torch.float32 and not state.noisy.requires_grad
    for wrong in ({"plan": full_sequence(2, 3)}, {"plan": full_sequence(2, 4), "looks": 0}):
        with pytest.raises(Refusal, match="planned frames"):
            invert(denoiser, film(), **wrong)
