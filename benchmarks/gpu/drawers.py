"""Clips drawn by many processes, and a pool of them that stays on the device.

Drawing is Python and small tensors: one process draws less than a GPU trains on, and holds its interpreter
meanwhile. Here every core draws, each process with a CUDA context of its own where it draws on the GPU; clips
come back as bytes through files in memory (/dev/shm).

    DrawnSource    the clips of `WorldSource`, the same for the same seed, to 8 bits; the next on their way
    Pool           clips drawn once; every batch is random stretches of them, and costs nothing

This module must stay cheap to import: every process imports it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mutoscope.data.captions import caption
from mutoscope.data.loader import Batch
from mutoscope.data.world import VOCABULARIES, Scene, draw

MEMORY, ENOUGH = Path("/dev/shm"), 4 * 2**30


@dataclass(frozen=True)
class World:
    """Which clips: words, length, picture size (width, height), rate."""

    vocabulary: str
    frames: int
    size: tuple[int, int]
    fps: float


@dataclass(frozen=True)
class Order:
    """Scenes `start` to `start + count` of stream `seed`, to be drawn on `device` into a file in `folder`."""

    world: World
    seed: int
    start: int
    count: int
    device: str
    folder: str


def to_bytes(video: Tensor, figure: Tensor) -> Tensor:
    """Pictures "b 3 f h w" in [-1, 1] and figures "b f h w" in [0, 1] as uint8 "b f 4 h w"."""
    pictures = (video.transpose(1, 2) + 1) * 127.5
    return torch.cat([pictures, figure[:, :, None] * 255], 2).round_().clamp_(0, 255).to(torch.uint8)


def from_bytes(packed: Tensor) -> tuple[Tensor, Tensor]:
    """What `to_bytes` was given, to 8 bits."""
    values = packed.float()
    video = (values[:, :, :3] / 127.5 - 1).transpose(1, 2).contiguous()
    return video, values[:, :, 3] / 255


def scenes_of(order: Order) -> list[Scene]:
    return VOCABULARIES[order.world.vocabulary].scenes(order.seed, order.start, order.count)


def fill(order: Order) -> str:
    """Draw an order; the name of the file that holds its bytes."""
    world = order.world
    drawn = draw(scenes_of(order), frames=world.frames, size=world.size, fps=world.fps, device=order.device)
    handle, name = tempfile.mkstemp(dir=order.folder)
    with os.fdopen(handle, "wb") as file:
        to_bytes(drawn.video, drawn.figure).cpu().numpy().tofile(file)
    return name


class Drawers:
    """Processes that draw orders of at most `clips` clips, on `device` each.

    They begin with the first order and end with `rest`, for each holds memory of the GPU; the next order
    begins new ones. `close` ends them and removes their files.
    """

    def __init__(self, workers: int, *, device: str, clips: int = 8) -> None:
        self.workers, self.device, self.clips = workers, device, clips
        roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
        self.folder = tempfile.mkdtemp(prefix="drawn-", dir=MEMORY if roomy else None)
        self.pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        self.rest()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, world: World, *, seed: int, start: int, count: int) -> list[Future[str]]:
        """Begin to draw scenes `start` to `start + count`; the parts come in order."""
        if self.pool is None:
            context = get_context("spawn")  # a process that has used CUDA cannot be forked
            self.pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_open)
        orders = (
            Order(world, seed, at, min(self.clips, start + count - at), self.device, self.folder)
            for at in range(start, start + count, self.clips)
        )
        return [self.pool.submit(fill, order) for order in orders]

    def rest(self) -> None:
        """End the processes; what was begun and not fetched is lost."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            self.pool = None


def _open() -> None:
    torch.set_num_threads(1)


@dataclass(eq=False)
class DrawnSource:
    """`data.loader.WorldSource` with the drawing done elsewhere; batches are on `device`.

    shares: others draw there too, so the drawers do not rest when this one has done.
    """

    drawers: Drawers
    world: World
    seed: int
    device: str
    shares: bool = False
    coming: dict[tuple[int, int], list[Future[str]]] = field(default_factory=dict, repr=False)

    @property
    def frames(self) -> int:
        return self.world.frames

    @property
    def size(self) -> tuple[int, int]:
        return self.world.size

    @property
    def fps(self) -> float:
        return self.world.fps

    def batch(self, step: int, count: int) -> Batch:
        """Batch number `step`. Enough of the next ones are begun to keep every process busy, unless the
        drawers are shared: then they draw what they were told to, in that order."""
        ahead = 1 + 2 * self.drawers.workers * self.drawers.clips // count
        for k in [key for key in self.coming if key[1] != count or key[0] < step]:
            self._forget(k)
        if not self.shares:
            self.begin(count, range(step, step + ahead))
        self.begin(count, range(step, step + 1))
        packed = torch.cat([self._fetch(part) for part in self.coming.pop((step, count))])
        scenes = VOCABULARIES[self.world.vocabulary].scenes(self.seed, step * count, count)
        random = np.random.default_rng([self.seed, step, 1])
        video, figure = from_bytes(packed)
        return Batch(video, [caption(scene, random) for scene in scenes], figure, scenes)

    def begin(self, count: int, steps: range) -> None:
        """Begin to draw these batches."""
        for k in steps:
            if (k, count) not in self.coming:
                parts = self.drawers.start(self.world, seed=self.seed, start=k * count, count=count)
                self.coming[k, count] = parts

    def close(self) -> None:
        """Forget what was begun, and let the drawers rest."""
        for key in list(self.coming):
            self._forget(key)
        if not self.shares:
            self.drawers.rest()

    def _forget(self, key: tuple[int, int]) -> None:
        for part in self.coming.pop(key):
            part.cancel()

    def _fetch(self, part: Future[str]) -> Tensor:
        name = part.result()
        width, height = self.size
        packed = torch.from_numpy(np.fromfile(name, dtype=np.uint8)).view(-1, self.frames, 4, height, width)
        os.unlink(name)
        return packed.to(self.device)


class Pool:
    """`clips` clips of a source, drawn once and kept as bytes; batches are stretches of `frames` of them."""

    def __init__(self, source: DrawnSource, *, clips: int, frames: int) -> None:
        self.source, self.clips, self.frames = source, clips, frames
        self.size, self.fps, self.seed = source.size, source.fps, source.seed
        self.packed: Tensor | None = None
        self.scenes: list[Scene] = []

    def cut(self, frames: int) -> "Stretches":
        """The same pool, in shorter stretches."""
        return Stretches(self, frames)

    def batch(self, step: int, count: int) -> Batch:
        """Batch number `step`, a function of (seed, step)."""
        return self.stretches(step, count, frames=self.frames)

    def stretches(self, step: int, count: int, *, frames: int) -> Batch:
        """The same, of so many frames."""
        packed = self._filled()
        random = np.random.default_rng([self.seed, step, 3])
        chosen = random.integers(len(packed), size=count)
        starts = random.integers(packed.shape[1] - frames + 1, size=count)
        clips, times = (torch.from_numpy(part).to(packed.device) for part in (chosen, starts))
        video, figure = from_bytes(
            packed[clips.unsqueeze(1), times.unsqueeze(1) + torch.arange(frames, device=packed.device)]
        )
        scenes = [self.scenes[i] for i in chosen.tolist()]
        return Batch(video, [caption(scene, random) for scene in scenes], figure, scenes)

    def _filled(self) -> Tensor:
        if self.packed is None:
            parts = self._draw()
            first = next(parts)
            packed = first.new_empty((self.clips, *first.shape[1:]))
            packed[: len(first)] = first[: self.clips]
            for place, part in zip(range(len(first), self.clips, len(first)), parts, strict=False):
                packed[place : place + len(part)] = part[: self.clips - place]
            self.source.close()
            self.packed = packed
        return self.packed

    def begin(self) -> None:
        """Begin to draw all of it."""
        self.source.begin(*self._parts)

    @property
    def _parts(self) -> tuple[int, range]:
        """Clips of a batch, and the batches."""
        count = min(64, self.clips)
        return count, range(-(-self.clips // count))

    def _draw(self) -> Iterator[Tensor]:
        count, steps = self._parts
        for step in steps:
            batch = self.source.batch(step, count)
            self.scenes += batch.scenes or []
            yield to_bytes(batch.video, batch.figure)


class Stretches:
    """Stretches of `frames` frames of a pool whose own are longer."""

    def __init__(self, pool: Pool, frames: int) -> None:
        self.pool, self.frames, self.size, self.fps = pool, frames, pool.size, pool.fps

    def batch(self, step: int, count: int) -> Batch:
        return self.pool.stretches(step, count, frames=self.frames)
