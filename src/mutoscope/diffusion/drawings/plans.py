"""Drawings of who is made when: `plan`, `rolling` and `windows`."""

from itertools import islice
from typing import Any, get_args

import torch
from torch import Tensor

from mutoscope.diffusion import windows as over
from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure, Heat
from mutoscope.diffusion.drawings.gaussian import Stationary, affine, correlations
from mutoscope.diffusion.plan import Kind, full_sequence, planned, uniform
from mutoscope.diffusion.prior import Independent, Prior, Reuse
from mutoscope.diffusion.rolling import Partitioned, Window
from mutoscope.diffusion.rolling import rolling as roll
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine

RHO, SEEN = 0.95, 8


def plan() -> Figure:
    """every kind of plan: 13 frames, 4 steps a frame, from noise (dark) down to clean (blank)."""
    plans = {kind: planned(kind, uniform(4), 13) for kind in get_args(Kind)}
    plans["full, ends known"] = plans["full"].knowing([0, -1])
    return Figure(
        "Plans: the noise level of every frame, step by step",
        [Heat(f"{name}, {each.steps} steps", "frame", "step", each.times) for name, each in plans.items()],
    )


def rolling() -> Figure:
    """a window that slides over a film without end, and what is lost where a queue is seen in parts."""
    lags = torch.arange(17, dtype=torch.float64)
    kept = [Curve("the film itself", lags, RHO**lags, "dashes", 7)]
    kept += [
        Curve(
            f"{parts} part{'s' * (parts > 1)}{', lookahead' * ahead}",
            lags,
            _correlation(parts, lookahead=ahead),
        )
        for parts, ahead in ((1, False), (2, False), (2, True))
    ]
    return Figure(
        "Rolling: levels of a film's frames, move by move, and the correlation that parts keep",
        [
            Heat("window 6, 1 move a slide", "frame", "move", _levels(Window(6), frames=14)),
            Heat("window 4, 3 moves a slide", "frame", "move", _levels(Window(4, steps=3), frames=14)),
            Curves("exact for 8 frames, in a queue", "frames apart", "correlation", kept),
        ],
    )


def _levels(window: Window, *, frames: int) -> Tensor:
    """The levels of every frame at every look: a denoiser that guesses nothing writes them down."""
    rows, done = [], 0

    class Watching:
        schedule = STRAIGHT

        def __call__(self, noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
            row = (torch.arange(frames) >= done).double()
            seen = t[0, : frames - done].double()
            row[done : done + len(seen)] = seen
            rows.append(row)
            return noisy

    for frame in roll(Watching(), torch.zeros(frames, 1, 1, 1, 1), window=window):
        done += len(frame)
    return torch.stack(rows)


def _correlation(parts: int, *, lookahead: bool) -> Tensor:
    """Of frames 0 to 16 apart, once the queue has been through once."""
    denoiser = Partitioned(Stationary(RHO, Cosine()), SEEN, lookahead=lookahead)
    window, begin = Window(parts * SEEN, context=SEEN // 2 if lookahead else 0), parts * SEEN
    frames = begin + 24

    def run(noise: Tensor) -> Tensor:
        return torch.stack([*islice(roll(denoiser, noise.unbind(2), window=window), frames)], dim=2)

    return correlations(affine(run, frames + window.frames).covariance()[begin:, begin:])[:17]


def windows() -> Figure:
    """how windows share a long film, and how alike far frames come out with and without noise used again."""
    shares = over.fusion(32, window=16, stride=4)
    frames, lags = torch.arange(32, dtype=torch.float64), torch.arange(25, dtype=torch.float64)
    alike = [Curve("the film itself", lags, RHO**lags, "dashes", 7)]
    ways = {
        "apart": (8, Independent()),
        "every 4": (4, Independent()),
        "every 4, Reuse(8, 4)": (4, Reuse(8, 4)),
    }
    alike += [Curve(name, lags, _fused(stride, each)[:25]) for name, (stride, each) in ways.items()]
    return Figure(
        "Windows: how much of each frame is each window's guess, and what is alike afterwards",
        [
            Heat("shares: window 16, stride 4", "frame", "window", shares),
            Curves(
                "the same, one curve a window", "frame", "share", [Curve("", frames, each) for each in shares]
            ),
            Curves("exact for 8 frames, in windows of 8", "frames apart", "correlation", alike),
        ],
    )


def _fused(stride: int, each: Prior, *, frames: int = 32, steps: int = 24) -> Tensor:
    """Correlations of long films by windows of 8."""
    denoiser = over.Windowed(Stationary(RHO), SEEN, stride)

    def run(noise: Tensor) -> Tensor:
        *_, last = sample(denoiser, noise, plan=full_sequence(steps, frames))
        return last.clean

    return correlations(affine(run, frames).covariance(each.covariance(frames)))
