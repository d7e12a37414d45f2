"""Video Diffusion Models at a useful size, on one data-centre GPU, in pieces of a few minutes.

    python benchmarks/gpu/train_vdm.py --out RUN --parcel FILES --budget-seconds 540

One call does what fits into its budget: pictures, then clips with pictures beside them
(`training.pixel_course`). The same call again goes on; on a fresh machine, `--start FOLDER` goes on from the
folder that `parcel.py` made of the last call's files. Every call ends with a parcel (model, sheet, metrics,
ledger) and a table; one is also packed every few minutes. Once all is trained, the films of prompts that were
kept out of training are made too, and judged (`pipelines.report`).
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drawers import Drawers, DrawnSource, Pool, World
from ledger import Entry, Ledger, left_of
from parcel import pack_aloud
from train_shipped import BEGUN, DEVICE, EVERY_SECONDS, as_averaged, fast_kernels, world_source

from mutoscope.checkpoints.unet_folder import UNetModel, load_unet_model, save_unet_model
from mutoscope.data.loader import Source
from mutoscope.data.world import held_out_prompts
from mutoscope.evaluation.probe import load_probe
from mutoscope.pipelines import PRETRAINED, Pipeline
from mutoscope.pipelines.report import AgreementReport, agreement_report
from mutoscope.pipelines.sheets import sample_sheet
from mutoscope.training.course import Event
from mutoscope.training.footage import ClipSettings
from mutoscope.training.pixel_course import PixelRecipe, run
from mutoscope.unet_recipes import UNET_RECIPES
from mutoscope.video import Refusal

AHEAD = 600
"""Batches of clips that are drawn while pictures are learnt."""


@dataclass(frozen=True)
class Call:
    """What was asked of this call; `over` says whether its time is up."""

    recipe: PixelRecipe
    out: Path
    parcel: Path
    start: Path | None
    over: Callable[[], bool]
    pack_seconds: float = 200.0
    workers: int = 0
    pool: int = 4096
    prompts: int = 24
    seeds: int = 3


class ClipSources:
    """Clips for the course, drawn by the workers: each once, and pictures from a pool of other clips'
    frames. What is only shown is drawn here and now."""

    def __init__(self, call: Call) -> None:
        recipe, self.seed = call.recipe, call.recipe.clips.seed
        self.drawers = Drawers(call.workers, device="cpu") if call.workers else None
        self.pool: Pool | None = None
        self.clips: DrawnSource | None = None
        if self.drawers is None:
            return
        last, size = recipe.pieces[-1].unet, (recipe.clips.width, recipe.clips.height)
        world = World(recipe.clips.vocabulary, last.frames, size, recipe.clips.fps)
        pictures = DrawnSource(self.drawers, world, self.seed + 1000, DEVICE, shares=True)
        self.pool = Pool(pictures, clips=call.pool, frames=last.frames)
        self.pool.begin()
        self.clips = DrawnSource(self.drawers, world, self.seed, DEVICE)
        self.clips.begin(last.clips, range(AHEAD))

    def __call__(self, clips: ClipSettings, frames: int, seed: int) -> Source:
        if self.clips is not None and seed == self.seed and frames == self.clips.frames:
            return self.clips
        if self.pool is not None and seed == self.seed + 1000:
            return self.pool.cut(frames)
        return world_source(clips, frames, seed=seed)

    def close(self) -> None:
        if self.drawers is not None:
            self.drawers.close()


def rest(recipe: PixelRecipe, ledger: Ledger) -> PixelRecipe | None:
    """A recipe without what the ledger says is done; None if that is all of it."""
    pieces = []
    for number, piece in enumerate(recipe.pieces, start=1):
        train = left_of(piece.train, ledger.entries.get(f"unet-{number}", Entry()))
        if train is not None:
            pieces.append(piece.model_copy(update={"train": train}))
    return recipe.model_copy(update={"pieces": tuple(pieces)}) if pieces else None


def toy() -> PixelRecipe:
    """The same in seconds on a processor, nothing learnt."""
    smoke = UNET_RECIPES["vdm-smoke"]
    short = (
        piece.model_copy(update={"train": piece.train.model_copy(update={"steps": 2})})
        for piece in smoke.pieces
    )
    return smoke.model_copy(update={"pieces": tuple(short), "steps": 1})


def shortened(recipe: PixelRecipe, share: float) -> PixelRecipe:
    """The recipe with a share of its minutes."""
    pieces = (
        piece.model_copy(
            update={"train": piece.train.model_copy(update={"minutes": share * (piece.train.minutes or 0)})}
        )
        for piece in recipe.pieces
    )
    return recipe.model_copy(update={"pieces": tuple(pieces)})


def train(call: Call) -> Ledger:
    """Do what fits into the call, and pack a parcel at its end."""
    before = Ledger.read(call.start) if call.start else Ledger()
    left, ledger = rest(call.recipe, before), before.copy()
    start = call.start / "model" if call.start else None
    if left is None:
        assert start is not None
        export(load_unet_model(start), call, ledger=ledger, sheet=True, whole=True)
    else:
        with (
            closing(ClipSources(call)) as sources,
            closing(run(left, call.out, start=start, sources=sources)) as events,
        ):
            first = len(call.recipe.pieces) - len(left.pieces)
            _follow(events, call, ledger=ledger, before=before, first=first)
    print(ledger)
    return ledger


def _follow(events: Iterator[Event], call: Call, *, ledger: Ledger, before: Ledger, first: int) -> None:
    """Listen to the course until it ends or time is up, and pack what there is."""
    said, packed, stage = 0.0, time.monotonic(), ""
    for event in events:
        if event.progress is not None:
            number = first + int(event.stage.split()[1].split("/")[0])
            ledger.note(f"unet-{number}", event, before)
        now = time.monotonic()
        if event.stage != stage or now - said > EVERY_SECONDS:
            said, stage = now, event.stage
            print(f"{now - BEGUN:6.0f} s  {stage}  {event.text}", flush=True)
        whole = event.stage == "model"
        if whole or call.over():
            with as_averaged(event):
                export(_model(event), call, ledger=ledger, sheet=True, whole=whole, prompts=event.prompts)
            return
        if now - packed > call.pack_seconds:
            with as_averaged(event):
                export(_model(event), call, ledger=ledger)
            packed = time.monotonic()


def _model(event: Event) -> UNetModel:
    model = event.model()
    assert isinstance(model, UNetModel)
    return model


def export(
    model: UNetModel, call: Call, *, ledger: Ledger, sheet: bool = False, whole: bool = False,
    prompts: tuple[str, ...] = ("a man walking in the rain",),
) -> None:  # fmt: skip
    """Pack the model as it stands; with `sheet` films of the prompts, and of a whole model what its films of
    kept-out prompts show."""
    folder = call.out / "parcel"
    folder.mkdir(parents=True, exist_ok=True)
    save_unet_model(model, folder / "model")
    for metrics in call.out.glob("*/metrics.jsonl"):
        shutil.copy(metrics, folder / f"{metrics.parent.name}-metrics.jsonl")
    ledger.write(folder)
    pack_aloud(folder, call.parcel)
    if not sheet:
        return
    sample_sheet(model, prompts, path=folder / "samples.png")
    pack_aloud(folder, call.parcel)
    if whole and call.prompts:
        report = judged(model, call)
        print(report, flush=True)
        report.save(folder)
        pack_aloud(folder, call.parcel)


def judged(model: UNetModel, call: Call) -> AgreementReport:
    """Whether films show what was asked, by the probe inside the package."""
    *_, report = agreement_report(
        Pipeline(model),
        load_probe(PRETRAINED / "probe"),
        prompts=held_out_prompts()[: call.prompts],
        seeds=range(call.seeds),
        batch=call.prompts if DEVICE == "cuda" else 1,
    )
    assert isinstance(report, AgreementReport)
    return report


def asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the run; on this machine's own disk")
    add("--parcel", type=Path, default=os.environ.get("OUT"), help="where the files that come back go ($OUT)")
    add("--start", type=Path, help="a folder that parcel.py made: go on from there")
    add("--budget-seconds", type=float, default=540.0, help="of this call, after its imports")
    add("--reserve-seconds", type=float, default=60.0, help="of these, for checkpoint, sheets and parcel")
    add("--workers", type=int, help="processes that draw (all cores but three; none in a toy)")
    add("--pool", type=int, default=Call.pool, help="clips whose frames are the pictures")
    add("--prompts", type=int, default=Call.prompts, help="kept-out prompts that are judged at the end")
    add("--seeds", type=int, default=Call.seeds, help="films of each")
    add("--share", type=float, default=1.0, help="of the recipe's minutes: a small one is a trial")
    add("--toy", action="store_true", help="everything in seconds on a processor, to see that it runs")
    chosen = parser.parse_args(arguments)
    chosen.parcel = Path(chosen.parcel or chosen.out / "files")
    if chosen.workers is None:
        chosen.workers = 0 if chosen.toy else max(1, (os.cpu_count() or 2) - 3)
    return chosen


def main(arguments: list[str] | None = None) -> int:
    chosen = asked(arguments)
    recipe = toy() if chosen.toy else shortened(UNET_RECIPES["vdm-gpu"], chosen.share)
    fast_kernels()
    end = BEGUN + chosen.budget_seconds - chosen.reserve_seconds
    call = Call(
        recipe, chosen.out, chosen.parcel, chosen.start, over=lambda: time.monotonic() > end,
        workers=chosen.workers, pool=chosen.pool, prompts=chosen.prompts, seeds=chosen.seeds,
    )  # fmt: skip
    try:
        train(call)
    except Refusal as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{time.monotonic() - BEGUN:.0f} s in all on {DEVICE}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
