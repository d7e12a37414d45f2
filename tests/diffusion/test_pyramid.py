"""The jump between sizes leaves white noise, exactly; stages meet where they should."""

import math
from itertools import pairwise

import pytest
import torch
from einops import rearrange

from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.pyramid import Stage, block_noise, down, jump, stages, up
from mutoscope.diffusion.schedule import shift as shifted
from mutoscope.video import Refusal

SHAPE = (3, 2, 4, 6)


@pytest.fixture
def clean():
    return draw([5, 6], SHAPE, dtype=torch.float64)


@pytest.fixture
def noise():
    return draw([1, 2], SHAPE, dtype=torch.float64)


def shift(t: float, a: float) -> float:
    return float(shifted(torch.tensor(t, dtype=torch.float64), a))


def units(h: int, w: int) -> torch.Tensor:
    return rearrange(torch.eye(h * w, dtype=torch.float64), "n (h w) -> n 1 1 h w", h=h)


def test_down_undoes_up(clean):
    assert torch.equal(down(up(clean)), clean)
    assert up(clean).shape == (2, 3, 2, 8, 12)
    halved = torch.nn.functional.interpolate(clean[:, 0], scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(down(clean)[:, 0], halved, atol=1e-15, rtol=0)


def test_twice_the_half_of_white_noise_is_white():
    matrix = (2 * down(units(4, 6))).flatten(1)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(6).double(), atol=1e-15, rtol=0)


def test_blocks_sum_to_nothing(noise):
    assert down(block_noise(noise)).abs().max() < 1e-15


def test_block_noise_has_the_published_covariance():
    matrix = block_noise(units(2, 2)).flatten(1)
    stated = 4 / 3 * torch.eye(4, dtype=torch.float64) - 1 / 3
    torch.testing.assert_close(matrix.T @ matrix, stated, atol=1e-15, rtol=0)
    values = torch.linalg.eigvalsh(stated)
    torch.testing.assert_close(values, torch.tensor([0, 4, 4, 4]).double() / 3, atol=1e-14, rtol=0)


@pytest.mark.parametrize("t", [0.0, 0.2, 1 / 3, 2 / 3, 1.0])
def test_noise_is_white_after_a_jump(t):
    times = torch.tensor([[t]], dtype=torch.float64)
    small, large = units(2, 3), units(4, 6)
    landed = shift(t, 2)
    ours = jump(t * small, torch.zeros(6, 1, 1, 4, 6).double(), t=times).flatten(1)
    fresh = jump(torch.zeros(24, 1, 1, 2, 3).double(), large, t=times).flatten(1)
    covariance = ours.T @ ours + fresh.T @ fresh
    torch.testing.assert_close(covariance, landed**2 * torch.eye(24).double(), atol=1e-15, rtol=0)


@pytest.mark.parametrize("t", [0.0, 0.2, 2 / 3])
def test_the_film_is_there_after_a_jump(clean, t):
    landed = jump((1 - t) * clean, torch.zeros(2, 3, 2, 8, 12), t=torch.full((1, 2), t, dtype=torch.float64))
    torch.testing.assert_close(landed, (1 - shift(t, 2)) * up(clean), atol=1e-15, rtol=0)


def test_the_published_coefficients(clean):
    """a = 1 / (2 - e), b = sqrt(3) (1 - e) / (2 - e) and signal e / (2 - e), for signal e before the jump."""
    e, white = 0.4, draw([9, 8], (3, 2, 8, 12), dtype=torch.float64)
    by_hand = up(clean) / (2 - e) + math.sqrt(3) * (1 - e) / (2 - e) * block_noise(white)
    landed = jump(clean, white, t=torch.full((1, 2), 1 - e, dtype=torch.float64))
    torch.testing.assert_close(landed, by_hand, atol=1e-14, rtol=0)
    assert 1 - shift(1 - e, 2) == pytest.approx(e / (2 - e), abs=1e-15)


def test_every_frame_may_jump_from_its_own_time(clean):
    t = torch.tensor([[0.3, 0.8], [0.0, 1.0]], dtype=torch.float64)
    white = draw([9, 8], (3, 2, 8, 12), dtype=torch.float64)
    landed = jump(clean, white, t=t)
    for row in range(2):
        for frame in range(2):
            one = jump(
                clean[row : row + 1, :, frame : frame + 1],
                white[row : row + 1, :, frame : frame + 1],
                t=t[row : row + 1, frame : frame + 1],
            )
            assert torch.equal(one[0, :, 0], landed[row, :, frame])


def test_stages_meet_where_the_jumps_land():
    for count in (1, 2, 3, 5):
        made = stages(count)
        assert len(made) == count and made[0].start == 1 and made[-1].end == 0
        for before, after in pairwise(made):
            assert after.start == pytest.approx(shift(before.end, 2), abs=1e-15)
    assert [stage.end for stage in stages(3)] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-15)
    assert [stage.start for stage in stages(3)] == pytest.approx([1, 0.8, 0.5], abs=1e-15)


@pytest.mark.parametrize("stage", stages(3), ids=str)
def test_the_flow_is_the_slope_of_the_noisy_film(clean, noise, stage):
    shares = torch.tensor([[0.0, 1.0], [0.25, 0.5]], dtype=torch.float64)
    flow = stage.flow(clean, noise)
    step = stage.noisy(clean, noise, share=shares + 1e-3) - stage.noisy(clean, noise, share=shares - 1e-3)
    torch.testing.assert_close(step / 2e-3, flow, atol=1e-11, rtol=0)
    start, end = stage.noisy(clean, noise, share=0 * shares + 1), stage.noisy(clean, noise, share=0 * shares)
    blurred = (1 - stage.start) * up(down(clean)) + stage.start * noise
    torch.testing.assert_close(start, blurred, atol=1e-15, rtol=0)
    torch.testing.assert_close(end, (1 - stage.end) * clean + stage.end * noise, atol=1e-15, rtol=0)


def test_a_jump_lands_where_the_next_stage_is_trained(clean):
    """The mean film after the jump is the next stage's start, for the film that this stage had."""
    small, next_stage = stages(3)[:2]
    before = small.noisy(down(clean), torch.zeros(2, 3, 2, 2, 3), share=torch.zeros(1, 2))
    landed = jump(before, torch.zeros_like(clean), t=torch.full((1, 2), small.end, dtype=torch.float64))
    start = next_stage.noisy(clean, torch.zeros_like(clean), share=torch.ones(1, 2))
    torch.testing.assert_close(landed, start, atol=1e-14, rtol=0)


def test_odd_sides_have_no_half(clean):
    with pytest.raises(Refusal, match="4 x 5: both must be even"):
        down(clean[..., :5])
    assert Stage(1.0, 0.5).flow(clean[..., :5], clean[..., :5]).shape[-1] == 5
    with pytest.raises(Refusal, match="0 stages"):
        stages(0)
