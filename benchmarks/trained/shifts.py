"""At which shift of the steps a film comes out best, and how that grows with its number of frames.

What all frames share is readable from T frames at sqrt(T) times the noise, so the steps should lie there:
for films that stand still the best shift should grow as sqrt(T), and less where frames differ. One network a
seed learns films of 1, 4 and 16 frames, still and moving, told which; only the plan of the sampler differs.

The same is done without a network for Gaussian films whose frames are equal (still) or alike by 0.7 from one
to the next (moving), of the variance of the discs' pixels: what Euler's steps alone ask for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, log

import torch
from benchmarks.trained.discs import Discs, Sample
from benchmarks.trained.experiment import Arms, Comparison, Experiment, Outcome
from benchmarks.trained.features import distance
from benchmarks.trained.learner import DiscTask, Scale, clock, learned, longer, seeded
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser, GaussianDenoiser
from mutoscope.diffusion.drawings.gaussian import affine, ar1, w2
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.objective import TrainingTimes
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.sampler import sample

__all__ = ["EXPERIMENT", "lowest"]

SHIFTS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
LOWER = (0.25, 0.35, 0.5)
"""Where exact films of one frame come out best; only they are tried there."""
LENGTHS = (1, 4, 16)
CONTENTS = ("still", "moving")
STEPS = 8
UNSEEN = 5 * 10**6
VARIANCE, ALIKE = 0.25, 0.7


@dataclass(eq=False)
class LengthsTask(DiscTask):
    """A step is of one length; half of its films stand still, and a film's kind says which."""

    longest: int = 16

    def films(self, step: int, *, device: torch.device) -> Sample:
        length = LENGTHS[step % len(LENGTHS)]
        # As many frames a step, whatever their length, but no more than four times the films.
        count = self.batch * min(4, max(1, self.discs.frames // length))
        halves = [
            _discs(self.discs, content, length).draw(
                2 * (self.seed * 10**6 + step) + which, count // 2, device=device
            )
            for which, content in enumerate(CONTENTS)
        ]
        kind = torch.arange(2).repeat_interleave(count // 2)
        whole = [torch.cat(pair) for pair in zip(*((s.video, s.speed, s.place) for s in halves), strict=True)]
        return Sample(whole[0], kind, whole[1], whole[2])


def run(unit: str, scale: Scale, seed: int) -> Outcome:
    if unit == "exact":
        return _exact(scale)
    scale = longer(scale, 1.5)
    times = TrainingTimes(shift=3.0, std=1.7)
    task = LengthsTask(seeded(scale, seed), scale.discs, scale.batch, seed, times=times, unconditional=0.0)
    trained = learned(task, scale, seed=seed)
    began, arms = clock(scale), {}
    for (which, content), length in product(enumerate(CONTENTS), LENGTHS):
        found = _distances(
            trained.denoiser, _discs(scale.discs, content, length), kind=which, scale=scale, seed=seed
        )
        arms[_arm(content, length)] = _told(found)
    return Outcome(trained.seconds, clock(scale) - began, arms)


def _discs(discs: Discs, content: str, length: int) -> Discs:
    return Discs(discs.size, length, speed=(0.0, 0.0) if content == "still" else discs.speed)


def _arm(content: str, length: int) -> str:
    return f"{content}, {length} frame{'s' if length > 1 else ''}"


def _distances(denoiser: Denoiser, discs: Discs, *, kind: int, scale: Scale, seed: int) -> dict[float, float]:
    """Distance to true films by shift, the same noise for all."""
    films = scale.films // (2 if discs.frames > scale.frames else 1)
    true = discs.draw(UNSEEN + seed, scale.films, device=scale.device).video
    noise = draw(
        range(seed * films, (seed + 1) * films),
        (3, discs.frames, discs.size, discs.size),
        device=scale.device,
    )
    told = torch.full((films,), kind, device=scale.device)
    return {shift: distance(_made(denoiser, noise, shift=shift, told=told), true) for shift in SHIFTS}


def _made(denoiser: Denoiser, noise: Tensor, *, shift: float, told: Tensor | None = None) -> Tensor:
    plan = full_sequence(STEPS, noise.shape[2], shift=shift)
    *_, last = sample(denoiser, noise, plan=plan, condition=told)
    return last.clean


def _told(found: Mapping[float, float]) -> dict[str, float]:
    return {
        "best shift": lowest(list(found), list(found.values())),
        "distance there": min(found.values()),
        "at shift 1": found[1.0],
        "at shift 8": found[8.0],
    }


def lowest(shifts: Sequence[float], values: Sequence[float]) -> float:
    """Where a parabola through the lowest value and its neighbours, in logarithms, is lowest; an end if the
    lowest value is there."""
    at = min(range(len(values)), key=values.__getitem__)
    if at in (0, len(values) - 1):
        return shifts[at]
    (x0, x1, x2), (y0, y1, y2) = ([log(v) for v in row[at - 1 : at + 2]] for row in (shifts, values))
    below, above = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    return exp((x0 + x1) / 2 - below * (x2 - x0) / 2 / (above - below))


def _exact(scale: Scale) -> Outcome:
    """W2^2 a frame for Gaussian films."""
    began, arms = clock(scale), {}
    for content, length in product(CONTENTS, LENGTHS):
        truth = VARIANCE * ar1(1.0 if content == "still" else ALIKE, length)
        zero = torch.zeros(length, dtype=torch.float64)
        denoiser = GaussianDenoiser(zero, truth)
        found = {
            shift: w2(zero, _covariance(denoiser, length, shift), to_mean=zero, to_covariance=truth) / length
            for shift in (*LOWER, *SHIFTS)
        }
        arms[f"exact {_arm(content, length)}"] = _told(found)
    return Outcome(0.0, clock(scale) - began, arms)


def _covariance(denoiser: GaussianDenoiser, length: int, shift: float) -> Tensor:
    return affine(lambda noise: _made(denoiser, noise, shift=shift), length).covariance()


def _growth(arms: Arms, content: str, *, of: str = "") -> float:
    ends = (arms[of + _arm(content, length)]["best shift"] for length in (LENGTHS[-1], LENGTHS[0]))
    return next(ends) / next(ends)


EXPERIMENT = Experiment(
    name="shifts",
    title="The best shift of the steps against the number of frames",
    published="nothing for frames alone; Open-Sora 1.2 shifts by their square root. Expected: the best "
    "shift grows with the frames, about as their root (4 from 1 to 16) for still films, less for "
    "moving ones.",
    units=("exact", "trained"),
    run=run,
    comparisons=(
        Comparison(
            "exact still films: best shift of 16 frames over that of 1",
            "2 to 8",
            lambda a: _growth(a, "still", of="exact "),
            2.0,
            8.0,
        ),
        Comparison(
            "still films: best shift of 16 frames over that of 1",
            "2 to 8",
            lambda a: _growth(a, "still"),
            2.0,
            8.0,
        ),
        Comparison("moving films: the same", "above 1", lambda a: _growth(a, "moving"), 1.0),
        Comparison(
            "growth of still over that of moving films",
            "above 1",
            lambda a: _growth(a, "still") / _growth(a, "moving"),
            1.0,
        ),
    ),
    remark="For the exact denoiser the best shift of still films is 0.5, 1 and 2 for 1, 4 and 16 frames: the"
    " root of the frames to the last digit shown. The trained network does not show it: what it gets "
    "wrong outweighs what eight steps do, and its distance stays within 1.6 times its least from "
    "shift 1 to 8.",
)
