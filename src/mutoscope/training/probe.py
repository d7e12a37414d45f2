"""Training the probe on drawn clips whose truth is known: a few minutes on one core.

Drawing a clip costs as much as training on it, so clips are drawn once, kept as bytes in a pool, and shown
again: every batch has some clips that nobody saw before and many old ones, each disturbed anew. Which ones
is a function of the step alone, and a clip that the pool no longer has is drawn again, so a resumed run is
the unbroken run.

    python -m mutoscope.training.probe --out FOLDER --minutes 6
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mutoscope.data.loader import WorldSource
from mutoscope.data.world import VOCABULARIES, Scene, Vocabulary
from mutoscope.evaluation.probe import CONFIG, Probe, ProbeConfig, load_probe, look, save_probe
from mutoscope.training.disturb import Disturbance, disturb, mirror
from mutoscope.training.loop import Progress, TrainSettings, train
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.video import Refusal

__all__ = [
    "ClipPool",
    "ProbeSettings",
    "ProbeTask",
    "accuracies",
    "ensure_probe",
    "known_probe",
    "train_probe",
]

UNSEEN = 1_000_003  # the seed of the clips by which a probe is judged; no training stream has it


class ProbeSettings(BaseModel):
    """How the probe is fed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fresh: int = Field(default=8, ge=1, description="clips drawn anew for a step")
    again: int = Field(default=16, ge=0, description="clips of the pool shown again in a step")
    pool: int = Field(
        default=4000, ge=8, description="clips kept in memory, 240 kB each at 96x64 and 13 frames"
    )
    smoothing: float = Field(
        default=0.05, ge=0, lt=1, description="label smoothing: answers stay unsure of worn clips"
    )


class ClipPool:
    """Clips of a source by number, kept as bytes while there is room; a missing one is drawn again."""

    def __init__(self, source: WorldSource, *, chunk: int, room: int) -> None:
        self.source, self.chunk, self.room = source, chunk, max(1, room // chunk)
        self.kept: dict[int, tuple[Tensor, list[Scene]]] = {}

    def take(self, numbers: list[int]) -> tuple[Tensor, list[Scene]]:
        """The clips "b 3 f h w" in [-1, 1] and their scenes."""
        found = [(self._chunk(number // self.chunk), number % self.chunk) for number in numbers]
        pixels = torch.stack([clips[place] for (clips, _), place in found])
        return pixels.float() / 127.5 - 1, [scenes[place] for (_, scenes), place in found]

    def numbers(self, step: int, count: int, *, generator: torch.Generator) -> list[int]:
        """The chunk that is new at `step`, then `count` numbers of those that the pool has room for."""
        new = list(range(step * self.chunk, (step + 1) * self.chunk))
        first = max(0, step + 1 - self.room) * self.chunk
        old = torch.randint(first, new[-1] + 1, (count,), generator=generator, device=generator.device)
        return new + old.tolist()

    def _chunk(self, index: int) -> tuple[Tensor, list[Scene]]:
        if index in self.kept:
            return self.kept[index]
        batch = self.source.batch(index, self.chunk)
        levels = ((batch.video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        self.kept[index] = found = (levels, batch.scenes)
        for old in sorted(self.kept)[: -self.room]:
            del self.kept[old]
        return found


class ProbeTask:
    """What `training.loop.train` trains: cross-entropy of every attribute on clips of a world source."""

    def __init__(
        self,
        probe: Probe,
        source: WorldSource,
        *,
        settings: ProbeSettings,
        strength: Disturbance | None = None,
    ) -> None:
        self.probe, self.feed = probe, settings
        self.strength = strength or Disturbance()
        self.batch = settings.fresh + settings.again
        self.modules: Mapping[str, nn.Module] = {"probe": probe}
        self.pool = ClipPool(source, chunk=settings.fresh, room=settings.pool)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "model": self.probe.config.model_dump(mode="json"),
            "feed": self.feed.model_dump(mode="json"),
            "disturbance": vars(self.strength),
        }

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The sum over attributes of the cross-entropy, and the share of right answers."""
        numbers = self.pool.numbers(step, self.feed.again, generator=generator)
        clips, scenes = self.pool.take(numbers)
        flipped = torch.rand(len(scenes), generator=generator, device=generator.device) < 0.5
        truth = truths(scenes, self.probe.config, mirrored=flipped.tolist())
        clips = mirror(clips.to(generator.device), flipped)
        logits, _ = self.probe(disturb(clips, self.strength, generator=generator))
        losses, right = [], []
        for name, answer in logits.items():
            asked = truth[name].to(answer.device)
            losses.append(F.cross_entropy(answer.float(), asked, label_smoothing=self.feed.smoothing))
            right.append((answer.argmax(1) == asked).float().mean())
        return {"loss": torch.stack(losses).sum(), "right": torch.stack(right).mean()}


def truths(
    scenes: list[Scene], config: ProbeConfig, *, mirrored: list[bool] | None = None
) -> dict[str, Tensor]:
    """The place of each scene's word among the attribute's words, "b"; a mirrored clip goes the other way."""
    other = {"left": "right", "right": "left"}

    def word(scene: Scene, name: str, flip: bool) -> str:
        return other[scene.direction] if flip and name == "direction" else getattr(scene, name)

    flips = mirrored or [False] * len(scenes)
    return {
        name: torch.tensor([words.index(word(s, name, f)) for s, f in zip(scenes, flips, strict=True)])
        for name, words in config.words.items()
    }


def accuracies(probe: Probe, source: WorldSource, *, count: int, chunk: int = 10) -> dict[str, float]:
    """Share of right answers on the first `count` clips of a source, by attribute and their "mean"."""
    right: dict[str, list[bool]] = {name: [] for name in probe.config.words}
    for step in range(-(-count // chunk)):
        batch = source.batch(step, chunk)
        for told, scene in zip(look(probe, batch.video, fps=source.fps).words(), batch.scenes, strict=True):
            for name, word in told.items():
                right[name].append(word == getattr(scene, name))
    shares = {name: sum(hits[:count]) / count for name, hits in right.items()}
    return shares | {"mean": sum(shares.values()) / len(shares)}


def schedule(*, minutes: float | None = None, steps: int | None = None, seed: int = 0) -> TrainSettings:
    """Settings with which a probe learns in minutes."""
    return TrainSettings(
        minutes=minutes,
        steps=steps,
        seed=seed,
        optimizer=OptimizerSettings(muon_lr=0.02, adamw_lr=2e-3),
        warmup_steps=20,
        decay_share=0.5,
        ema=0.98,
        precision="auto",
        checkpoint_seconds=60.0,
    )


def train_probe(
    out: Path | str,
    *,
    vocabulary: Vocabulary,
    settings: TrainSettings,
    feed: ProbeSettings | None = None,
    config: ProbeConfig | None = None,
    run_folder: Path | str | None = None,
) -> Iterator[Progress]:
    """Train a probe for a vocabulary and write it to `out`; one `Progress` a step.

    With `run_folder` the run can be resumed by the same call; without, it lives in a temporary folder.
    """
    torch.manual_seed(settings.seed)
    probe = Probe(config or ProbeConfig.of(vocabulary.words()))
    seen = probe.config
    source = WorldSource(vocabulary, frames=seen.frames, size=seen.size, fps=seen.fps, seed=settings.seed)
    task = ProbeTask(probe, source, settings=feed or ProbeSettings())
    with tempfile.TemporaryDirectory() as temporary:
        for progress in train(task, settings, run_folder or temporary):
            if progress.event == "finished":
                _write(probe, progress, out)
            yield progress


def _write(probe: Probe, progress: Progress, out: Path | str) -> None:
    if progress.ema is None:
        save_probe(probe, out)
        return
    with progress.ema.weights():
        save_probe(probe, out)


def ensure_probe(folder: Path | str, *, vocabulary: Vocabulary, minutes: float = 6.0) -> Iterator[Progress]:
    """Train a probe into the folder unless one is there, for which nothing is yielded.

    Raises:
        Refusal: the probe that is there is broken, or knows other words than the vocabulary.
    """
    if not (Path(folder) / CONFIG).exists():
        yield from train_probe(folder, vocabulary=vocabulary, settings=schedule(minutes=minutes))
        return
    known = load_probe(folder).config.words
    if known != ProbeConfig.of(vocabulary.words()).words:
        raise Refusal(f"the probe in {folder} knows other words than this world; remove it to train one anew")


def known_probe(own: Path, shipped: Path, *, vocabulary: Vocabulary) -> Path:
    """Where a model's probe is: its own, else the shipped one if that knows the same words, else where its
    own is to be. So models of one world are judged by one probe."""
    words = ProbeConfig.of(vocabulary.words()).words
    if not (own / CONFIG).exists() and (shipped / CONFIG).exists():
        return shipped if load_probe(shipped).config.words == words else own
    return own


def main() -> None:
    """The command: train, then judge on clips that no training stream shows."""
    parser = argparse.ArgumentParser(prog="python -m mutoscope.training.probe", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the probe to")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=float, help="time budget (default 6); its steps are fixed once measured"
    )
    length.add_argument("--steps", type=int, help="or the number of steps, 500 do")
    parser.add_argument("--vocabulary", choices=sorted(VOCABULARIES), default="small")
    parser.add_argument("--run", type=Path, help="run folder, for a run that can be resumed")
    parser.add_argument("--clips", type=int, default=500, help="unseen clips to judge by")
    told = parser.parse_args()
    vocabulary = VOCABULARIES[told.vocabulary]
    settings = schedule(steps=told.steps, minutes=None if told.steps else told.minutes or 6.0)
    for progress in train_probe(told.out, vocabulary=vocabulary, settings=settings, run_folder=told.run):
        if progress.step % 20 == 0 or progress.event == "finished":
            print(progress, flush=True)
    unseen = WorldSource(vocabulary, frames=13, seed=UNSEEN, held_out=True)
    print(
        {
            name: round(share, 4)
            for name, share in accuracies(load_probe(told.out), unseen, count=told.clips).items()
        }
    )


if __name__ == "__main__":
    main()
