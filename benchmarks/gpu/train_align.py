"""Align Your Latents at a useful size, on one data-centre GPU, in pieces of a few minutes.

    python benchmarks/gpu/train_align.py --out RUN --parcel FILES --budget-seconds 540

One call does what fits into its budget, stage by stage (`training.hierarchy_course`). The same call again
goes on; on a fresh machine, `--start FOLDER` goes on from the folder that `parcel.py` made of the last call's
files: stages that are done are not trained again, a begun one gets the rest of its minutes. Every call ends
with a parcel (model, sheet, metrics, ledger) and a table; one is also packed every few minutes. When all is
trained, a call makes the film of `--prompt`, `--seconds` long, in the parcel.
"""

import json
import shutil
import time
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from calls import DEVICE, Call, as_averaged, common, ended, follow, parser_of, world_source
from drawers import Drawers, DrawnSource, Pool, World
from ledger import Entry, Ledger, left_of
from parcel import pack_aloud

from mutoscope.checkpoints.hierarchy_folder import HierarchyModel, load_hierarchy, save_hierarchy
from mutoscope.data.loader import Source
from mutoscope.hierarchy_recipes import HIERARCHY_RECIPES
from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.sheets import reconstruction_sheet, sample_sheet
from mutoscope.training.course import Event
from mutoscope.training.footage import ClipSettings
from mutoscope.training.hierarchy_course import HierarchyRecipe, run
from mutoscope.training.loop import TrainSettings

PIECES = {
    "autoencoder": ("autoencoder",), "pictures": ("pictures",), "key frames": ("keys",),
    "decoder": ("decoder",), "between": ("between",), "larger pictures": ("larger", "pictures"),
    "larger clips": ("larger", "clips"),
}  # fmt: skip
"""Where each stage's training stands in the recipe."""
TOGETHER = 64 if DEVICE == "cuda" else 8
"""Clips that the course encodes at a time."""


@dataclass(frozen=True)
class ChainCall(Call[HierarchyRecipe]):
    """Also: the film at the end, and the clips that autoencoder, decoder and upscaler see."""

    prompt: str = "a man walking in the rain"
    seconds: float = 20.0
    pool: int = 2048
    large_pool: int = 768


def world_of(clips: ClipSettings, frames: int) -> World:
    return World(clips.vocabulary, frames, (clips.width, clips.height), clips.fps)


class ClipSources:
    """Clips of the course, drawn by the workers from the start, in the order in which they will be asked for.

    Latents are of clips each drawn once. Autoencoder, decoder and upscaler see stretches of two pools, small
    and large, of the finished film's rate. What is only shown is drawn here and now.
    """

    def __init__(self, call: ChainCall, *, done: Collection[str] = ()) -> None:
        recipe, seed = call.recipe, call.recipe.clips.seed
        self.own = {seed, seed + 1000}
        self.drawers = Drawers(call.workers, device="cpu") if call.workers else None
        self.drawn: dict[World, DrawnSource] = {}
        self.pools: dict[tuple[int, int], Pool] = {}
        if self.drawers is None:
            return
        stretch = max(recipe.autoencoder.frames, recipe.decoder.frames)
        self._pool(world_of(recipe.clips, stretch), call.pool)
        if not {"pictures", "key frames", "between"} <= set(done):
            for number in range(recipe.chain.rounds + 1):
                world = world_of(recipe.clips_after(number), recipe.seen_after(number))
                self.drawn[world] = source = self._source(world)
                source.begin(TOGETHER, range(-(-recipe.latents // TOGETHER)))
        self._pool(world_of(recipe.large_clips, max(1, recipe.larger.clips.unet.frames)), call.large_pool)

    def _source(self, world: World) -> DrawnSource:
        assert self.drawers is not None
        return DrawnSource(self.drawers, world, min(self.own), DEVICE, shares=True)

    def _pool(self, world: World, clips: int) -> None:
        self.pools[world.size] = pool = Pool(self._source(world), clips=clips, frames=world.frames)
        pool.begin()

    def __call__(self, clips: ClipSettings, frames: int, seed: int) -> Source:
        world = world_of(clips, frames)
        if self.drawers is None or seed not in self.own:
            return world_source(clips, frames, seed=seed)
        return self.drawn.get(world) or self.pools[world.size].cut(frames)

    def close(self) -> None:
        if self.drawers is not None:
            self.drawers.close()


@dataclass(frozen=True)
class Rest:
    """What is left: the recipe with its begun stages cut short, and the stages that are done."""

    recipe: HierarchyRecipe
    done: frozenset[str]


def rest(recipe: HierarchyRecipe, ledger: Ledger) -> Rest:
    """A recipe without what the ledger says is done."""
    settings, done = recipe.model_dump(mode="json"), set()
    for stage, path in PIECES.items():
        piece = piece_of(settings, path)
        train = TrainSettings.model_validate(piece["train"])
        left = left_of(train, ledger.entries.get(stage, Entry()))
        if left is None:
            done.add(stage)
        else:
            piece["train"] = left.model_dump(mode="json")
    return Rest(HierarchyRecipe.model_validate(settings), frozenset(done))


def piece_of(settings: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """The part of a recipe's plain values that stands there."""
    for name in path:
        settings = settings[name]
    return settings  # type: ignore[no-any-return]


def toy() -> HierarchyRecipe:
    """The same stages in seconds on a processor, nothing learnt."""
    settings = HIERARCHY_RECIPES["align-smoke"].model_dump(mode="json")
    for path in PIECES.values():
        piece_of(settings, path)["train"]["steps"] = 2
    return HierarchyRecipe.model_validate(settings | {"steps": 1})


def shortened(recipe: HierarchyRecipe, share: float) -> HierarchyRecipe:
    """The recipe with a share of its minutes and of its clips."""
    settings = recipe.model_dump(mode="json")
    for path in PIECES.values():
        piece_of(settings, path)["train"]["minutes"] *= share
    settings["latents"] = max(TOGETHER, int(share * recipe.latents))
    return HierarchyRecipe.model_validate(settings)


def train(call: ChainCall) -> Ledger:
    """Do what fits into the call, and pack a parcel at its end."""
    before = Ledger.read(call.start) if call.start else Ledger()
    left, ledger = rest(call.recipe, before), before.copy()
    if len(left.done) == len(PIECES):
        assert call.start is not None
        export(load_hierarchy(call.start / "model"), call, ledger=ledger, whole=True)
    else:
        with (
            closing(ClipSources(call, done=left.done)) as sources,
            closing(_events(call, left, sources)) as events,
        ):
            event = follow(
                events, call,
                note=lambda event: ledger.note(event.stage, event, before),
                pack=lambda event: export_averaged(event, call, ledger=ledger),
            )  # fmt: skip
            whole = event.stage == "model"
            export_averaged(event, call, ledger=ledger, event=event, whole=whole)
    print(ledger)
    return ledger


def _events(call: ChainCall, left: Rest, sources: ClipSources) -> Generator[Event, None, None]:
    start = call.start / "model" if call.start else None
    yield from run(left.recipe, call.out, start=start, done=left.done, sources=sources)


def export_averaged(now: Event, call: ChainCall, **asked: Any) -> None:
    """`export` of what an event has, with its averaged weights."""
    with as_averaged(now):
        model = now.model()
        assert isinstance(model, HierarchyModel)
        export(model, call, **asked)


def export(
    model: HierarchyModel, call: ChainCall, *, ledger: Ledger, event: Event | None = None, whole: bool = False
) -> None:
    """Pack the model as it stands; with the last event also what a person wants to see, and if it is whole
    the film."""
    folder = call.out / "parcel"
    folder.mkdir(parents=True, exist_ok=True)
    save_hierarchy(model, folder / "model")
    for metrics in call.out.glob("*/metrics.jsonl"):
        shutil.copy(metrics, folder / f"{metrics.parent.name}-metrics.jsonl")
    ledger.write(folder)
    pack_aloud(folder, call.parcel)
    if event is not None:
        reconstruction_sheet(model.autoencoder, event.source, path=folder / "reconstructions.png")
    if event is not None and event.stage not in ("autoencoder", "latents"):
        sample_sheet(model, event.prompts, path=folder / "samples.png")
    if whole:
        _film(model, folder, call)
    pack_aloud(folder, call.parcel)


def _film(model: HierarchyModel, folder: Path, call: ChainCall) -> None:
    """The film of the prompt, written as it is decoded: frames as a folder where no MP4 can be written."""
    from mutoscope.pipelines.output import film

    maker, begun = Hierarchy(model), time.monotonic()
    request = maker.request(call.prompt, seconds=call.seconds, seed=1)
    ending = "mp4" if find_spec("av") else "webp"  # the lent image has no av
    for _ in film(maker, request, output=folder / f"film.{ending}"):
        pass
    took = time.monotonic() - begun
    facts = {"seconds": took, "frames": request.frames, "size": request.size, "on": DEVICE}
    (folder / "film.json").write_text(json.dumps(facts, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of(__doc__, reserve=60.0)
    add = parser.add_argument
    add("--prompt", default=ChainCall.prompt, help="of the film at the end")
    add("--seconds", type=float, default=ChainCall.seconds, help="how long that film is")
    add("--pool", type=int, default=ChainCall.pool, help="small clips that autoencoder and decoder see")
    add("--large-pool", type=int, default=ChainCall.large_pool, help="large clips that the upscaler sees")
    add("--share", type=float, default=1.0, help="of the recipe's minutes and clips: a small one is a trial")
    chosen = parser.parse_args(arguments)
    recipe = toy() if chosen.toy else shortened(HIERARCHY_RECIPES["align-gpu"], chosen.share)
    own = {name: getattr(chosen, name) for name in ("prompt", "seconds", "pool", "large_pool")}
    call = ChainCall(recipe, **common(chosen), **own)
    return ended(lambda: train(call))


if __name__ == "__main__":
    raise SystemExit(main())
