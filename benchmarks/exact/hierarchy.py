"""E4: long films from short windows, frame after frame or coarse to fine.

A model of 8 frames makes 64 of a film that remembers for long, correlation 0.5 e^(-d/4) + 0.5 e^(-d/200),
and makes every window perfectly, given the frames that the window holds already. Autoregressively each window
holds the last few frames; hierarchically the first window is 8 frames spread over the whole film, and the
others fill in between, holding the nearest frame on either side. What is wrong with the film is then the
order alone.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from benchmarks.exact.row import Row
from torch import Tensor

from mutoscope.diffusion.drawings.gaussian import correlations, w2

FRAMES, WINDOW, LAG = 64, 8, 32
# methods.md: autoregressive by frames of context, and the hierarchy.
STATED = {1: 4.87, 2: 4.54, 4: 3.97, 6: 3.51}
STATED_HIERARCHY = 0.42
STATED_LAG = {"truth": 0.426, "autoregressive, 4 held": 0.10, "hierarchy": 0.34}


@dataclass(frozen=True)
class Window:
    """Frames made at once, and the frames made before that they see."""

    held: list[int]
    made: list[int]


def truth() -> Tensor:
    place = torch.arange(FRAMES, dtype=torch.float64)
    distance = (place[:, None] - place).abs()
    return 0.5 * torch.exp(-distance / 4) + 0.5 * torch.exp(-distance / 200)


def autoregressive(context: int) -> list[Window]:
    """Windows that hold the last `context` frames."""
    windows = [Window([], list(range(WINDOW)))]
    while (done := windows[-1].made[-1] + 1) < FRAMES:
        end = min(FRAMES, done + WINDOW - context)
        windows.append(Window(list(range(done - context, done)), list(range(done, end))))
    return windows


def hierarchy() -> list[Window]:
    """A window spread over the film, and then from the left what lies between, seeing one frame each side."""
    keys = torch.linspace(0, FRAMES - 1, WINDOW).round().int().tolist()
    windows = [Window([], keys)]
    for before, after in pairwise(keys):
        while before + 1 < after:
            made = list(range(before + 1, after))[: WINDOW - 2]
            windows.append(Window([before, after], made))
            before = made[-1]
    return windows


def made_by(windows: list[Window], film: Tensor) -> Tensor:
    """The covariance of films made so, every window drawn exactly given what it holds."""
    made = torch.zeros_like(film)
    for window in windows:
        old, new = window.held, window.made
        gain = torch.linalg.solve(film[old][:, old], film[old][:, new]).T
        spread = film[new][:, new] - gain @ film[old][:, new]
        made[new] = gain @ made[old]
        made[:, new] = made[new].T
        made[torch.tensor(new)[:, None], new] = spread + gain @ made[old][:, old] @ gain.T
    return made


def distance(covariance: Tensor) -> float:
    zero = torch.zeros(FRAMES, dtype=torch.float64)
    return w2(zero, covariance, to_mean=zero, to_covariance=truth())


def rows() -> list[Row]:
    film = truth()
    chains = {held: made_by(autoregressive(held), film) for held in STATED}
    tree = made_by(hierarchy(), film)
    table = [
        Row("E4", f"W2^2 of 64 frames, autoregressive, {held} held", stated, distance(chains[held]))
        for held, stated in STATED.items()
    ]
    table.append(Row("E4", "W2^2 of 64 frames, hierarchy of 2", STATED_HIERARCHY, distance(tree)))
    lags = {"truth": film, "autoregressive, 4 held": chains[4], "hierarchy": tree}
    return table + [
        Row("E4", f"correlation {LAG} frames apart, {name}", stated, float(correlations(lags[name])[LAG]))
        for name, stated in STATED_LAG.items()
    ]
