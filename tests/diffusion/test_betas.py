"""Tables of betas: their own values at their own steps, the public ones, and an exact end in pure noise."""

import math

import numpy as np
import pytest
import torch

from mutoscope.diffusion.betas import (
    Betas,
    from_betas,
    linear_betas,
    scaled_linear_betas,
    spaced,
    zero_terminal,
)
from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.plan import staggered
from mutoscope.diffusion.sampler import Euler, sample
from mutoscope.diffusion.schedule import Cosine
from mutoscope.video import Refusal

TABLES = {
    "linear": linear_betas(),
    "scaled": scaled_linear_betas(),
    "lvdm": scaled_linear_betas(start=0.0015, end=0.0155),
    "zero": zero_terminal(scaled_linear_betas()),
    "cosine": Betas(Cosine().alpha(torch.arange(1, 51, dtype=torch.float64) / 50) ** 2),
    "one": Betas(torch.tensor([0.25])),
}
each = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


def times(table):
    return torch.arange(1, table.steps + 1, dtype=torch.float64) / table.steps


@each
def test_at_its_own_steps_a_table_is_itself_to_the_bit(table):
    assert torch.equal(table.alpha(times(table)), table.alpha_bar.sqrt())
    assert torch.equal(table.sigma(times(table)), (1 - table.alpha_bar).sqrt())


@each
def test_time_0_is_clean_and_the_variance_is_kept(table):
    t = torch.linspace(0, 1, 397, dtype=torch.float64)
    assert table.alpha(t)[0] == 1 and table.sigma(t)[0] == 0
    torch.testing.assert_close(
        table.alpha(t) ** 2 + table.sigma(t) ** 2, torch.ones_like(t), atol=1e-15, rtol=0
    )
    assert (table.log_snr(t[1:]).diff() < 0).all()


@pytest.mark.parametrize("name", ["linear", "scaled", "lvdm"])
def test_between_steps_the_log_snr_runs_straight(name):
    table = TABLES[name]
    low, high = (table.log_snr(torch.tensor([k / 1000], dtype=torch.float64)) for k in (400, 401))
    between = table.log_snr(torch.tensor([0.40025, 0.4005], dtype=torch.float64))
    torch.testing.assert_close(
        between, torch.cat([0.75 * low + 0.25 * high, (low + high) / 2]), atol=1e-9, rtol=0
    )


def test_where_the_log_snr_is_infinite_alpha_bar_runs_straight():
    table = TABLES["zero"]
    near = torch.tensor([0.00025, 0.99975], dtype=torch.float64)
    expected = torch.stack([0.75 + 0.25 * table.alpha_bar[0], 0.25 * table.alpha_bar[-2]])
    torch.testing.assert_close(table.alpha(near) ** 2, expected, atol=1e-12, rtol=1e-9)


def test_float32_times_give_float32_levels_and_still_end_in_pure_noise():
    t = torch.tensor([[0.0, 0.3, 1.0]])
    level = TABLES["zero"].level(t)
    assert level.alpha.dtype == level.sigma.dtype == torch.float32
    assert level.alpha[0, 2] == 0 and level.sigma[0, 2] == 1 and level.sigma[0, 0] == 0
    torch.testing.assert_close(level.alpha.double(), TABLES["zero"].alpha(t.double()), atol=1e-6, rtol=0)


@each
def test_betas_and_alpha_bar_go_round(table):
    torch.testing.assert_close(from_betas(table.betas).alpha_bar, table.alpha_bar, atol=1e-12, rtol=1e-12)


def test_betas_come_back():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    torch.testing.assert_close(from_betas(betas).betas, betas, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        scaled_linear_betas().betas.sqrt().diff().diff(), torch.zeros(998).double(), atol=1e-11, rtol=0
    )


def test_what_is_left_at_the_end_is_as_published():
    """To the digits of the reference: 0.00466 for Stable Diffusion, 6.7e-4 for LVDM, 4.04e-5 for DDPM."""
    left = [TABLES[name].alpha_bar[-1].item() for name in ("scaled", "lvdm", "linear")]
    assert left == pytest.approx([0.00466, 6.7e-4, 4.04e-5], rel=3e-3)


def test_zero_terminal_keeps_the_first_step_and_ends_at_exactly_0():
    for name in ("linear", "scaled", "lvdm"):
        before, after = TABLES[name], zero_terminal(TABLES[name])
        first = torch.tensor([1 / 1000], dtype=torch.float64)
        torch.testing.assert_close(after.alpha(first), before.alpha(first), rtol=1e-15, atol=0)
        assert after.alpha_bar[-1] == 0 and after.betas[-1] == 1
        torch.testing.assert_close(zero_terminal(after).alpha_bar, after.alpha_bar, rtol=1e-13, atol=0)


@pytest.mark.parametrize("wrong", [[1.0, 0.5], [0.5, 0.5], [0.5, -0.1], [0.3, 0.4], [], [math.nan]])
def test_other_tables_are_refused(wrong):
    with pytest.raises(Refusal, match="must fall from step to step"):
        Betas(torch.tensor(wrong))


def test_spacings_are_the_published_ones():
    """2305.08891, Table 2: 10 steps of 1000, counted there from 1."""
    published = {
        "leading": [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
        "linspace": [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1],
        "trailing": [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100],
    }
    for spacing, steps in published.items():
        got = spaced(10, 1000, spacing=spacing)
        assert torch.equal(got, torch.tensor([*steps, 0], dtype=torch.float64) / 1000)


def test_other_spacings_are_refused():
    with pytest.raises(Refusal, match="from 1 to 10"):
        spaced(11, 10)
    with pytest.raises(Refusal, match="spacing 'karras'"):
        spaced(5, 10, spacing="karras")  # pyright: ignore[reportArgumentType]


# Against diffusers, whose tables are float32 products of a thousand float32 factors: good to about 6e-5.
FLOAT32_TABLE = 6e-5


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("linear", {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        ("scaled", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        ("lvdm", {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0155}),
    ],
)
def test_the_tables_are_diffusers(name, settings):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(**settings).alphas_cumprod.double()
    torch.testing.assert_close(TABLES[name].alpha_bar, theirs, rtol=FLOAT32_TABLE, atol=0)


@pytest.mark.oracle
def test_zero_terminal_is_diffusers():
    ddim = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    for name in ("linear", "scaled", "lvdm"):
        theirs = from_betas(ddim.rescale_zero_terminal_snr(TABLES[name].betas))
        torch.testing.assert_close(
            zero_terminal(TABLES[name]).alpha_bar, theirs.alpha_bar, atol=1e-12, rtol=0
        )
    theirs = ddim.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True
    )
    torch.testing.assert_close(TABLES["zero"].alpha_bar, theirs.alphas_cumprod.double(), atol=1e-5, rtol=0)


@pytest.mark.oracle
@pytest.mark.parametrize("steps", [1, 7, 20, 33, 50, 999, 1000])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_the_spacings_are_diffusers(spacing, steps):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    ours = (spaced(steps, 1000, spacing=spacing)[:-1] * 1000).round().long() - 1
    if (spacing, steps) == ("linspace", 1):
        # numpy's linspace of one number is its start: diffusers' single step is from the clean end.
        assert theirs.timesteps.tolist() == [0] and ours.tolist() == [999]
    else:
        assert np.array_equal(ours.numpy(), theirs.timesteps.numpy())


@pytest.mark.oracle
def test_the_sigmas_are_those_of_diffusers_euler():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing"
    )
    theirs.set_timesteps(25)
    t = spaced(25)
    ours = TABLES["scaled"].sigma(t) / TABLES["scaled"].alpha(t)
    torch.testing.assert_close(ours, theirs.sigmas.double(), rtol=FLOAT32_TABLE, atol=1e-7)


@pytest.mark.oracle
def test_sampling_on_a_table_is_diffusers_ddim():
    """20 steps from pure noise of the zero-terminal table, velocity predicted, against an exact denoiser."""
    diffusers = pytest.importorskip("diffusers")
    table = TABLES["zero"]
    theirs = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    theirs.alphas_cumprod = table.alpha_bar  # in float64, so that the walk itself is compared
    theirs.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    theirs.set_timesteps(20)
    denoiser = GaussianDenoiser(torch.full((1,), 0.7).double(), torch.full((1, 1), 0.3).double(), table)
    start = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None, None, None, None]
    film = start
    for k in theirs.timesteps:
        t = ((k.double() + 1) / 1000).expand(5, 1)
        alpha, sigma = table.alpha(t[0]), table.sigma(t[0])
        clean = denoiser(film, t, None)
        velocity = (alpha * film - clean) / sigma
        film = theirs.step(velocity, k, film).prev_sample
    *_, last = sample(denoiser, start, plan=staggered(spaced(20), 1, lag=0), sampler=Euler())
    torch.testing.assert_close(last.clean, film, atol=1e-12, rtol=0)
