"""The exact experiments on plans and endless films: first order, the stated costs, and their laws."""

import pytest
import torch
from benchmarks.exact import fifo, plans

from mutoscope.diffusion.drawings.gaussian import Stationary, affine, ar1
from mutoscope.diffusion.rolling import Window, rolling
from mutoscope.diffusion.schedule import Cosine


@pytest.mark.parametrize("name", ["full", "pyramid", "autoregressive", "random"])
def test_every_plan_is_right_and_of_first_order(name):
    """The squared distance falls four times a doubling."""
    coarse, fine = (plans.distance(plans.plans(steps)[name]) for steps in (16, 32))
    assert 3 < coarse / fine < 5.5 and fine < 0.03


def test_stated_distances_of_the_plans_that_are_told():
    for name, stated in zip(["full", "pyramid", "autoregressive"], plans.STATED[16], strict=False):
        assert plans.distance(plans.plans(16)[name]) == pytest.approx(stated, abs=5e-4)


def test_stated_calls():
    for name, calls in plans.CALLS.items():
        assert plans.plans(16)[name].steps == calls(16)


def test_a_plan_by_chance_walks_the_grid_with_every_frame():
    plan = plans.by_chance(16, 8)
    for frame in plan.times.T:
        assert torch.equal(frame.unique(), plans.uniform(16).flip(0))
    assert 16 < plan.steps < 128


def test_partitions_hurt_and_lookahead_helps_a_model_of_separate_levels():
    one, two, ahead = (
        fifo.correlation(parts, lookahead=look) for parts, look in [(1, False), (2, False), (2, True)]
    )
    stated = [fifo.STATED[key] for key in ((1, False), (2, False), (2, True))]
    assert [one, two, ahead] == pytest.approx(stated, abs=0.01)
    assert 0.95**8 > one > ahead > two


def test_one_frame_of_context_is_all_that_such_an_endless_film_needs():
    """AR(1) is Markov; without context the frame handed out takes with it what the window does not know."""
    errors = []
    for context, steps in ((0, 16), (1, 8), (1, 16)):
        window = Window(6, steps=steps, context=context)

        def run(noise, window=window):
            made = rolling(Stationary(fifo.RHO, Cosine()), noise.unbind(2), window=window)
            return torch.stack(list(made), dim=2)

        covariance = affine(run, 10).covariance()
        errors.append((covariance - ar1(fifo.RHO, 10)).abs().max().item())
    forgetful, coarse, fine = errors
    assert fine < 0.6 * coarse and fine < 0.3 * forgetful
