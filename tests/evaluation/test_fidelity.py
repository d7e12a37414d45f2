"""Fidelity against known values: what each measure sees, and what it is blind to."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mutoscope.evaluation.fidelity import (
    difference_correlation,
    difference_energy,
    flicker,
    flicker_at_rest,
    psnr,
    ssim,
)
from mutoscope.video import Refusal


def clips(b: int = 2, f: int = 5, *, seed: int = 0, size: int = 16) -> Tensor:
    return torch.rand(b, 3, f, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.oracle
@pytest.mark.parametrize("error", [0.02, 0.2, 2.0])
def test_psnr_of_a_constant_error(error: float) -> None:
    truth = torch.full((1, 3, 2, 4, 4), -1.0)
    assert float(psnr(truth + error, truth)) == pytest.approx(20 * math.log10(2 / error), abs=1e-4)


def test_psnr_is_infinite_for_equal_clips_and_one_number_a_clip() -> None:
    truth = clips(3)
    made = truth.clone()
    made[1] += 0.1
    values = psnr(made, truth)
    assert values.shape == (3,) and values[0] == values[2] == math.inf
    assert float(values[1]) == pytest.approx(20 * math.log10(20), abs=1e-3)


def test_a_weight_says_which_pixels_count() -> None:
    truth = clips(2)
    made = truth.clone()
    made[..., :8] += 1.0  # the left half is wrong
    left = torch.zeros(2, 5, 16, 16)
    left[..., :8] = 1
    assert psnr(made, truth, weight=left).tolist() == pytest.approx([20 * math.log10(2)] * 2, abs=1e-4)
    assert psnr(made, truth, weight=1 - left).tolist() == [math.inf] * 2
    torch.testing.assert_close(psnr(made, truth, weight=torch.ones_like(left)), psnr(made, truth))
    assert psnr(made, truth, weight=torch.zeros_like(left)).isnan().all()


@pytest.mark.oracle
def test_ssim_of_flat_pictures_is_its_brightness_term() -> None:
    """Without structure only (2ab + c) / (a^2 + b^2 + c) is left, c = (0.01 * 2)^2."""
    one, other, small = 0.5, 0.25, (0.01 * 2) ** 2
    made, truth = torch.full((1, 3, 2, 12, 12), one), torch.full((1, 3, 2, 12, 12), other)
    expected = (2 * one * other + small) / (one**2 + other**2 + small)
    assert float(ssim(made.double(), truth.double())) == pytest.approx(expected, rel=1e-6)


@pytest.mark.oracle
def test_ssim_by_the_definition_on_a_single_window() -> None:
    """A picture of the window's size has one place: weighted moments written out."""
    x, y = (clips(1, 1, seed=seed, size=11).double() for seed in (1, 2))
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    a, b = (torch.einsum("bcfhw,c->bfhw", clip, weights).flatten() for clip in (x, y))
    bell = torch.exp(-((torch.arange(11).double() - 5) ** 2) / (2 * 1.5**2))
    kernel = torch.outer(bell, bell).flatten() / bell.sum() ** 2
    mean_a, mean_b = (kernel * a).sum(), (kernel * b).sum()
    var_a, var_b = (kernel * (a - mean_a) ** 2).sum(), (kernel * (b - mean_b) ** 2).sum()
    cov = (kernel * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = 0.02**2, 0.06**2
    expected = (
        (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )
    assert float(ssim(x, y)) == pytest.approx(float(expected), abs=1e-9)


def test_ssim_is_one_for_equal_clips_symmetric_and_falls_with_noise() -> None:
    truth = clips()
    little, much = truth + 0.1 * clips(seed=1), truth + 0.6 * clips(seed=1)
    assert ssim(truth, truth).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    torch.testing.assert_close(ssim(little, truth), ssim(truth, little))
    assert (ssim(truth, little) > ssim(truth, much)).all()


def test_differences_correlate_when_motion_is_kept_whatever_stands_still() -> None:
    truth = clips()
    still = clips(seed=3)[:, :, :1]
    torch.testing.assert_close(difference_correlation(truth + still, truth), torch.ones(2))
    torch.testing.assert_close(difference_correlation(0.3 * truth, truth), torch.ones(2))
    torch.testing.assert_close(difference_correlation(-truth, truth), -torch.ones(2))
    assert (difference_correlation(clips(seed=4), truth).abs() < 0.1).all()


def test_energy_says_how_much_motion_is_left() -> None:
    truth = clips()
    torch.testing.assert_close(difference_energy(0.5 * truth, truth), torch.full((2,), 0.25))
    frozen = truth[:, :, :1].expand_as(truth)
    assert difference_energy(frozen, truth).tolist() == [0, 0]
    assert difference_energy(truth, frozen).isnan().all()
    assert difference_correlation(frozen, truth).isnan().all()


def test_psnr_hides_the_rain_that_the_differences_show() -> None:
    """A few moving specks on a still picture: without them PSNR stays high, and nothing moves."""
    dry = clips(1, 1).expand(1, 3, 6, 16, 16)
    rain = dry.clone()
    for frame in range(6):
        rain[..., frame, (2 * frame) % 16, 5] = 1.0
    smeared = dry + 0.01 * clips(1, 6, seed=9)
    assert float(psnr(smeared, rain)) > 25
    assert float(difference_correlation(smeared, rain)) < 0.2


@pytest.mark.oracle
def test_flicker_knows_a_fade_from_a_flash() -> None:
    time = torch.arange(5.0)[None, None, :, None, None].expand(1, 3, 5, 4, 4)
    assert float(flicker(0.1 * time)) == pytest.approx(0, abs=1e-6)
    assert float(flicker(0.3 * (time % 2))) == pytest.approx(0.6, abs=1e-6)  # |0 - 2 x 0.3 + 0|


def test_flicker_at_rest_looks_only_where_nothing_moves() -> None:
    truth = torch.zeros(2, 3, 4, 4, 4)
    truth[0, 1, 2, :, :2] = 1  # one channel of the left half flashes, in one clip
    made = truth + 0.25 * (torch.arange(4) % 2)[:, None, None]
    made[0, :, 2:, :, :2] = -1  # and is wrong where it does
    assert flicker_at_rest(truth, truth).tolist() == [0, 0]
    assert flicker_at_rest(made, truth)[1] == pytest.approx(0.25)
    half = made[:1, ..., 2:], truth[:1, ..., 2:]
    assert flicker_at_rest(*half).item() == pytest.approx(0.25)
    moving = torch.arange(3.0)[:, None, None].expand(1, 3, 3, 4, 4)
    assert flicker_at_rest(moving, moving).isnan().all(), "nothing rests"
    assert flicker_at_rest(0.5 * moving, moving, rest=1.0).item() == pytest.approx(0.5)


def test_half_precision_is_measured_in_single() -> None:
    truth = clips()
    assert psnr(truth.bfloat16(), truth.bfloat16() + 0.5).dtype == torch.float32


@pytest.mark.parametrize("measure", [psnr, ssim, difference_correlation, difference_energy, flicker_at_rest])
def test_clips_of_other_shapes_are_refused(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(Refusal, match="and alike"):
        measure(torch.zeros(1, 3, 2, 16, 16), torch.zeros(1, 3, 3, 16, 16))


def test_too_short_or_too_small_is_refused() -> None:
    with pytest.raises(Refusal, match="at least 2 frames"):
        difference_correlation(clips(f=1), clips(f=1))
    with pytest.raises(Refusal, match="at least 2 frames"):
        flicker_at_rest(clips(f=1), clips(f=1))
    with pytest.raises(Refusal, match="at least 3"):
        flicker(clips(f=2))
    with pytest.raises(Refusal, match="window of 11"):
        ssim(clips(size=8), clips(size=8))
