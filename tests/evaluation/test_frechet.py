"""The Fréchet distance against closed forms and its laws, and what the number of samples does to it."""

import math

import pytest
import torch
from torch import Tensor

from mutoscope.evaluation.frechet import Gaussian, floor, frechet_distance, gaussian_distance
from mutoscope.video import Refusal


def normal(n: int, d: int, *, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(d: int, *, seed: int) -> Tensor:
    root = normal(d, d, seed=seed)
    return root @ root.T / d


@pytest.mark.oracle
def test_one_dimension_has_a_closed_form() -> None:
    one = Gaussian(torch.tensor([1.0]).double(), torch.tensor([[4.0]]).double())
    other = Gaussian(torch.tensor([-2.0]).double(), torch.tensor([[0.25]]).double())
    assert gaussian_distance(one, other) == pytest.approx(3**2 + (2 - 0.5) ** 2, abs=1e-12)


@pytest.mark.oracle
def test_commuting_covariances_have_a_closed_form() -> None:
    turn = torch.linalg.qr(normal(6, 6))[0]
    first, second = torch.arange(1, 7).double(), torch.tensor([3.0, 0, 1, 7, 2, 0.5]).double()
    mean = normal(2, 6, seed=1)
    one = Gaussian(mean[0], turn @ first.diag() @ turn.T)
    other = Gaussian(mean[1], turn @ second.diag() @ turn.T)
    expected = (mean[0] - mean[1]).square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    # a variance of 0 is found as 1e-16, and its root as 1e-8
    assert gaussian_distance(one, other) == pytest.approx(float(expected), rel=1e-7)


@pytest.mark.oracle
def test_trace_of_the_root_is_that_of_the_unsymmetric_product() -> None:
    """tr (C1 C2)^1/2 from the eigenvalues of C1 C2 itself: real, though it is not symmetric."""
    one, other = covariance(5, seed=1), covariance(5, seed=2)
    roots = torch.linalg.eigvals(one @ other).real.sqrt().sum()
    expected = one.trace() + other.trace() - 2 * roots
    zero = torch.zeros(5).double()
    assert gaussian_distance(Gaussian(zero, one), Gaussian(zero, other)) == pytest.approx(
        float(expected), rel=1e-9
    )


def test_a_set_is_at_distance_zero_from_itself_in_any_order() -> None:
    features = normal(50, 8)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-10)


def test_it_is_symmetric_and_blind_to_rotation() -> None:
    one, other = normal(60, 7), 2 * normal(80, 7, seed=1) + 1
    distance = frechet_distance(one, other)
    assert frechet_distance(other, one) == pytest.approx(distance, rel=1e-9)
    turn = torch.linalg.qr(normal(7, 7, seed=2))[0]
    assert frechet_distance(one @ turn, other @ turn) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(3 * one + 5, 3 * other + 5) == pytest.approx(9 * distance, rel=1e-9)


def test_a_moved_set_is_its_squared_way_off() -> None:
    features = normal(40, 4)
    assert frechet_distance(features, features + 0.5) == pytest.approx(4 * 0.25, rel=1e-9)


def test_fewer_samples_than_dimensions_still_give_a_number() -> None:
    distance = frechet_distance(normal(5, 64), normal(5, 64, seed=1))
    assert math.isfinite(distance) and distance > 0


def test_few_samples_bias_it_upwards() -> None:
    """Two sets of one distribution: the fewer the samples, the further apart, about as one over n."""
    means = [
        sum(frechet_distance(normal(n, 8, seed=2 * k), normal(n, 8, seed=2 * k + 1)) for k in range(10)) / 10
        for n in (40, 160, 640)
    ]
    assert means[0] > 2.5 * means[1] > 6 * means[2] > 0


def test_the_floor_is_that_of_disjoint_halves() -> None:
    features = normal(400, 8)
    small, large = floor(features, size=50, draws=8), floor(features, size=200, draws=8)
    assert len(small) == 8 and min(small) > max(large) > 0
    assert floor(features, size=50, draws=3, seed=5) == floor(features, size=50, draws=3, seed=5)
    doubled = torch.cat([features[:50], features[:50] + 10])
    assert max(floor(doubled, size=50, draws=4)) < frechet_distance(doubled[:50], doubled[50:])


def test_single_precision_features_are_measured_in_double() -> None:
    features = normal(100, 4).float() * 1e-3 + 100  # a spread that float32 squares would lose
    spread = Gaussian.of(features).covariance.diagonal().sqrt()
    assert spread.dtype == torch.float64
    torch.testing.assert_close(spread, torch.full((4,), 1e-3).double(), rtol=0.3, atol=0)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), "2 or more"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "3 and of 2"),
        (torch.full((4, 3), torch.nan), torch.zeros(4, 3), "NaN"),
    ],
)
def test_what_cannot_be_measured_is_refused(one: Tensor, other: Tensor, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        frechet_distance(one, other)


def test_a_floor_needs_twice_its_size() -> None:
    with pytest.raises(Refusal, match="need 20"):
        floor(normal(19, 2), size=10)
