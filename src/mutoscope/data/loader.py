"""Batches as a function of the step: nothing to serialise, nothing to lose at resume.

A `Source` answers `batch(step, count)` and gives the same clips for the same numbers, always. The made world
draws them; a folder of real clips reads them. `Ahead` computes the next batches, or whatever a step needs, in
a thread while the current one trains.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.captions import caption
from mutoscope.data.clips import Clip, read_clip
from mutoscope.data.world import Scene, Vocabulary, draw

__all__ = ["Ahead", "Batch", "FolderSource", "Source", "WorldSource"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Batch:
    """`video` "b 3 f h w" in [-1, 1]; `captions`, one a clip; `figure` "b f h w" in [0, 1], where the subject
    is (zero where nobody knows); `scenes`, what made clips show, empty for real ones."""

    video: Float[Tensor, "b 3 f h w"]
    captions: list[str]
    figure: Float[Tensor, "b f h w"]
    scenes: list[Scene] = field(default_factory=list)


class Source(Protocol):
    """Where clips come from."""

    @property
    def frames(self) -> int: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def fps(self) -> float: ...

    def batch(self, step: int, count: int) -> Batch:
        """Batch number `step` of `count` clips."""
        ...


@dataclass(frozen=True)
class WorldSource:
    """Clips of the made world; `held_out` also shows the combinations that training never sees."""

    vocabulary: Vocabulary
    frames: int = 25
    size: tuple[int, int] = (96, 64)
    fps: float = 12.0
    seed: int = 0
    held_out: bool = False
    device: str = "cpu"

    def batch(self, step: int, count: int) -> Batch:
        scenes = self.vocabulary.scenes(self.seed, step * count, count, held_out=self.held_out)
        random = np.random.default_rng([self.seed, step, 1])
        drawn = draw(scenes, frames=self.frames, size=self.size, fps=self.fps, device=self.device)
        return Batch(drawn.video, [caption(scene, random) for scene in scenes], drawn.figure, scenes)


@dataclass(frozen=True)
class FolderSource:
    """Clips of a folder, each epoch in its own order, each view at its own moment of the clip."""

    clips: list[Clip] = field(repr=False)
    frames: int = 25
    size: tuple[int, int] = (96, 64)
    fps: float = 12.0
    seed: int = 0

    def batch(self, step: int, count: int) -> Batch:
        chosen = [self._choice(step * count + i) for i in range(count)]
        video = torch.stack([self._read(clip, moment) for clip, moment in chosen])
        return Batch(video, [clip.text for clip, _ in chosen], torch.zeros_like(video[:, 0]))

    def _choice(self, index: int) -> tuple[Clip, float]:
        epoch, place = divmod(index, len(self.clips))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.clips))
        return self.clips[int(order[place])], float(np.random.default_rng([self.seed, index, 2]).uniform())

    def _read(self, clip: Clip, moment: float) -> Tensor:
        """The window at `moment` in [0, 1): 0 begins with the clip, 1 would end with it."""
        # To the last frame, not to its end: nothing can be read after it, and a picture is one frame.
        length = 1 + int(((clip.frames or 1) - 1) * self.fps / (clip.fps or self.fps))
        start = int(moment * max(1, length - self.frames + 1))
        return read_clip(clip, frames=self.frames, size=self.size, fps=self.fps, start=start)


class Ahead(Generic[Made]):
    """Computes `make(step)` of coming steps in a thread; a step out of turn is computed at once."""

    def __init__(self, make: Callable[[int], Made], *, depth: int = 2) -> None:
        self.make, self.depth = make, depth
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.coming: dict[int, Future[Made]] = {}

    def __call__(self, step: int) -> Made:
        self.coming = {k: future for k, future in self.coming.items() if k >= step}
        for k in range(step, step + self.depth + 1):
            if k not in self.coming:
                self.coming[k] = self.pool.submit(self.make, k)
        return self.coming.pop(step).result()

    def __iter__(self) -> Iterator[Made]:
        step = 0
        while True:
            yield self(step)
            step += 1
