"""What networks add that make films finer: larger ones beside bicubic, frames between others beside fading.

    python benchmarks/finer.py RUN/model [OTHER/model ...]

Of a hierarchy or a stage of a cascade, and on the same clips by any other model that can do it: one that
makes films of words does it by reconstruction guidance. True clips of the made world that no training drew,
at the size and the rate of the finished film, are made small, or lose all but every so many frames, and are
made again. PSNR in dB and SSIM with the true clip, of new frames alone; jerk is the flicker over the true
clip's, 1 as it should be. Means and deviations over clips, each with a seed of its own.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mutoscope.checkpoints.folder import ModelFacts
from mutoscope.data.captions import full_caption
from mutoscope.data.loader import Batch, WorldSource
from mutoscope.data.world import VOCABULARIES
from mutoscope.diffusion.known import shrunk
from mutoscope.evaluation.fidelity import flicker, psnr, ssim
from mutoscope.models.memory import keep_memory
from mutoscope.pipelines import Filmmaker, Hierarchy, SpatialStage, TemporalStage, load
from mutoscope.pipelines.revision import revise
from mutoscope.pipelines.tasks import Interpolate, Task
from mutoscope.pipelines.upscale import Upscale
from mutoscope.video import Video

UNSEEN = 5000  # the seed of the clips

Films = dict[str, list[Tensor]]
Makers = Mapping[str, Filmmaker]


@dataclass(frozen=True)
class Clips:
    """The true clips that a model is measured on, and the factor by which it makes such films finer."""

    facts: ModelFacts
    frames: int
    size: tuple[int, int]
    factor: int

    @classmethod
    def larger(cls, maker: Filmmaker) -> "Clips | None":
        """As large as the model makes films; None if it enlarges none."""
        facts = maker.facts
        if isinstance(maker, Hierarchy):
            return cls(facts, maker.chain.chunk, facts.size, maker.chain.scale)
        if isinstance(maker, SpatialStage):
            return cls(facts, facts.frames, facts.size, maker.stage.factor)
        return None

    @classmethod
    def denser(cls, maker: Filmmaker) -> "Clips | None":
        """Two gaps between known frames or more, as small as the model decodes; None if it fills none."""
        if isinstance(maker, Hierarchy):
            factor, scale = maker.chain.every, maker.scale
        elif isinstance(maker, TemporalStage):
            factor, scale = maker.stage.factor, 1
        else:
            return None
        width, height = maker.facts.size
        # Jerk needs three new frames.
        return cls(maker.facts, max(2 * factor, 6) + 1, (width // scale, height // scale), factor)

    def batch(self, count: int) -> Batch:
        """So many of them."""
        words, fps = VOCABULARIES[self.facts.vocabulary], self.facts.fps
        source = WorldSource(words, frames=self.frames, size=self.size, fps=fps, seed=UNSEEN)
        return source.batch(0, count)


def remade(maker: Filmmaker, task: Task, films: list[Video], batch: Batch) -> Iterator[Tensor]:
    """Each film by the task, "1 3 f h w"."""
    for seed, (film, scene) in enumerate(zip(films, batch.scenes, strict=True)):
        yield revise(maker, task, films=film, prompt=full_caption(scene), seed=seed).tensor()[None]


def enlarged(makers: Makers, clips: Clips, count: int) -> Films:
    """True clips, and what was made of them a fraction of their size."""
    batch, scale = clips.batch(count), clips.factor
    small = [Video.from_tensor(clip, fps=clips.facts.fps) for clip in shrunk(batch.video, scale)]
    pixels = [film.tensor() for film in small]
    soft = [functional.interpolate(p.transpose(0, 1), scale_factor=scale, mode="bicubic") for p in pixels]
    films = {
        "true": list(batch.video.split(1)),
        "bicubic": [one.clamp(-1, 1).transpose(0, 1)[None] for one in soft],
    }
    task = Upscale(size=clips.size)
    return films | {name: list(remade(maker, task, small, batch)) for name, maker in makers.items()}


def filled(makers: Makers, clips: Clips, count: int) -> Films:
    """True clips, and what was made of every so many frames of them; new frames alone."""
    batch, every = clips.batch(count), clips.factor
    sparse = [Video.from_tensor(clip[:, ::every], fps=clips.facts.fps / every) for clip in batch.video]
    faded = [
        functional.interpolate(
            film.tensor()[None], size=batch.video.shape[2:], mode="trilinear", align_corners=True
        )
        for film in sparse
    ]
    task, films = Interpolate(factor=every), {"true": list(batch.video.split(1)), "faded": faded}
    films |= {name: list(remade(maker, task, sparse, batch)) for name, maker in makers.items()}
    new = torch.arange(clips.frames) % every != 0
    return {name: [one[:, :, new] for one in each] for name, each in films.items()}


def rows(films: Films) -> Iterator[str]:
    """A line of every way of making them but the true one."""
    true = films["true"]
    measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "PSNR": psnr, "SSIM": ssim, "jerk": lambda made, real: flicker(made) / flicker(real),
    }  # fmt: skip
    width = max(map(len, films)) + 2
    yield " " * width + "".join(f"{name:>18}" for name in measures)
    for name, made in films.items():
        if name != "true":
            cells = [[float(f(m, t)) for m, t in zip(made, true, strict=True)] for f in measures.values()]
            yield f"{name:{width}}" + "".join(f"{_spread(values):>18}" for values in cells)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", help="folders; the first, which says what is done")
    parser.add_argument("--clips", type=int, default=4)
    options = parser.parse_args()
    keep_memory()
    makers = {str(folder): load(folder) for folder in options.models}
    first = next(iter(makers.values()))
    ways = [
        (title, make, clips)
        for title, make, clips in (
            ("enlarged", enlarged, Clips.larger(first)),
            ("filled in between", filled, Clips.denser(first)),
        )
        if clips is not None
    ]
    if not ways:
        parser.error(
            f"{options.models[0]} is no hierarchy of U-Nets and no stage of a cascade; mutoscope train align "
            "makes one, or vdm-larger, or vdm-between"
        )
    for title, make, clips in ways:
        print(f"{title}, {options.clips} clips")
        print(*rows(make(makers, clips, options.clips)), sep="\n")


if __name__ == "__main__":
    main()
