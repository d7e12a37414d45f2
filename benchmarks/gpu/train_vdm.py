"""Video Diffusion Models at a useful size, on one data-centre GPU, in pieces of a few minutes.

    python benchmarks/gpu/train_vdm.py --out RUN --parcel FILES --budget-seconds 540

One call does what fits into its budget: pictures, then clips with pictures beside them
(`training.pixel_course`). The same call again goes on; on a fresh machine, `--start FOLDER` goes on from the
folder that `parcel.py` made of the last call's files. Every call ends with a parcel (model, sheet, metrics,
ledger) and a table; one is also packed every few minutes. Once all is trained, the films of prompts that were
kept out of training are made too, and judged (`pipelines.report`).
"""

import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from calls import DEVICE, Call, as_averaged, common, ended, follow, parser_of, world_source
from drawers import Drawers, DrawnSource, Pool, World
from ledger import Ledger, pieces_left, stage_name
from parcel import pack_aloud

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

AHEAD = 600
"""Batches of clips that are drawn while pictures are learnt."""


@dataclass(frozen=True)
class PixelCall(Call[PixelRecipe]):
    """Also: clips whose frames are the pictures, and what is judged at the end."""

    pool: int = 4096
    prompts: int = 24
    seeds: int = 3


class ClipSources:
    """Clips for the course, drawn by the workers: each once, and pictures from a pool of other clips'
    frames. What is only shown is drawn here and now."""

    def __init__(self, call: PixelCall) -> None:
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
    pieces = pieces_left(recipe.pieces, ledger, name="unet")
    return recipe.model_copy(update={"pieces": pieces}) if pieces else None


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


def train(call: PixelCall) -> Ledger:
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
            event = follow(
                events, call,
                note=lambda event: ledger.note(stage_name(event, first), event, before),
                pack=lambda event: export_averaged(event, call, ledger=ledger),
            )  # fmt: skip
            whole = event.stage == "model"
            export_averaged(event, call, ledger=ledger, sheet=True, whole=whole, prompts=event.prompts)
    print(ledger)
    return ledger


def export_averaged(event: Event, call: PixelCall, **asked: Any) -> None:
    """`export` of what an event has, with its averaged weights."""
    with as_averaged(event):
        model = event.model()
        assert isinstance(model, UNetModel)
        export(model, call, **asked)


def export(
    model: UNetModel, call: PixelCall, *, ledger: Ledger, sheet: bool = False, whole: bool = False,
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


def judged(model: UNetModel, call: PixelCall) -> AgreementReport:
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


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of(__doc__, reserve=60.0)
    add = parser.add_argument
    add("--pool", type=int, default=PixelCall.pool, help="clips whose frames are the pictures")
    add("--prompts", type=int, default=PixelCall.prompts, help="kept-out prompts that are judged at the end")
    add("--seeds", type=int, default=PixelCall.seeds, help="films of each")
    add("--share", type=float, default=1.0, help="of the recipe's minutes: a small one is a trial")
    chosen = parser.parse_args(arguments)
    recipe = toy() if chosen.toy else shortened(UNET_RECIPES["vdm-gpu"], chosen.share)
    own = {name: getattr(chosen, name) for name in ("pool", "prompts", "seeds")}
    call = PixelCall(recipe, **common(chosen), **own)
    return ended(lambda: train(call))


if __name__ == "__main__":
    raise SystemExit(main())
