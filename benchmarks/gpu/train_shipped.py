"""The model that ships, trained on one data-centre GPU in pieces of a few minutes.

    python benchmarks/gpu/train_shipped.py --out RUN --parcel FILES --budget-seconds 540

One call does what fits into its budget: autoencoder, encoding, images, clips, in that order. The same call
again goes on; on a fresh machine, `--start FOLDER` goes on from the folder that `parcel.py` made of the last
call's files. Every call ends with a parcel (model, sheets, metrics, ledger) and a table; one is also packed
every few minutes in case the end is not reached. How to run it on a lent machine: README.md beside this file.
"""

import json
import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from calls import DEVICE, Call, as_averaged, common, ended, follow, parser_of, world_source
from drawers import Drawers, DrawnSource, Pool, World
from ledger import Ledger, Rest, rest, stage_name
from parcel import pack_aloud

from mutoscope.checkpoints.folder import Model, save_model
from mutoscope.data.loader import Source
from mutoscope.evaluation.fidelity import difference_correlation, psnr
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.pipelines.sheets import reconstruction_sheet, sample_sheet
from mutoscope.recipes import RECIPES
from mutoscope.training.course import Event, Recipe, run
from mutoscope.training.footage import ClipSettings

UNSEEN = 5000  # added to the seed of the clips: those that quality is measured on


def toy() -> Recipe:
    """The gpu recipe's course in seconds on a processor: the same stages, nothing learnt."""
    smoke = RECIPES["smoke"]
    images, clips = (
        piece.model_copy(update={"train": piece.train.model_copy(update={"steps": steps})})
        for piece, steps in zip(smoke.denoiser.pieces, (3, 6), strict=True)
    )
    training = smoke.autoencoder.train.model_copy(update={"steps": 3, "log_steps": 1})
    changes = {
        "autoencoder": smoke.autoencoder.model_copy(update={"train": training, "frames": 3, "measure": 1}),
        "denoiser": smoke.denoiser.model_copy(update={"pieces": (images, clips)}),
        "latents": 8,
        "steps": 2,
    }
    return smoke.model_copy(update=changes)


@dataclass(frozen=True)
class ShippedCall(Call[Recipe]):
    """Also: where clips are drawn, and how many the autoencoder sees."""

    draw_on: str = DEVICE
    pool: int = 6144


class ClipSources:
    """Clips for the course: of training drawn by the workers, the few that are measured or shown here."""

    def __init__(self, call: ShippedCall) -> None:
        self.call = call
        self.drawers = Drawers(call.workers, device=call.draw_on) if call.workers else None

    def __call__(self, clips: ClipSettings, frames: int, seed: int) -> Source:
        if self.drawers is None or seed != clips.seed:
            return world_source(clips, frames, seed=seed)
        world = World(clips.vocabulary, clips.frames, (clips.width, clips.height), clips.fps)
        drawn = DrawnSource(self.drawers, world, seed, DEVICE)
        return Pool(drawn, clips=self.call.pool, frames=frames) if frames < clips.frames else drawn

    def rest(self) -> None:
        """End the workers and give back what they and the last stage hold of the GPU's memory."""
        if self.drawers is not None:
            self.drawers.rest()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        if self.drawers is not None:
            self.drawers.close()


def train(call: ShippedCall) -> Ledger:
    """Do what fits into the call, and pack a parcel at its end."""
    before = Ledger.read(call.start) if call.start else Ledger()
    left = rest(call.recipe, before)
    if left.nothing:
        print("nothing is left to train; the model is whole")
        return before
    ledger = before.copy()
    with closing(ClipSources(call)) as sources, closing(_events(call, left, sources)) as events:

        def note(event: Event) -> None:
            ledger.note(stage_name(event, left.pieces_done), event, before)
            if event.stage == "latents" and event.done == event.total:
                sources.rest()

        pack = partial(export, call=call, ledger=ledger, sheets=False)
        event = follow(events, call, note=note, pack=pack)
    export(event, call, ledger=ledger, sheets=True)
    print(table(call.recipe, ledger))
    return ledger


def _events(call: ShippedCall, left: Rest, sources: ClipSources) -> Generator[Event, None, None]:
    start = call.start / "model" if call.start else None
    yield from run(left.recipe, call.out, stage=left.stage, start=start, sources=sources)


def export(event: Event, call: ShippedCall, *, ledger: Ledger, sheets: bool) -> None:
    """Pack the model as it stands, and with `sheets` what a person wants to see and know of it."""
    folder = call.out / "parcel"
    folder.mkdir(parents=True, exist_ok=True)
    with as_averaged(event):
        model = event.model()
        save_model(model, folder / "model")
        if sheets:
            draw_sheets(model, event, folder)
            facts = quality(model.autoencoder, call.recipe)
            (folder / "quality.json").write_text(json.dumps(facts, indent=1) + "\n")
    for metrics in call.out.glob("*/metrics.jsonl"):
        shutil.copy(metrics, folder / f"{metrics.parent.name}-metrics.jsonl")
    ledger.write(folder)
    pack_aloud(folder, call.parcel)


def draw_sheets(model: Model, event: Event, folder: Path) -> None:
    """Reconstructions, and films of the prompts once there is something to see."""
    reconstruction_sheet(model.autoencoder, event.source, path=folder / "reconstructions.png")
    if event.stage.startswith(("denoiser", "model")):
        sample_sheet(model, event.prompts, path=folder / "samples.png")


@torch.no_grad()
def quality(autoencoder: Autoencoder, recipe: Recipe, *, count: int = 48, batch: int = 8) -> dict[str, float]:
    """Of unseen clips: mean PSNR in dB, and the correlation of the frame differences where it rains."""
    source = world_source(recipe.clips, recipe.clips.frames, seed=recipe.clips.seed + UNSEEN)
    count = min(count, recipe.latents)
    decibels, rain = [], []
    autoencoder.eval()
    for step in range(-(-count // batch)):
        clips = source.batch(step, batch)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            made = autoencoder.decode(autoencoder.encode(clips.video).mode())
        made = made[:, :, : clips.video.shape[2]].float().clamp(-1, 1)
        decibels += psnr(made, clips.video).tolist()
        same = difference_correlation(made, clips.video).tolist()
        rain += [value for value, scene in zip(same, clips.scenes, strict=True) if scene.weather == "rain"]
    found = {"psnr": _mean(decibels), "rain_correlation": _mean(rain)}
    return found | {"clips": len(decibels), "rainy_clips": len(rain)}


def _mean(values: Sequence[float]) -> float:
    true = [value for value in values if value == value]
    return sum(true) / max(1, len(true))


def table(recipe: Recipe, ledger: Ledger) -> str:
    """What was done so far, a line a stage."""
    head = f"{'stage':<12} {'steps':>13} {'seconds':>8} {'samples/s':>10} {'views':>11} {'clips':>11}"
    lines = [f"{head}  last losses"]
    for name, entry in ledger.entries.items():
        losses = "  ".join(f"{key} {value:.4g}" for key, value in entry.losses.items())
        done = f"{entry.steps}/{entry.planned or '?'}" + ("" if entry.finished else " ..")
        numbers = f"{entry.seconds:>8.0f} {entry.rate:>10.4g} {entry.views:>11,}"
        lines.append(
            f"{name:<12} {done:>13} {numbers} {entry.steps * clips_a_step(recipe, name):>11,.0f}  {losses}"
        )
    return "\n".join(lines)


def clips_a_step(recipe: Recipe, name: str) -> float:
    """How many of a step's views are clips, of more than one latent frame."""
    if not name.startswith("denoiser"):
        return recipe.autoencoder.terms.batch if name == "autoencoder" else 0.0
    joint = recipe.denoiser.pieces[int(name.split("-")[1]) - 1].joint
    shares = sum(joint.lengths.values())
    return sum(s / shares * (joint.frames_a_step // n) for n, s in joint.lengths.items() if n > 1)


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of(__doc__, reserve=45.0)
    add = parser.add_argument
    add("--draw-on", default=DEVICE, choices=("cpu", "cuda"), help="where they draw")
    add("--pool", type=int, default=ShippedCall.pool, help="clips that the autoencoder sees")
    add("--latents", type=int, help="clips to encode, if not the recipe's number")
    chosen = parser.parse_args(arguments)
    recipe = toy() if chosen.toy else RECIPES["gpu"]
    if chosen.latents:
        recipe = recipe.model_copy(update={"latents": chosen.latents})
    call = ShippedCall(recipe, **common(chosen), draw_on=chosen.draw_on, pool=chosen.pool)
    return ended(lambda: train(call))


if __name__ == "__main__":
    raise SystemExit(main())
