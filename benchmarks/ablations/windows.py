"""Films longer than a network's clips, made window by window, and what is measured of them.

    film = first clip;   film += new frames of fill(last `past` frames of the film)   until it is long

A seam lies between the last known and the first new frame of a window.
"""

from collections.abc import Callable, Sequence

import torch
from benchmarks.trained.features import distance
from benchmarks.trained.rollout import drift
from benchmarks.trained.state import measured
from jaxtyping import Float
from torch import Tensor

__all__ = ["around", "jump", "long_numbers", "rolled", "seams", "swerve"]

Film = Float[Tensor, "b 3 f h w"]
Fill = Callable[[Film, int], Film]
"""From the known first frames of a window, and its number, to the whole window."""


def rolled(fill: Fill, first: Film, *, past: int, length: int) -> Film:
    """A film of `length` frames that begins with the clip `first`."""
    film, number = first, 0
    while film.shape[2] < length:
        window = fill(film[:, :, -past:], number)
        film, number = torch.cat([film, window[:, :, past:]], dim=2), number + 1
    return film[:, :, :length]


def seams(frames: int, *, past: int, length: int) -> list[int]:
    """The first new frame of every window after the first clip."""
    return list(range(frames, length, frames - past))


def jump(film: Film, true: Film, at: Sequence[int]) -> float:
    """Mean square of the change of pixels at the seams, over that of true films; 1 is no seam."""
    return float(_steps(film, at) / _steps(true, at))


def _steps(film: Film, at: Sequence[int]) -> Tensor:
    return film.diff(dim=2)[:, :, [frame - 1 for frame in at]].square().mean()


def swerve(film: Film, at: Sequence[int]) -> float:
    """How far the disc's first steps after the seams are from its last before them, mean, in pixels."""
    turns = measured(film).place.diff(n=2, dim=1).norm(dim=-1)
    return float(turns[:, [frame - 2 for frame in at]].mean())


def around(film: Film, at: Sequence[int], *, frames: int) -> Film:
    """Clips of that many frames with a seam in their middle, all films' one after the other."""
    half = frames // 2
    clips = [film[:, :, frame - half : frame + half] for frame in at if frame + half <= film.shape[2]]
    return torch.cat(clips)


def long_numbers(film: Film, true: Film, *, frames: int) -> dict[str, float]:
    """What is lost at the end of a long film, since its first frame: the disc keeps colours and size."""
    state, first, end = measured(film), measured(film[:, :, :1]), slice(-frames, None)
    off = state.amount[:, end] / first.amount.clamp(min=1e-3) - 1
    return {
        "colour drift at the end": drift(state, first, frames=end),
        "disc's size off at the end": float(off.abs().mean()),
        "FD of the end": distance(film[:, :, end], true[:, :, end]),
    }
