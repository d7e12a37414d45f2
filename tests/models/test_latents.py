"""What autoencoders agree on: the posterior, padding and cropping, and statistics per channel."""

import pytest
import torch
from torch.nn import functional as F

from mutoscope.models.latents import (
    LOGVAR_RANGE,
    Posterior,
    check_channels,
    check_crop,
    check_statistics,
    cropped,
    padded_to_multiple,
    posterior_of,
    statistics,
)
from mutoscope.video import Refusal


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_the_posterior_is_a_gaussian():
    posterior = Posterior(noise(1, 2, 3, 4, 4), noise(1, 2, 3, 4, 4, seed=1))
    given = torch.distributions.Normal(posterior.mean, posterior.std)
    close(posterior.kl(), torch.distributions.kl_divergence(given, torch.distributions.Normal(0.0, 1.0)))
    close(posterior.sample(torch.zeros_like(posterior.mean)), posterior.mode())
    drawn = [posterior.sample(generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_moments_are_means_then_clamped_log_variances():
    moments = 100 * noise(1, 6, 2, 3, 3)
    posterior = posterior_of(moments)
    assert torch.equal(posterior.mean, moments[:, :3])
    assert (posterior.logvar.min(), posterior.logvar.max()) == LOGVAR_RANGE


@pytest.mark.parametrize("height, width", [(8, 16), (7, 16), (8, 9), (1, 1)])
def test_padding_repeats_the_edge_and_cropping_takes_it_off(height, width):
    x = noise(2, 3, 2, height, width)
    wide = padded_to_multiple(x, 8)
    assert wide.shape[3] % 8 == wide.shape[4] % 8 == 0
    assert torch.equal(cropped(wide, (width, height)), x)
    assert torch.equal(wide, F.pad(x, (0, -width % 8, 0, -height % 8, 0, 0), mode="replicate"))


def test_whole_pictures_are_not_copied():
    x = noise(1, 3, 1, 8, 8)
    assert padded_to_multiple(x, 8) is x and cropped(x, None) is x


@pytest.mark.parametrize("size", [(17, 8), (8, 8), (16, 0), (16, 9)])
def test_sizes_that_these_latents_do_not_come_from_are_refused(size):
    with pytest.raises(Refusal, match="16x8"):
        check_crop(noise(1, 4, 1, 1, 2), size, stride=8)
    check_crop(noise(1, 4, 1, 1, 2), (9, 1), stride=8)


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (1, 4, 2, 8, 8), (1, 3, 0, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(Refusal, match="b c f h w with c = 3"):
        check_channels(torch.zeros(shape), 3, what="pixels")
    check_channels(torch.zeros(1, 3, 1, 1, 1), 3, what="pixels")


def test_statistics_stand_beside_the_channels():
    mean, std = statistics(noise(1, 2, 1, 1, 1), mean=(1.0, 2.0), std=())
    assert mean.flatten().tolist() == [1, 2] and std.flatten().tolist() == [1, 1]
    assert mean.dtype == torch.float64 and mean.shape == (2, 1, 1, 1)


@pytest.mark.parametrize(
    "mean, std, words",
    [((0.0,), (), "latents_mean has 1"), ((), (1.0,) * 3, "latents_std has 3"), ((), (1.0, 0.0), "above 0")],
)
def test_statistics_that_fit_nothing_are_errors(mean, std, words):
    with pytest.raises(ValueError, match=words):
        check_statistics(2, mean=mean, std=std)
