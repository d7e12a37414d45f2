"""The noise of frames: its covariance exactly, its seeds bit for bit, its shuffles one by one."""

import math
from itertools import islice

import pytest
import torch
from einops import rearrange

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.multistep import Multistep2
from mutoscope.diffusion.noise import draw, endless, stream
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import (
    Fresh,
    Independent,
    Mixed,
    Prior,
    PriorSettings,
    Progressive,
    Reuse,
)
from mutoscope.diffusion.sampler import Euler, Heun, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine
from mutoscope.video import Refusal

SHAPE = (2, 13, 3, 5)
GAUSSIAN = [Independent(), Mixed(1.0), Mixed(0.3), Progressive(2.0), Progressive(0.5)]
ENDS = [Mixed(0.0), Mixed(math.inf), Progressive(0.0), Progressive(math.inf)]
PRIORS = [*GAUSSIAN, *ENDS, Reuse(window=4, stride=2), Reuse(window=6, stride=3)]


def root(prior: Prior, frames: int) -> torch.Tensor:
    """The matrix "f f" that `mix` applies to white frames, by what it makes of the unit films."""
    units = rearrange(torch.eye(frames, dtype=torch.float64), "b f -> b 1 f 1 1")
    return rearrange(prior.mix(units), "b 1 f 1 1 -> f b")


def published(prior: Prior, frames: int) -> torch.Tensor:
    """The covariances that the paper's equations have."""
    place = torch.arange(frames, dtype=torch.float64)
    apart = (place[:, None] - place).abs()
    a = getattr(prior, "a", 0.0)
    share = 1 / (1 + a**-2.0) if a else 0.0
    return share ** (apart / 2 if isinstance(prior, Progressive) else apart.clamp(max=1))


@pytest.mark.parametrize("prior", [*GAUSSIAN, *ENDS], ids=str)
@pytest.mark.parametrize("frames", [1, 2, 16])
def test_mix_gives_exactly_the_covariance(prior, frames):
    matrix, covariance = root(prior, frames), prior.covariance(frames)
    torch.testing.assert_close(matrix @ matrix.T, covariance, atol=1e-15, rtol=0)
    torch.testing.assert_close(covariance, published(prior, frames), atol=1e-14, rtol=0)


def test_correlations_of_the_usual_settings():
    torch.testing.assert_close(
        Mixed(1.0).covariance(3)[0], torch.tensor([1, 0.5, 0.5], dtype=torch.float64), atol=1e-15, rtol=0
    )
    r = 2 / 5**0.5
    torch.testing.assert_close(
        Progressive(2.0).covariance(3)[0],
        torch.tensor([1, r, r * r], dtype=torch.float64),
        atol=1e-15,
        rtol=0,
    )


def test_mixed_noise_has_one_strong_mode():
    values = torch.linalg.eigvalsh(Mixed(1.0).covariance(16))
    expected = torch.tensor([0.5] * 15 + [8.5], dtype=torch.float64)
    torch.testing.assert_close(values, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("prior", [Independent(), Mixed(0.0), Progressive(0.0)], ids=str)
def test_nothing_shared_is_white_noise_bit_for_bit(prior):
    assert torch.equal(prior.draw([4, 9], SHAPE), draw([4, 9], SHAPE))
    film = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prior.mix(film), film)


@pytest.mark.parametrize("prior", [Mixed(math.inf), Progressive(math.inf), Mixed(1e200), Progressive(1e200)])
def test_everything_shared_is_one_frame_bit_for_bit(prior):
    film = prior.draw([4, 9], SHAPE)
    assert torch.equal(film, film[:, :, :1].expand_as(film))
    assert torch.equal(film[:, :, 0], draw([4, 9], SHAPE)[:, :, 0])


@pytest.mark.parametrize("a", [1e-9, 1e4, 1e8, 3e8])
def test_nearly_nothing_and_nearly_everything_stay_finite(a):
    for prior in (Mixed(a), Progressive(a)):
        assert torch.isfinite(prior.draw([1], (1, 40, 1, 1))).all()


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_a_sample_is_its_seed_whatever_the_batch(prior):
    together = prior.draw([7, 1, 7, 2**62], SHAPE)
    assert together.shape == (4, *SHAPE)
    for row, seed in enumerate([7, 1, 7, 2**62]):
        assert torch.equal(together[row], prior.draw([seed], SHAPE)[0])
    fresh = Fresh([7, 1, 2**62], SHAPE, prior)(3, "churn")
    assert torch.equal(fresh[1:2], Fresh([1], SHAPE, prior)(3, "churn"))


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_frames_are_the_same_in_chunks_and_alone(prior):
    """A film's beginning does not know how long it will be; a film without end is the same film."""
    white = draw([3, 5], SHAPE)
    film = prior.mix(white)
    for frames in range(1, SHAPE[1]):
        assert torch.equal(prior.mix(white[:, :, :frames]), film[:, :, :frames])
    without_end = prior.endless([3, 5], (2, 3, 5))
    chunks = [torch.stack(list(islice(without_end, frames)), dim=2) for frames in (1, 4, 2, 6)]
    again = torch.stack(list(islice(prior.endless([3, 5], (2, 3, 5)), 13)), dim=2)
    assert torch.equal(torch.cat(chunks, dim=2), again)
    assert torch.equal(again[1], torch.stack(list(islice(prior.endless([5], (2, 3, 5)), 13)), dim=2)[0])
    frames = torch.stack(list(islice(endless([3, 5], (2, 3, 5)), 13)), dim=2)
    assert torch.equal(again, prior.mix(frames))


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_the_dtype_and_the_device_do_not_change_the_film(prior):
    film = prior.draw([3], SHAPE)
    assert torch.equal(prior.draw([3], SHAPE, dtype=torch.float64), film.double())
    assert torch.equal(prior.draw([3], SHAPE, dtype=torch.bfloat16), film.bfloat16())
    assert prior.draw([3], SHAPE, device="meta").shape == film.shape
    assert prior.mix(draw([3], SHAPE).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_the_global_generator_is_left_alone(prior):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    prior.draw([5], SHAPE)
    Fresh([5], SHAPE, prior)(1, "churn")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_drawn_noise_has_the_covariance(prior):
    """Across 4000 seeds, within 4 standard errors; for Reuse that is over the shuffles too."""
    n, frames = 4000, 12
    values = prior.draw(range(n), (1, frames, 1, 1)).double().flatten(1)
    measured, stated = values.T @ values / n, prior.covariance(frames)
    # Var(x y) is 1 + r^2 for Gaussian pairs; for Reuse it is at most E x^2 y^2 = 1 + 2 / stride.
    variance = 1 + (2 * stated if isinstance(prior, Reuse) else stated**2)
    assert ((measured - stated).abs() < 4 * (variance / n).sqrt()).all()
    assert (values.mean(dim=0).abs() < 4 / n**0.5).all()


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_pixels_channels_and_samples_stay_independent(prior):
    values = prior.draw(range(300), (2, 4, 2, 2)).double()
    pixels = rearrange(values, "b c f h w -> (c h w) f b")
    for one, other in [(0, 1), (0, 4), (2, 7)]:
        products = pixels[one] * pixels[other]
        assert abs(products.mean(dim=1)).max() < 4 / 300**0.5
    neighbours = (values[1:] * values[:-1]).mean(dim=(0, 1, 3, 4))
    # A frame pair's products over the samples are uncorrelated, whatever the frames share.
    assert neighbours.abs().max() < 4 / (299 * 8) ** 0.5


@pytest.mark.parametrize("frames", [16, 32, 37])
def test_every_aligned_window_holds_the_noises_of_the_first(frames):
    film = Reuse().draw([11], (2, frames, 3, 3))[0]
    first = {frame.flatten()[0].item(): frame for frame in film[:, :16].unbind(1)}
    assert torch.equal(film[:, :16], draw([11], (2, frames, 3, 3))[0, :, :16])
    for start in range(0, frames - 15, 4):
        window = film[:, start : start + 16].unbind(1)
        assert {frame.flatten()[0].item() for frame in window} == set(first)
        assert all(torch.equal(first[frame.flatten()[0].item()], frame) for frame in window)
    for frame in range(16, frames):
        group = frame - frame % 4 - 16
        assert any(torch.equal(film[:, frame], film[:, group + place]) for place in range(4))


def test_shuffles_differ_by_seed_and_every_order_comes():
    orders = set()
    for film in Reuse(window=3, stride=3).draw(range(200), (1, 6, 1, 1)).flatten(1):
        orders.add(tuple((film[:3] == one).nonzero().item() for one in film[3:]))
    assert len(orders) == 6


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_fresh_noise_is_a_function_of_seed_step_and_purpose(prior):
    fresh = Fresh([3, 8], SHAPE, prior)
    assert torch.equal(fresh(2, "churn"), fresh(2, "churn"))
    assert torch.equal(fresh(2, "churn")[:1], prior.draw([stream(3, "churn 2")], SHAPE))
    looks = [fresh(step, purpose) for step in (1, 2, 12) for purpose in ("churn", "corrector")]
    assert len({look[0, 0, 0, 0, 0].item() for look in [*looks, prior.draw([3, 8], SHAPE)]}) == 7
    assert Fresh([3], SHAPE, prior, dtype=torch.float64)(2, "churn").dtype == torch.float64


@pytest.mark.parametrize("prior", GAUSSIAN[1:], ids=str)
@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine()], ids=["straight", "cosine"])
@pytest.mark.parametrize("sampler", [Euler(), Heun(), Multistep2()], ids=["euler", "heun", "multistep2"])
def test_noise_of_a_covariance_is_white_noise_on_whitened_films(prior, schedule, sampler):
    """x with noise of covariance L L^T is L times L^-1 x with white noise, through a whole sampling."""
    frames = 6
    data = Progressive(5.0).covariance(frames)
    mean = torch.linspace(-1, 2, frames, dtype=torch.float64)
    matrix = root(prior, frames)
    inverse = torch.linalg.inv(matrix)
    correlated = GaussianDenoiser(mean, data, schedule, noise=prior.covariance(frames))
    whitened = GaussianDenoiser(inverse @ mean, inverse @ data @ inverse.T, schedule)
    white, plan = draw([1, 2], (1, frames, 2, 1), dtype=torch.float64), full_sequence(7, frames)
    *_, one = sample(correlated, prior.mix(white), plan=plan, sampler=sampler)
    *_, other = sample(whitened, white, plan=plan, sampler=sampler)
    back = torch.einsum("f g, b c g h w -> b c f h w", matrix, other.clean)
    torch.testing.assert_close(one.clean, back, atol=1e-10, rtol=0)


def test_white_noise_as_a_covariance_is_no_covariance():
    noisy, t = draw([1], (1, 5, 2, 2), dtype=torch.float64), torch.linspace(0.1, 1, 5).double()[None]
    plain, told = (
        GaussianDenoiser(torch.zeros(5), Progressive().covariance(5), noise=noise)
        for noise in (None, Independent().covariance(5))
    )
    torch.testing.assert_close(plain(noisy, t, None), told(noisy, t, None), atol=1e-13, rtol=0)


@pytest.mark.parametrize("make", [lambda: Mixed(-1.0), lambda: Progressive(math.nan)])
def test_less_than_nothing_shared_is_refused(make):
    with pytest.raises(Refusal, match="must be at least 0"):
        make()


@pytest.mark.parametrize(("window", "stride"), [(4, 3), (4, 0), (2, 4), (0, 1)])
def test_windows_of_broken_strides_are_refused(window, stride):
    with pytest.raises(Refusal, match=f"window {window}, stride {stride}"):
        Reuse(window, stride)


@pytest.mark.parametrize(
    ("settings", "prior"),
    [
        ({}, Independent()), ({"name": "mixed"}, Mixed(1.0)), ({"name": "mixed", "a": 3.0}, Mixed(3.0)),
        ({"name": "progressive"}, Progressive(2.0)), ({"name": "progressive", "a": 0.5}, Progressive(0.5)),
        ({"name": "reuse"}, Reuse(16, 4)),
    ],
)  # fmt: skip
def test_priors_by_name(settings, prior):
    made = PriorSettings(**settings)
    assert made.prior() == prior and PriorSettings(**made.model_dump(mode="json")) == made


@pytest.mark.parametrize(("window", "whole"), [(13, (12, 4)), (8, (8, 4)), (3, (3, 3)), (1, (1, 1))])
def test_noise_is_used_again_in_whole_strides(window, whole):
    assert PriorSettings(name="reuse").prior(window=window) == Reuse(*whole)


@pytest.mark.parametrize("wrong", [{"name": "reuse", "a": 1.0}, {"a": 1.0}, {"name": "mixed", "a": -1.0}])
def test_numbers_that_a_prior_does_not_take_are_refused(wrong):
    with pytest.raises(ValueError, match=r"only mixed and progressive|greater than"):
        PriorSettings(**wrong)
