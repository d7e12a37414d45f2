"""From frames with times of their own to frames at an even beat.

Frame i shows from `seconds[i]` on. At a rate of `fps` it belongs to slot round(seconds[i] * fps), and each
slot shows the latest frame that belongs to it or to a slot before: frames are dropped when the beat is
slower, repeated when it is faster or where a recording has a gap (the same rule as ffmpeg's fps filter).
Pictures are decoded only when they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

__all__ = ["Moment", "at_rate"]


@dataclass(frozen=True)
class Moment:
    """One decoded frame: when it appears, how long it lasts (in seconds), and a way to its pixels `h w 3`."""

    seconds: float
    lasts: float
    picture: Callable[[], UInt8[Tensor, "h w 3"]]


def at_rate(moments: Iterable[Moment], *, fps: float) -> Iterator[Moment]:
    """One moment per slot of 1 / fps seconds, from the first frame's time to the end of the last."""
    shown: Moment | None = None
    origin, slot = 0.0, 0
    for moment in moments:
        if shown is None:
            origin = moment.seconds
        else:
            begins = round((moment.seconds - origin) * fps)
            yield from (shown for _ in range(slot, begins))
            slot = max(slot, begins)
        shown = moment
    if shown is not None:
        ends = round((shown.seconds + shown.lasts - origin) * fps)
        yield from (shown for _ in range(slot, max(ends, 1)))
