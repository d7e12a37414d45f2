"""A course: from clips to a model folder that films, in stages that each resume by the same call.

    1 autoencoder   clips -> latents and back                  RUN/autoencoder/
    2 latents       every clip encoded once                    RUN/latents/
    3 denoiser      words and noise -> latents, in pieces      RUN/denoiser-1/, RUN/denoiser-2/, ...
    4 model         the public folder                          RUN/model/

Each piece of the denoiser's training starts from the averaged weights of the one before (single frames first,
then clips, say). `run` is a generator of events; whoever iterates draws progress and contact sheets.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field

from mutoscope.checkpoints.folder import Model, ModelFacts, load_model, save_model
from mutoscope.checkpoints.hierarchy_folder import HierarchyModel
from mutoscope.checkpoints.unet_folder import UNetModel
from mutoscope.data.latents import LatentCache, encode_all
from mutoscope.data.loader import Ahead, Source
from mutoscope.models.autoencoder import Autoencoder, AutoencoderConfig
from mutoscope.models.image_autoencoder import ImageAutoencoder
from mutoscope.models.precision import default_device
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.models.words import Words
from mutoscope.training.autoencoder import AutoencoderTask, ReconstructionSettings, measure_latents
from mutoscope.training.denoiser import DenoiserTask, JointSettings
from mutoscope.training.encoding import encoder_of, weights_hash
from mutoscope.training.footage import ClipSettings, Footage, Settings, Sources
from mutoscope.training.loop import Progress, TrainSettings, start_from, train
from mutoscope.video import Refusal

__all__ = [
    "AutoencoderStage", "ClipSettings", "Coding", "DenoiserStage", "Event", "Piece", "Recipe", "Stage", "run",
    "unless_stopped",
]  # fmt: skip

Stage = Literal["autoencoder", "denoiser", "all"]


class AutoencoderStage(Settings):
    """How the autoencoder is built and trained; `frames` of a clip are seen at a time."""

    model: AutoencoderConfig
    terms: ReconstructionSettings = ReconstructionSettings()
    frames: int = Field(default=9, ge=1)
    train: TrainSettings
    measure: int = Field(
        default=16, ge=1, description="batches by which the latents' mean and deviation are measured"
    )


class Piece(Settings):
    """One piece of the denoiser's training."""

    joint: JointSettings = JointSettings()
    train: TrainSettings


class DenoiserStage(Settings):
    """How transformer and text encoder are built and trained."""

    transformer: TransformerConfig
    text_layers: int = Field(default=2, ge=1)
    text_ffn: int = Field(default=640, ge=1)
    tokens: int = Field(default=512, ge=258, description="size of the tokenizer's vocabulary")
    pieces: tuple[Piece, ...]


class Recipe(Settings):
    """A named, complete set of settings: everything that a run needs to know."""

    about: str
    clips: ClipSettings = ClipSettings()
    autoencoder: AutoencoderStage
    latents: int = Field(ge=1, description="clips to encode for the denoiser")
    denoiser: DenoiserStage
    steps: int = Field(default=24, ge=1, description="default number of sampling steps")
    guidance: float = Field(default=3.0, ge=0, description="default guidance scale")
    shift: float = Field(default=3.0, gt=0, description="shift of the sampling grid towards noise")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; all cores if left away")


@dataclass
class Networks:
    """What has been trained so far, for whoever looks on."""

    autoencoder: Autoencoder
    transformer: Transformer | None = None
    words: Words | None = None


class Coding(Protocol):
    """Whatever holds the autoencoder that is trained."""

    @property
    def autoencoder(self) -> Autoencoder | ImageAutoencoder: ...


@dataclass(frozen=True)
class Event:
    """Something happened: `stage` names where, `progress` is the loop's, `text` a line to show.

    For whoever draws: the `networks` so far (None where `model()` is all there is), `source` of clips,
    `prompts` to film, and `model()` once there is one.
    """

    stage: str
    text: str
    networks: Coding | None = field(repr=False)
    source: Source = field(repr=False)
    prompts: list[str] = field(repr=False)
    model: Callable[[], Model | UNetModel | HierarchyModel] = field(repr=False)
    progress: Progress | None = None
    done: int = 0
    total: int | None = None


def run(
    recipe: Recipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    stage: Stage = "all",
    start: str | Path | None = None,
    sources: Sources | None = None,
) -> Iterator[Event]:
    """Run a course in the folder `out`; the same call goes on where an earlier one stopped.

    Args:
        data: a folder of real clips instead of the made world.
        stage: only the autoencoder, only what follows it, or all.
        start: a model folder whose weights every stage starts from; its shapes must be the recipe's.
        sources: gives the clips of settings, a number of frames and a seed, where they are not drawn here and
            now.

    Raises:
        Refusal: the folder's run has other settings, or the data folder holds no clips.
    """
    return unless_stopped(_Course(recipe, Path(out), data=data, start=start, sources=sources).stages(stage))


def unless_stopped(events: Iterator[Event]) -> Iterator[Event]:
    """The events of a course up to the one that says a signal stopped its training: what follows would begin
    from half of it. The same call goes on from there."""
    for event in events:
        yield event
        if event.progress is not None and event.progress.event == "stopped":
            return


class _Course:
    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        data: str | Path | None,
        start: str | Path | None,
        sources: Sources | None,
    ) -> None:
        self.recipe, self.out = recipe, out
        self.device = default_device().type
        self.start = load_model(start) if start else None
        torch.manual_seed(recipe.autoencoder.train.seed)
        autoencoder = self.start.autoencoder if self.start else Autoencoder(recipe.autoencoder.model)
        autoencoder.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]  # torch's gap
        self.net = Networks(autoencoder.to(self.device))
        self.footage = Footage(recipe.clips, data=data, sources=sources, device=self.device)
        self.source = self.footage.source

    def stages(self, stage: Stage) -> Iterator[Event]:
        if self.footage.verdict is not None:
            count = len(self.footage.clips)
            yield self._event("clips", str(self.footage.verdict), done=count, total=count)
        if stage in ("all", "autoencoder"):
            yield from self._train_autoencoder()
        if stage in ("all", "denoiser"):
            self._recall_autoencoder()
            yield from self._encode()
            yield from self._train_denoiser()
            yield self._finish()

    def _event(
        self,
        stage: str,
        text: str,
        *,
        progress: Progress | None = None,
        done: int = 0,
        total: int | None = None,
    ) -> Event:
        if progress is not None:
            done, total = progress.step, progress.steps
        source = self.source(self.recipe.clips.frames, seed=self.recipe.clips.seed + 2000)
        prompts = self.footage.prompts
        return Event(stage, text, self.net, source, prompts, self.model, progress, done, total)

    def _train_autoencoder(self) -> Iterator[Event]:
        stage = self.recipe.autoencoder
        source = self.source(stage.frames)
        batches = Ahead(lambda step: source.batch(step, stage.terms.batch))
        task = AutoencoderTask(self.net.autoencoder, batches, settings=stage.terms)
        for progress in train(task, stage.train, self.out / "autoencoder"):
            yield self._event("autoencoder", str(progress), progress=progress)

    def _recall_autoencoder(self) -> None:
        """The averaged weights of the trained autoencoder (or of the start), and its latents' statistics."""
        folder = self.out / "autoencoder"
        if (folder / "checkpoints").is_dir():
            start_from({"autoencoder": self.net.autoencoder}, folder)
        elif self.start is None:
            raise Refusal(f"{folder} holds no trained autoencoder; run the stage 'autoencoder' first")
        if self.start is not None and not (folder / "checkpoints").is_dir():
            return
        source = self.source(self.recipe.clips.frames, seed=self.recipe.clips.seed + 1000)
        latents = measure_latents(
            self.net.autoencoder, lambda step: source.batch(step, 8), count=self.recipe.autoencoder.measure
        )
        found = {"latents_mean": tuple(latents.mean.tolist()), "latents_std": tuple(latents.std.tolist())}
        self.net.autoencoder.config = self.net.autoencoder.config.model_copy(update=found)

    def _encode(self) -> Iterator[Event]:
        total, source = self.recipe.latents, self.source(self.recipe.clips.frames)
        if self.footage.clips:
            total = min(total, max(64, 8 * len(self.footage.clips)))
        for done in encode_all(
            source,
            self.out / "latents",
            encode=encoder_of(self.net.autoencoder),
            count=total,
            facts=self._facts(total),
            batch=64 if self.device == "cuda" else 8,
        ):
            yield self._event("latents", f"{done}/{total} clips encoded", done=done, total=total)

    def _facts(self, total: int) -> dict[str, Any]:
        clips = self.recipe.clips.model_dump(mode="json")
        return {
            "encoder": weights_hash(self.net.autoencoder),
            "clips": clips,
            "count": total,
            "data": self.footage.described(),
        }

    def _train_denoiser(self) -> Iterator[Event]:
        stage = self.recipe.denoiser
        cache = LatentCache.load(self.out / "latents")
        if cache.fits(self.device):
            cache = cache.to(self.device)
        self._build_denoiser([entry for entry in cache.told if isinstance(entry, str)])
        assert self.net.transformer is not None and self.net.words is not None
        for number, piece in enumerate(stage.pieces, start=1):
            settings = piece.train
            if number > 1:
                settings = settings.model_copy(update={"init_from": str(self.out / f"denoiser-{number - 1}")})
            task = DenoiserTask(
                self.net.transformer, self.net.words, cache=cache, settings=piece.joint, seed=settings.seed
            )
            name = f"denoiser {number}/{len(stage.pieces)}"
            for progress in train(task, settings, self.out / f"denoiser-{number}"):
                yield self._event(name, str(progress), progress=progress)

    def _build_denoiser(self, told: list[str]) -> None:
        if self.start is not None:
            self.net.transformer, self.net.words = self.start.transformer.float(), self.start.words.float()
        else:
            self.net.transformer, self.net.words = self._new_denoiser(told)
        self.net.transformer.to(self.device)
        self.net.words.to(self.device)

    def _new_denoiser(self, told: list[str]) -> tuple[Transformer, Words]:
        """Networks that have learnt nothing, and the tokenizer of what is told of the clips."""
        stage = self.recipe.denoiser
        torch.manual_seed(stage.pieces[0].train.seed)
        tokenizer = Tokenizer.train(told or self.footage.wordings, stage.tokens)
        config = TextEncoderConfig(
            vocabulary=tokenizer.vocabulary_size, width=stage.transformer.text_dim,
            layers=stage.text_layers, ffn_dim=stage.text_ffn,
        )  # fmt: skip
        transformer, padded_to = Transformer(stage.transformer), stage.pieces[0].joint.padded_to
        return transformer, Words(tokenizer, TextEncoder(config), padded_to=padded_to)

    def _finish(self) -> Event:
        last = self.out / f"denoiser-{len(self.recipe.denoiser.pieces)}"
        assert self.net.transformer is not None and self.net.words is not None
        start_from({"transformer": self.net.transformer, "text_encoder": self.net.words.encoder}, last)
        folder = save_model(self.model(), self.out / "model")
        return self._event("model", f"{folder} holds the model")

    def model(self) -> Model:
        """The model as it stands; before the denoiser's stage, with one that has learnt nothing."""
        recipe, clips = self.recipe, self.recipe.clips
        transformer, words = self.net.transformer, self.net.words
        if transformer is None or words is None:
            transformer, words = self._new_denoiser([])
        last = recipe.denoiser.pieces[-1].joint
        facts = ModelFacts(
            fps=clips.fps, size=(clips.width, clips.height), frames=clips.frames, steps=recipe.steps,
            guidance=recipe.guidance, noise=last.noise, process=last.process,
            vocabulary=self.footage.vocabulary,
        )  # fmt: skip
        return Model(transformer, words, self.net.autoencoder, shift=recipe.shift, facts=facts)
