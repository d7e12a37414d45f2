"""E5: FIFO-Diffusion with a denoiser that is exact for frames at levels of their own.

Endless AR(1) films, 0.95 from frame to frame, so frames 8 apart correlate by 0.663. The model is exact, but
sees 8 frames at a time. A queue of 8 is one part; longer queues are cut into parts that are seen alone, or
with lookahead. Each iteration moves every frame of the queue one step down the cosine schedule's grid.
"""

from itertools import islice

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.drawings.gaussian import Affine, Stationary, affine, correlations
from mutoscope.diffusion.rolling import Partitioned, Window, rolling
from mutoscope.diffusion.schedule import Cosine

__all__ = ["correlation", "films", "rows"]

RHO, SEEN, LAG = 0.95, 8, 8
STATED = {(1, False): 0.63, (2, False): 0.37, (4, False): 0.23, (2, True): 0.50, (4, True): 0.34}


def films(parts: int, *, lookahead: bool, frames: int, steps: int = 1) -> Affine:
    """The first `frames` frames as a map of the noise, which is that many and the queue behind them."""
    denoiser = Partitioned(Stationary(RHO, Cosine()), SEEN, lookahead=lookahead)
    window = Window(parts * SEEN, steps=steps, context=SEEN // 2 if lookahead else 0)

    def run(noise: Tensor) -> Tensor:
        made = rolling(denoiser, noise.unbind(2), window=window)
        return torch.stack([*islice(made, frames)], dim=2)

    return affine(run, frames + window.frames)


def correlation(parts: int, *, lookahead: bool, steps: int = 1) -> float:
    """Of frames LAG apart, once the queue has been through once."""
    begin = parts * SEEN
    covariance = films(parts, lookahead=lookahead, frames=begin + 2 * LAG, steps=steps).covariance()
    return float(correlations(covariance[begin:, begin:])[LAG])


def rows() -> list[Row]:
    table = []
    for (parts, lookahead), stated in STATED.items():
        name = f"{parts} part{'s' * (parts > 1)}{', lookahead' * lookahead}"
        measured = correlation(parts, lookahead=lookahead)
        table.append(Row("E5", f"correlation 8 apart (truth 0.663), {name}", stated, measured))
    return table
