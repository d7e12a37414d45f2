"""What the networks of a trained hierarchy add: its upscaler beside bicubic, its interpolation beside fading.

    python benchmarks/hierarchy_tasks.py RUN/model

True clips of the made world that no training drew, at the size and the rate of the finished film, are made
small, or lose all but every so many frames, and are made again. PSNR in dB and SSIM with the true clip, of
new frames alone; jerk is the flicker over the true clip's, 1 as it should be. Means and deviations over
clips, each with a seed of its own.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from mutoscope.data.captions import full_caption
from mutoscope.data.loader import Batch, WorldSource
from mutoscope.data.world import VOCABULARIES
from mutoscope.diffusion.known import shrunk
from mutoscope.evaluation.fidelity import flicker, psnr, ssim
from mutoscope.models.memory import keep_memory
from mutoscope.pipelines import load
from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.revision import revise
from mutoscope.pipelines.tasks import Interpolate, Task
from mutoscope.pipelines.upscale import Upscale
from mutoscope.video import Video

UNSEEN = 5000  # the seed of the clips


def clips(maker: Hierarchy, count: int, *, frames: int, scale: int = 1) -> Batch:
    """True clips of the film's rate; `scale` times smaller than the film."""
    width, height = (side // scale for side in maker.facts.size)
    source = WorldSource(
        VOCABULARIES[maker.facts.vocabulary], frames=frames, size=(width, height), fps=maker.facts.fps,
        seed=UNSEEN,
    )  # fmt: skip
    return source.batch(0, count)


def remade(maker: Hierarchy, task: Task, films: list[Video], batch: Batch) -> Iterator[Tensor]:
    """Each film by the task, "1 3 f h w"."""
    for seed, (film, scene) in enumerate(zip(films, batch.scenes, strict=True)):
        yield revise(maker, task, films=film, prompt=full_caption(scene), seed=seed).tensor()[None]


def enlarged(maker: Hierarchy, count: int) -> dict[str, list[Tensor]]:
    """True clips, and what was made of them a fraction of their size."""
    batch, scale = clips(maker, count, frames=maker.chain.chunk), maker.chain.scale
    small = [Video.from_tensor(clip, fps=maker.facts.fps) for clip in shrunk(batch.video, scale)]
    pixels = [film.tensor() for film in small]
    soft = [functional.interpolate(p.transpose(0, 1), scale_factor=scale, mode="bicubic") for p in pixels]
    return {
        "true": list(batch.video.split(1)),
        "bicubic": [one.clamp(-1, 1).transpose(0, 1)[None] for one in soft],
        "upscaler": list(remade(maker, Upscale(), small, batch)),
    }


def filled(maker: Hierarchy, count: int) -> dict[str, list[Tensor]]:
    """True clips as small as the chain decodes, and what was made of every `every`-th frame."""
    every = maker.chain.every
    batch = clips(maker, count, frames=2 * every + 1, scale=maker.scale)
    sparse = [Video.from_tensor(clip[:, ::every], fps=maker.facts.fps / every) for clip in batch.video]
    faded = [
        functional.interpolate(
            film.tensor()[None], size=batch.video.shape[2:], mode="trilinear", align_corners=True
        )
        for film in sparse
    ]
    made = list(remade(maker, Interpolate(factor=every), sparse, batch))
    new = torch.arange(2 * every + 1) % every != 0
    films = {"true": list(batch.video.split(1)), "faded": faded, "interpolation": made}
    return {name: [one[:, :, new] for one in each] for name, each in films.items()}


def rows(films: dict[str, list[Tensor]]) -> Iterator[str]:
    """A line of every way of making them but the true one."""
    true = films["true"]
    measures: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "PSNR": psnr, "SSIM": ssim, "jerk": lambda made, real: flicker(made) / flicker(real),
    }  # fmt: skip
    yield f"{'':16}" + "".join(f"{name:>18}" for name in measures)
    for name, made in films.items():
        if name != "true":
            cells = [[float(f(m, t)) for m, t in zip(made, true, strict=True)] for f in measures.values()]
            yield f"{name:16}" + "".join(f"{_spread(values):>18}" for values in cells)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a hierarchy's folder")
    parser.add_argument("--clips", type=int, default=4)
    options = parser.parse_args()
    keep_memory()
    maker = load(options.model)
    if not isinstance(maker, Hierarchy):
        parser.error(f"{options.model} is no hierarchy of U-Nets; `mutoscope train align` makes one")
    for title, make in (("enlarged", enlarged), ("filled in between", filled)):
        print(f"{title}, {options.clips} clips")
        print(*rows(make(maker, options.clips)), sep="\n")


if __name__ == "__main__":
    main()
