"""How near an autoencoder's reconstructions are to clips it never saw.

PSNR over everything, by weather and by style; on the figure alone, which is a small share of the picture
and the whole of the film; and on rainy clips what PSNR hides, whether the drops are still there (the
correlation of the frame differences) and whether motion was lost or invented (their energy).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.data.loader import Batch, Source
from mutoscope.data.world import Scene
from mutoscope.evaluation.fidelity import difference_correlation, difference_energy, flicker, psnr, ssim
from mutoscope.media import contact_sheet
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.pipelines.saved import Stage, save_report
from mutoscope.video import Refusal, Video

__all__ = ["AutoencoderReport", "autoencoder_report", "rebuilt"]

COLUMNS = 7  # pictures of a clip on a sheet
SHOWN = 6  # clips on the sheet
MEASURES = {
    "psnr": "PSNR, dB",
    "figure": "PSNR on the figure, dB",
    "ssim": "SSIM",
    "correlation": "correlation of frame differences",
    "energy": "energy of frame differences, median",
    "flicker": "flicker over the clip's own, median",
}
# Shares of what the clip itself has: where next to nothing moves they are huge, and would make the mean.
RATIOS = ("energy", "flicker")


@dataclass(frozen=True)
class Row:
    """What one clip measured, by the names of `MEASURES` (NaN: nothing to measure), and its scene."""

    values: dict[str, float]
    scene: Scene | None


@dataclass(frozen=True)
class AutoencoderReport:
    """Fidelity of reconstructions: a row for each clip, and some of them on a sheet, each under its clip."""

    rows: list[Row]
    sheet: UInt8[Tensor, "h w 3"] = field(repr=False)

    def mean(self, measure: str, *, where: Callable[[Scene], bool] | None = None) -> float:
        """Mean of a measure over clips (over those whose scene fits); NaN if no clip has it."""
        chosen = [r for r in self.rows if where is None or (r.scene is not None and where(r.scene))]
        values = [r.values[measure] for r in chosen if not math.isnan(r.values[measure])]
        return fmean(values) if values else math.nan

    def median(self, measure: str) -> float:
        """Median of a measure over the clips that have it; NaN if none has."""
        values = [row.values[measure] for row in self.rows if not math.isnan(row.values[measure])]
        return median(values) if values else math.nan

    @property
    def numbers(self) -> dict[str, float]:
        """One number a measure: the mean over clips, of ratios the median."""
        return {name: self.median(name) if name in RATIOS else self.mean(name) for name in MEASURES}

    @property
    def psnr(self) -> float:
        return self.mean("psnr")

    @property
    def rain_correlation(self) -> float:
        """Of the frame differences on rainy clips; NaN if there are none."""
        return self.mean("correlation", where=lambda scene: scene.weather == "rain")

    def groups(self, attribute: str) -> dict[str, float]:
        """Mean PSNR by the words of an attribute."""
        words = sorted({getattr(r.scene, attribute) for r in self.rows if r.scene is not None})
        return {
            word: self.mean("psnr", where=lambda s, word=word: getattr(s, attribute) == word)
            for word in words
        }

    def __str__(self) -> str:
        named = {MEASURES[name]: value for name, value in self.numbers.items()}
        named["... correlation on rainy clips"] = self.rain_correlation
        for attribute in ("weather", "style"):
            named |= {f"PSNR, {word}": value for word, value in self.groups(attribute).items()}
        # Real clips have no figure to look at, and no weather.
        lines = [f"{name:<38}{value:8.3f}" for name, value in named.items() if not math.isnan(value)]
        return "\n".join([*lines, f"{len(self.rows)} clips"])

    def as_dict(self) -> dict[str, Any]:
        """For JSON; null where nothing was measured."""
        numbers = self.numbers | {"rain_correlation": self.rain_correlation}
        groups = {f"psnr_by_{name}": _known(self.groups(name)) for name in ("weather", "style")}
        return {"clips": len(self.rows), **_known(numbers), **groups}

    def save(self, folder: str | Path) -> Path:
        """Write autoencoder.json, autoencoder.txt and autoencoder.png."""
        return save_report(folder, "autoencoder", facts=self.as_dict(), text=str(self), sheet=self.sheet)


def _known(numbers: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def autoencoder_report(
    autoencoder: Autoencoder, source: Source, *, count: int = 96, chunk: int = 4
) -> Iterator[Stage | AutoencoderReport]:
    """Measure reconstructions of the first `count` clips of a source; the report comes last.

    Give a source of clips that training never saw: another seed, `held_out=True`.

    Raises:
        Refusal: no clips.
    """
    if count < 1:
        raise Refusal(f"{count} clips; a report needs at least one")
    rows, shown = [], []
    while len(rows) < count:
        batch = source.batch(len(rows) // chunk, chunk)
        made = rebuilt(autoencoder, batch.video)
        rows += _rows(batch, made)[: count - len(rows)]
        if len(shown) < SHOWN:
            shown += list(zip(batch.video, made, batch.captions, strict=True))
        yield Stage("reconstructions", len(rows), count)
    yield AutoencoderReport(rows, _sheet(shown[:SHOWN], source.fps))


@torch.no_grad()
def rebuilt(autoencoder: Autoencoder, video: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 3 f h w"]:
    """Clips through the autoencoder and back, in float32, in [-1, 1] on the CPU."""
    weight = next(autoencoder.parameters())
    latents = autoencoder.encode(video.to(weight)).mode()
    made = autoencoder.decode(latents, size=(video.shape[-1], video.shape[-2]), frames=video.shape[2])
    return made.float().clamp(-1, 1).cpu()


def _rows(batch: Batch, made: Tensor) -> list[Row]:
    video, moves = batch.video.cpu(), batch.video.shape[2] > 1
    nothing = torch.full((len(video),), torch.nan)
    values = {
        "psnr": psnr(made, video),
        "figure": psnr(made, video, weight=batch.figure.cpu()),
        "ssim": ssim(made, video),
        "correlation": difference_correlation(made, video) if moves else nothing,
        "energy": difference_energy(made, video) if moves else nothing,
        "flicker": flicker(made) / flicker(video) if video.shape[2] > 2 else nothing,
    }
    scenes: list[Scene | None] = [*batch.scenes] or [None] * len(video)
    return [Row({n: float(v[k]) for n, v in values.items()}, scene) for k, scene in enumerate(scenes)]


def _sheet(shown: list[tuple[Tensor, Tensor, str]], fps: float) -> UInt8[Tensor, "h w 3"]:
    videos = [Video.from_tensor(clip, fps=fps) for real, made, _ in shown for clip in (real, made)]
    captions = [line for _, _, caption in shown for line in (caption, "reconstruction")]
    return contact_sheet(videos, columns=COLUMNS, captions=captions)
