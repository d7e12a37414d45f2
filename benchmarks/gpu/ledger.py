"""What has been learnt and what of a recipe is left: how a run goes on where its machine was taken away.

A parcel carries the model and this ledger; the run's own checkpoints stay behind, 400 MB that cannot come
along. On a fresh machine the recipe is cut by what the ledger says: a finished stage is left out, a begun one
gets the rest of its minutes. Only the optimizer's momenta are lost, which a new warm-up makes good.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from mutoscope.training.course import Event, Piece, Recipe, Stage
from mutoscope.training.loop import TrainSettings
from mutoscope.training.pixel_course import UNetPiece

FILE = "ledger.json"
SHORTEST = 0.25
"""Minutes below which the rest of a stage is not worth compiling for."""


@dataclass
class Entry:
    """One stage: steps and seconds done, samples seen, the last losses, and whether it is over."""

    steps: int = 0
    planned: int | None = None
    seconds: float = 0.0
    views: int = 0
    rate: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    finished: bool = False


@dataclass
class Ledger:
    """Entries by stage: autoencoder, latents, denoiser-1, denoiser-2, ..."""

    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> "Ledger":
        """The ledger in a folder, or an empty one."""
        path = Path(folder) / FILE
        known = json.loads(path.read_text()) if path.exists() else {}
        return cls({name: Entry(**entry) for name, entry in known.items()})

    def __str__(self) -> str:
        """What was done so far, a line a stage."""
        lines = [f"{'stage':<16} {'steps':>13} {'seconds':>8} {'samples/s':>10}  last losses"]
        for name, entry in self.entries.items():
            losses = "  ".join(f"{key} {value:.4g}" for key, value in entry.losses.items())
            done = f"{entry.steps}/{entry.planned or '?'}" + ("" if entry.finished else " ..")
            lines.append(f"{name:<16} {done:>13} {entry.seconds:>8.0f} {entry.rate:>10.4g}  {losses}")
        return "\n".join(lines)

    def copy(self) -> "Ledger":
        return Ledger({name: replace(entry) for name, entry in self.entries.items()})

    def write(self, folder: str | Path) -> None:
        entries = {name: asdict(entry) for name, entry in self.entries.items()}
        (Path(folder) / FILE).write_text(json.dumps(entries, indent=1) + "\n")

    def note(self, name: str, event: Event, before: "Ledger") -> None:
        """Write an event down; `before` is what was done on other machines."""
        if event.total is None and event.progress is None:
            return  # the end, which is no stage
        old = before.entries.get(name, Entry())
        entry = self.entries.setdefault(name, Entry())
        if event.progress is None:
            entry.steps, entry.planned = event.done, event.total
            entry.finished = event.done == event.total
            return
        progress = event.progress
        done = progress.step
        entry.steps, entry.seconds = old.steps + done, old.seconds + progress.elapsed
        entry.planned = None if progress.steps is None else old.steps + progress.steps
        samples = progress.samples_rate / progress.rate if progress.rate > 0 else 0
        entry.views = old.views + round(samples * done)
        entry.rate, entry.losses = progress.samples_rate, progress.losses
        entry.finished = progress.event == "finished"


def stage_name(event: Event, first: int = 0) -> str:
    """The event's stage as the ledger calls it; `first` numbered pieces were done before this run."""
    name, _, number = event.stage.partition(" ")
    return f"{name}-{first + int(number.split('/')[0])}" if "/" in number else event.stage


@dataclass(frozen=True)
class Rest:
    """What is left: the recipe cut short, its stage for `course.run`, and the pieces that are done."""

    recipe: Recipe
    stage: Stage
    pieces_done: int

    @property
    def nothing(self) -> bool:
        return not self.recipe.denoiser.pieces


def rest(recipe: Recipe, ledger: Ledger) -> Rest:
    """A recipe without what the ledger says is done."""
    seen = ledger.entries.get("autoencoder", Entry())
    stage = recipe.autoencoder
    left = left_of(stage.train, seen)
    if left is not None:
        stage = stage.model_copy(update={"train": left})
    pieces = pieces_left(recipe.denoiser.pieces, ledger, name="denoiser")
    denoiser = recipe.denoiser.model_copy(update={"pieces": pieces})
    return Rest(
        recipe.model_copy(update={"autoencoder": stage, "denoiser": denoiser}),
        "denoiser" if left is None else "all",
        len(recipe.denoiser.pieces) - len(pieces),
    )


AnyPiece = TypeVar("AnyPiece", Piece, UNetPiece)


def pieces_left(pieces: tuple[AnyPiece, ...], ledger: Ledger, *, name: str) -> tuple[AnyPiece, ...]:
    """Pieces without what the ledger says is done of `name`-1, `name`-2, ..."""
    left = []
    for number, piece in enumerate(pieces, start=1):
        train = left_of(piece.train, ledger.entries.get(f"{name}-{number}", Entry()))
        if train is not None:
            left.append(piece.model_copy(update={"train": train}))
    return tuple(left)


def left_of(settings: TrainSettings, done: Entry) -> TrainSettings | None:
    """The settings for the rest of a stage, which decays as long as the whole would; None if it is over."""
    if done.finished:
        return None
    if not done.steps:
        return settings
    if settings.steps is not None:
        whole, part = float(settings.steps), float(settings.steps - done.steps)
        length: dict[str, float | int] = {"steps": int(part)}
    else:
        assert settings.minutes is not None
        whole, part = settings.minutes, settings.minutes - done.seconds / 60
        length = {"minutes": part}
    if part < (1 if settings.steps is not None else SHORTEST):
        return None
    return settings.model_copy(update=length | {"decay_share": min(1.0, settings.decay_share * whole / part)})
