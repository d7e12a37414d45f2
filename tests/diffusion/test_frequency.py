"""FreeInit's filters, and that mixing by them keeps variance and reality, at odd sizes too."""

import math

import pytest
import torch
from einops import rearrange

from mutoscope.diffusion.frequency import LowPass, blended, reinitialised
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.prior import Mixed, Progressive
from mutoscope.video import Refusal

SIZES = [(4, 6, 8), (5, 3, 7), (25, 4, 5), (1, 5, 4), (1, 1, 1)]
FILTERS = [LowPass(), LowPass("gaussian"), LowPass("ideal"), LowPass("gaussian", space=0.7, time=0.1)]


def films(size, seeds=(1, 2)):
    return draw(seeds, (2, *size), dtype=torch.float64)


def mirrored(mask):
    """The mask at -k for every k."""
    return torch.roll(mask.flip((0, 1, 2)), (1, 1, 1), (0, 1, 2))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("keep", FILTERS, ids=str)
def test_masks_are_hermitian_and_whole(keep, size):
    mask = keep(size)
    assert mask.shape == size and mask.dtype == torch.float64
    assert torch.equal(mask, mirrored(mask)) and mask[0, 0, 0] == 1
    assert ((mask >= 0) & (mask <= 1)).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("keep", FILTERS, ids=str)
def test_the_whole_spectrum_says_the_same_and_nothing_is_imaginary(keep, size):
    noisy, fresh = films(size), films(size, (3, 4))
    low = keep(size)
    spectrum = low * torch.fft.fftn(noisy, dim=(-3, -2, -1))
    spectrum = spectrum + (1 - low**2).sqrt() * torch.fft.fftn(fresh, dim=(-3, -2, -1))
    whole = torch.fft.ifftn(spectrum, dim=(-3, -2, -1))
    assert whole.imag.abs().max() < 1e-12
    torch.testing.assert_close(reinitialised(noisy, fresh, keep=keep), whole.real, atol=1e-12, rtol=0)


@pytest.mark.parametrize("keep", FILTERS, ids=str)
@pytest.mark.parametrize("size", [(3, 2, 4), (5, 3, 3)], ids=str)
@pytest.mark.parametrize("prior", [Mixed(0.0), Mixed(1.0)], ids=str)
def test_the_covariance_stays_exactly(keep, size, prior):
    """Through the matrices that the unit films give, not by drawing."""
    count = math.prod(size)
    units = rearrange(torch.eye(count, dtype=torch.float64), "n (f h w) -> n 1 f h w", f=size[0], h=size[1])
    zeros = torch.zeros_like(units)
    slow = reinitialised(prior.mix(units), zeros, keep=keep).flatten(1)
    fast = reinitialised(zeros, prior.mix(units), keep=keep).flatten(1)
    stated = torch.kron(prior.covariance(size[0]), torch.eye(count // size[0], dtype=torch.float64))
    torch.testing.assert_close(slow.T @ slow + fast.T @ fast, stated, atol=1e-12, rtol=0)


def test_the_covariance_of_progressive_noise_does_not_stay():
    """A film's two ends are neighbours to a frequency, and only Progressive tells them from others."""
    units = rearrange(torch.eye(8, dtype=torch.float64), "n f -> n 1 f 1 1")
    mixed, zeros = Progressive().mix(units), torch.zeros_like(units)
    slow, fast = reinitialised(mixed, zeros).flatten(1), reinitialised(zeros, mixed).flatten(1)
    apart = (slow.T @ slow + fast.T @ fast - Progressive().covariance(8)).abs()
    assert 0.01 < apart.max() < 0.5


def test_all_is_unchanged_and_nothing_is_fresh():
    noisy, fresh = films((5, 3, 4)), films((5, 3, 4), (3, 4))
    ones = torch.ones(5, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(blended(noisy, fresh, low=ones), noisy, atol=1e-14, rtol=0)
    torch.testing.assert_close(blended(noisy, fresh, low=0 * ones), fresh, atol=1e-14, rtol=0)
    everything = LowPass(space=math.inf, time=math.inf)
    assert torch.equal(everything((5, 3, 4)), ones)


def test_the_radius_is_one_at_the_cut_off():
    """Frequency 1/8 a frame is 1/4 of the highest: the default cut-off over time, alone or with height."""
    size = (16, 16, 16)
    for place in [(2, 0, 0), (0, 2, 0), (0, 0, -2)]:
        assert LowPass()(size)[place] == 0.5
        assert LowPass("ideal")(size)[place] == 1
        torch.testing.assert_close(LowPass("gaussian")(size)[place].item(), math.exp(-0.5))
    assert LowPass("ideal")(size)[3, 0, 0] == 0 and LowPass("ideal")(size)[2, 1, 0] == 0
    assert LowPass(order=1)(size)[4, 0, 0] == 0.2  # radius 2: 1 / (1 + 2^2)
    assert LowPass(time=0.5)(size)[4, 0, 0] == 0.5


def test_what_the_published_filters_lose():
    """The mean of L^2 + (1 - L)^2 is the variance left by mixing with 1 - L, and ours is 1 by construction;
    the published ideal filter compares the square radius d^2 with 2 d_s, not with d_s^2."""
    size = (16, 64, 64)
    left = {
        kind: float((LowPass(kind)(size) ** 2 + (1 - LowPass(kind)(size)) ** 2).mean())
        for kind in ("gaussian", "butterworth")
    }
    assert left["gaussian"] == pytest.approx(0.960, abs=5e-4)
    assert left["butterworth"] == pytest.approx(0.992, abs=5e-4)
    published = LowPass("ideal", space=0.5**0.5, time=0.5**0.5)(size).mean()  # d^2 <= 2 * 0.25
    assert float(published) == pytest.approx(0.185, abs=5e-3)
    assert float(LowPass("ideal")(size).mean()) == pytest.approx(0.0075, abs=5e-4)


@pytest.mark.parametrize("size", [(5, 6, 7), (4, 8, 8)], ids=str)
def test_the_batch_and_the_dtype_do_not_matter(size):
    noisy, fresh = films(size, (1, 2, 3)).float(), films(size, (4, 5, 6)).float()
    together = reinitialised(noisy, fresh)
    assert together.dtype == torch.float32
    assert torch.equal(together[1:2], reinitialised(noisy[1:2], fresh[1:2]))
    assert reinitialised(noisy.bfloat16(), fresh).dtype == torch.float32
    torch.testing.assert_close(reinitialised(noisy.double(), fresh.double()).float(), together)


@pytest.mark.parametrize("wrong", [{"space": 0.0}, {"time": -1.0}, {"order": 0}, {"shape": "brick"}])
def test_other_filters_are_refused(wrong):
    with pytest.raises(Refusal, match="must be"):
        LowPass(**wrong)
