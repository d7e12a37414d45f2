"""E2: noise that frames share, where frames are alike (AR(1), 0.98 from frame to frame, 16 frames).

DDIM on the cosine schedule, with the exact denoiser of each prior: how far the sampled films are from the
true ones (W2 squared), and how much of the change from frame to frame they have. The reference does not say
at how many steps the gain for films of variance 0.25 is 1.2 to 1.35; here it is over 8, 16 and 32.
I19: what FreeInit's published mixing keeps of the variance, and what its published ideal filter passes.
"""

from collections.abc import Iterator

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.drawings.gaussian import affine, ar1, w2
from mutoscope.diffusion.frequency import LowPass
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import Independent, Mixed, Prior, Progressive
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import Cosine

__all__ = ["distance", "rows", "sampled"]

FRAMES = 16
TRUTH = ar1(0.98, FRAMES)
PRIORS = {"independent": Independent(), "mixed a=1": Mixed(1.0), "progressive a=2": Progressive(2.0)}
DISTANCES = {8: (1.191, 0.378, 0.366), 16: (0.332, 0.102, 0.098), 32: (0.0885, 0.0265, 0.0255)}
CHANGES = (0.60, 0.69, 0.81)


def sampled(prior: Prior, steps: int, *, variance: float = 1.0) -> Tensor:
    """Covariance "f f" of what `steps` steps make of the prior's noise, for films of this variance."""
    noise = prior.covariance(FRAMES)
    denoiser = GaussianDenoiser(torch.zeros(FRAMES), variance * TRUTH, Cosine(), noise=noise)

    def run(start: Tensor) -> Tensor:
        *_, last = sample(denoiser, start, plan=full_sequence(steps, FRAMES))
        return last.clean

    return affine(run, FRAMES).covariance(noise)


def distance(prior: Prior, steps: int, *, variance: float = 1.0) -> float:
    """W2 squared from the sampled films to the true ones."""
    mean = torch.zeros(FRAMES, dtype=torch.float64)
    return w2(mean, sampled(prior, steps, variance=variance), to_mean=mean, to_covariance=variance * TRUTH)


def rows() -> list[Row]:
    return [*_distances(), *_changes(), *_gains(), *_modes(), *_frequencies()]


def _distances() -> Iterator[Row]:
    for steps, stated in DISTANCES.items():
        for (name, prior), value in zip(PRIORS.items(), stated, strict=True):
            yield Row("E2", f"W2^2, {name}, {steps} steps", value, distance(prior, steps))


def _changes() -> Iterator[Row]:
    for (name, prior), value in zip(PRIORS.items(), CHANGES, strict=True):
        share = _change(sampled(prior, 16)) / _change(TRUTH)
        yield Row("E2", f"frame-difference energy over the truth's, {name}, 16 steps", value, share)


def _change(covariance: Tensor) -> float:
    """The mean square of one frame less the next."""
    ahead, both = covariance.diagonal(), covariance.diagonal(offset=1)
    return float((ahead[1:] + ahead[:-1] - 2 * both).mean())


def _gains() -> Iterator[Row]:
    gains = [
        distance(Independent(), steps, variance=0.25) / distance(prior, steps, variance=0.25)
        for steps in DISTANCES
        for prior in (Mixed(1.0), Progressive(2.0))
    ]
    yield Row(
        "E2", "least gain over independent noise, films of variance 0.25, 8 to 32 steps", 1.2, min(gains)
    )
    yield Row(
        "E2", "most gain over independent noise, films of variance 0.25, 8 to 32 steps", 1.35, max(gains)
    )


def _modes() -> Iterator[Row]:
    values = torch.linalg.eigvalsh(Mixed(1.0).covariance(FRAMES))
    yield Row("E2", "eigenvalue of the mean of 16 frames, mixed a=1", 8.5, float(values[-1]))
    yield Row("E2", "eigenvalue of differences of 16 frames, mixed a=1", 0.5, float(values[0]))


def _frequencies() -> Iterator[Row]:
    size = (16, 64, 64)
    for keep, stated in ((LowPass("gaussian"), 0.960), (LowPass("butterworth"), 0.992)):
        low = keep(size)
        left = float((low**2 + (1 - low) ** 2).mean())
        yield Row("I19", f"variance left by L x + (1 - L) n, {keep.shape}, 16x64x64", stated, left)
    for edge, stated in ((0.5**0.5, 18.5), (0.25, 0.75)):
        passed = 100 * float(LowPass("ideal", space=edge, time=edge)(size).mean())
        test = "d^2 <= 2 d_s (published)" if edge > 0.5 else "d <= d_s"
        yield Row("I19", f"% of bins an ideal filter passes by {test}, d_s = 0.25, 16x64x64", stated, passed)
