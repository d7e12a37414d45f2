"""The Fréchet distance between two sets of features, as if each were a Gaussian.

    d^2 = |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1^1/2 C2 C1^1/2)^1/2)          (Dowson & Landau 1982)

Everything in float64 by symmetric eigen-decomposition: no general matrix root, no imaginary parts to throw
away. The estimate is biased upwards, the more so the fewer the samples, so a distance says little beside
zero and much beside the distance between two sets of *true* clips of the same size: the floor.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.video import Refusal

__all__ = ["Gaussian", "floor", "frechet_distance", "gaussian_distance"]


@dataclass(frozen=True)
class Gaussian:
    """Mean "d" and covariance "d d", float64."""

    mean: Float[Tensor, "d"]
    covariance: Float[Tensor, "d d"]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "Gaussian":
        """Mean and unbiased covariance of at least two finite samples.

        Raises:
            Refusal: fewer than two samples, or values that are not finite.
        """
        if features.ndim != 2 or len(features) < 2:
            raise Refusal(
                f"features of shape {tuple(features.shape)}; a covariance needs (2 or more, dimension)"
            )
        if not bool(torch.isfinite(features).all()):
            raise Refusal(
                "the features hold NaN or infinity; the network that made them, or a clip, is broken"
            )
        samples = features.detach().double().cpu()
        mean = samples.mean(0)
        centred = samples - mean
        return cls(mean, centred.T @ centred / (len(samples) - 1))


def gaussian_distance(one: Gaussian, other: Gaussian) -> float:
    """The squared Fréchet distance between two Gaussians, the number known as FID or FVD; at least 0."""
    root = _root(one.covariance)
    inner = root @ other.covariance @ root
    shared = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    moved = (one.mean - other.mean).square().sum()
    distance = moved + one.covariance.trace() + other.covariance.trace() - 2 * shared
    return max(0.0, float(distance))  # equal sets: rounding may leave -1e-12


def frechet_distance(one: Float[Tensor, "n d"], other: Float[Tensor, "m e"]) -> float:
    """The squared Fréchet distance between two sets of features.

    Raises:
        Refusal: see `Gaussian.of`; or the dimensions differ.
    """
    if one.shape[-1] != other.shape[-1]:
        raise Refusal(
            f"features of {one.shape[-1]} and of {other.shape[-1]} dimensions; use one probe for both sets"
        )
    return gaussian_distance(Gaussian.of(one), Gaussian.of(other))


def floor(features: Float[Tensor, "n d"], *, size: int, draws: int = 10, seed: int = 0) -> list[float]:
    """True against true: distances between disjoint random subsets of `size` samples each, one per draw.

    Raises:
        Refusal: the set has fewer than twice `size` samples.
    """
    if size < 2 or len(features) < 2 * size:
        raise Refusal(f"{len(features)} samples; two disjoint sets of {size} need {max(4, 2 * size)}")
    generator = torch.Generator().manual_seed(seed)
    halves = [
        torch.randperm(len(features), generator=generator)[: 2 * size].split(size) for _ in range(draws)
    ]
    return [frechet_distance(features[first], features[second]) for first, second in halves]


def _root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The symmetric root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
