"""What a sampler does to Gaussian films, exactly.

With a linear denoiser a deterministic sampler is an affine map of its starting noise,

    film = A noise + b,    so the films are N(b, A K A^T) for noise of covariance K,

and A is found by sampling the unit vectors once, as a batch. Films are "b 1 f 1 1" in float64. The drawings
measure with it, and so do the exact experiments of `benchmarks/exact`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.schedule import STRAIGHT, Schedule


@dataclass(frozen=True, eq=False)
class Affine:
    """film = matrix @ noise + offset; matrix "f n", offset "f"."""

    matrix: Tensor
    offset: Tensor

    def covariance(self, noise: Tensor | None = None) -> Tensor:
        """Of the films, "f f", where the noise has covariance `noise` (white if None)."""
        return self.matrix @ self.matrix.T if noise is None else self.matrix @ noise @ self.matrix.T


def affine(run: Callable[[Tensor], Tensor], frames: int) -> Affine:
    """The map that `run` is, from films "b 1 f 1 1" to films of any number of frames."""
    units = torch.cat([torch.zeros(1, frames), torch.eye(frames)]).double()
    films = rearrange(run(rearrange(units, "b f -> b 1 f 1 1")), "b 1 f 1 1 -> b f")
    return Affine((films[1:] - films[0]).T, films[0])


class Alike(GaussianDenoiser):
    """For batches whose films are all at the same times: one matrix for all."""

    def _gain(self, t: Tensor) -> Tensor:
        return super()._gain(t[:1]).expand(len(t), -1, -1)


@dataclass(frozen=True)
class Stationary:
    """Exact for any number of frames of an endless AR(1) film, `rho` from frame to frame."""

    rho: float
    schedule: Schedule = STRAIGHT

    def __call__(self, noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        frames = noisy.shape[2]
        return Alike(torch.zeros(frames), ar1(self.rho, frames), self.schedule)(noisy, t, condition)


def ar1(rho: float, frames: int) -> Tensor:
    """Covariance rho^|i - j| "f f", float64."""
    place = torch.arange(frames, dtype=torch.float64)
    return rho ** (place[:, None] - place).abs()


def correlations(covariance: Tensor) -> Tensor:
    """The mean correlation of frames 0, 1, 2, ... apart."""
    scale = covariance.diagonal().rsqrt()
    alike = covariance * scale * scale[:, None]
    return torch.stack([alike.diagonal(lag).mean() for lag in range(len(alike))])


def w2(mean: Tensor, covariance: Tensor, *, to_mean: Tensor, to_covariance: Tensor) -> float:
    """Squared 2-Wasserstein distance of two Gaussians:

    |m - n|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)
    """
    root = _root(covariance)
    cross = _root(root @ to_covariance @ root)
    return float((mean - to_mean).square().sum() + (covariance + to_covariance - 2 * cross).trace())


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
