"""A course for a U-Net on pixels, as Video Diffusion Models are: clips in, a model folder out.

    1 linear   clips -> the first guess, measured        RUN/linear/
    2 unet     words and noise -> pixels, in pieces      RUN/unet-1/, RUN/unet-2/, ...
    3 model    the folder                                RUN/model/

Each piece starts from the averaged weights of the one before: pictures first, then clips with pictures beside
them, say. Where a small version of each clip is known, or every fourth frame, say, the model is a stage of a
cascade, which makes films larger or puts frames between theirs; clips have the size and the frames that films
then have. The same call again goes on where it stopped.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import Field, model_validator

from mutoscope.checkpoints import linear
from mutoscope.checkpoints.folder import ModelFacts, UsualSampler
from mutoscope.checkpoints.unet_folder import StageFacts, UNetModel, load_unet_model, save_unet_model
from mutoscope.data.examples import clips_of
from mutoscope.diffusion.linear import Linear
from mutoscope.models.precision import default_device
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import UNetConfig
from mutoscope.models.words import Words
from mutoscope.training.course import Event, unless_stopped
from mutoscope.training.footage import ClipSettings, Footage, Settings, Sources
from mutoscope.training.known import KnownSettings
from mutoscope.training.loop import Progress, TrainSettings, start_from, train
from mutoscope.training.video_unet import UNetSettings, UNetTask

__all__ = ["LinearSettings", "PixelRecipe", "TextSettings", "UNetPiece", "new_words", "run"]


class TextSettings(Settings):
    """The text encoder; its width is the network's text_dim."""

    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    head_dim: int = Field(default=32, ge=1)
    ffn_dim: int = Field(default=320, ge=1)
    tokens: int = Field(default=512, ge=258, description="size of the tokenizer's vocabulary")
    padded_to: int = Field(default=32, ge=4, description="rows that the network attends, zero rows included")


class LinearSettings(Settings):
    """The first guess that a network says what lacks of, and sees (`diffusion.linear`)."""

    patch: int = Field(default=8, ge=1, description="pixels a side of what is guessed by itself")
    clips: int = Field(default=256, ge=1, description="clips that it is measured on")


class UNetPiece(Settings):
    """One piece of the training."""

    unet: UNetSettings = UNetSettings()
    train: TrainSettings


class PixelRecipe(Settings):
    """A named, complete set of settings. A network without text_dim reads no words."""

    about: str
    clips: ClipSettings = ClipSettings(frames=16, width=48, height=32, fps=8.0)
    network: UNetConfig
    text: TextSettings = TextSettings()
    linear: LinearSettings | None = Field(default=None, description="the network's first guess; None: none")
    pieces: tuple[UNetPiece, ...] = Field(min_length=1)
    steps: int = Field(default=32, ge=1, description="default number of sampling steps")
    guidance: float = Field(default=3.0, ge=0, description="default guidance scale")
    sampler: UsualSampler = Field(default="multistep", description="default sampler")
    shift: float = Field(default=1.0, gt=0, description="default shift of the sampling grid towards noise")
    small_noise: float = Field(
        default=0.1, ge=0, lt=1, description="how noisy a stage is shown the small film, as a time"
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; all cores if left away")

    @model_validator(mode="after")
    def _is_one_model(self) -> "PixelRecipe":
        known = [piece.unet.known for piece in self.pieces]
        if any(self._stage(one) != self.stage for one in known):
            raise ValueError("pieces differ in what they know of a clip; a stage has one kind and factor")
        if len({piece.unet.process.model_dump_json() for piece in self.pieces}) > 1:
            raise ValueError("the pieces have several processes; a model has one")
        side, clips = self.linear.patch if self.linear else 1, self.clips
        if clips.width % side or clips.height % side:
            raise ValueError(
                f"clips are {clips.width}x{clips.height}, and linear.patch is {side}: choose sides that "
                "divide by it, or another patch"
            )
        last = known[-1]
        if last is not None and last.kind == "small" and self.small_noise > last.noise:
            raise ValueError(f"small_noise is {self.small_noise}, and training shows {last.noise} at most")
        return self

    @property
    def stage(self) -> StageFacts | None:
        """What the folder says of a stage; None for a model that makes films by itself."""
        return self._stage(self.pieces[-1].unet.known)

    @property
    def command(self) -> str:
        """Of mutoscope, to use such a model."""
        if self.stage is not None:
            return self.stage.command
        return "generate" if self.network.text_dim is None else "generate PROMPT"

    def _stage(self, known: KnownSettings | None) -> StageFacts | None:
        if known is not None and known.kind == "small":
            return StageFacts(factor=known.factor, noise=self.small_noise)
        if known is not None and known.kind == "interpolation":
            return StageFacts(kind="between", factor=known.every, noise=0.0)
        return None


def run(
    recipe: PixelRecipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    start: str | Path | None = None,
    sources: Sources | None = None,
) -> Iterator[Event]:
    """Run a course in the folder `out`; arguments are those of `course.run`.

    Raises:
        Refusal: the folder's run has other settings, or the data folder holds no clips.
    """
    return unless_stopped(_Course(recipe, Path(out), data=data, start=start, sources=sources).stages())


class _Course:
    def __init__(
        self,
        recipe: PixelRecipe,
        out: Path,
        *,
        data: str | Path | None,
        start: str | Path | None,
        sources: Sources | None,
    ) -> None:
        self.recipe, self.out = recipe, out
        self.device = default_device().type
        self.footage = Footage(recipe.clips, data=data, sources=sources, device=self.device)
        begun = load_unet_model(start) if start else None
        torch.manual_seed(recipe.pieces[0].train.seed)
        width = recipe.network.text_dim
        self.words = begun.words if begun else new_words(self.footage, recipe.text, width=width)
        self.unet = (begun.unet if begun else UNet(recipe.network)).to(self.device)
        self.linear = begun.linear if begun else self._measured()
        if self.words is not None:
            self.words.to(self.device)

    def stages(self) -> Iterator[Event]:
        if self.footage.verdict is not None:
            yield self._event("clips", str(self.footage.verdict))
        for number, piece in enumerate(self.recipe.pieces, start=1):
            name = f"unet {number}/{len(self.recipe.pieces)}"
            settings = piece.train
            if number > 1:
                settings = settings.model_copy(update={"init_from": str(self.out / f"unet-{number - 1}")})
            for progress in train(self._task(piece), settings, self.out / f"unet-{number}"):
                yield self._event(name, str(progress), progress)
        start_from(self._task(piece).modules, self.out / f"unet-{len(self.recipe.pieces)}")
        folder = save_unet_model(self.model(), self.out / "model")
        yield self._event("model", f"{folder} holds the model")

    def model(self) -> UNetModel:
        """The model as it stands."""
        recipe, process = self.recipe, self.recipe.pieces[-1].unet.process
        clips, asked = recipe.clips, recipe.pieces[-1].unet
        facts = ModelFacts(
            fps=clips.fps, size=(clips.width, clips.height), frames=asked.frames or 1, steps=recipe.steps,
            guidance=recipe.guidance if self.words else 1.0, sampler=recipe.sampler, shift=recipe.shift,
            process=process, noise=asked.prior, vocabulary=self.footage.vocabulary,
        )  # fmt: skip
        return UNetModel(self.unet, self.words, facts, recipe.stage, self.linear)

    def _measured(self) -> Linear | None:
        """The first guess, of clips that are measured once and never trained on."""
        recipe, folder = self.recipe, self.out / "linear"
        if recipe.linear is None:
            return None
        if not folder.is_dir():
            source = self.footage.source(recipe.clips.frames, seed=recipe.clips.seed + 3000)
            films = recipe.pieces[0].unet.process.coded(source.batch(0, recipe.linear.clips).video)
            linear.save(Linear.fitted(films, patch=recipe.linear.patch), folder)
        return linear.load(folder)

    def _task(self, piece: UNetPiece) -> UNetTask:
        asked, seed = piece.unet, self.recipe.clips.seed
        clips = clips_of(self.footage.source(asked.frames)) if asked.frames else None
        pictures = clips_of(self.footage.source(1, seed=seed + 1000)) if asked.pictures else None
        return UNetTask(
            self.unet, self.words, settings=asked, clips=clips, pictures=pictures, linear=self.linear,
            seed=piece.train.seed,
        )  # fmt: skip

    def _event(self, stage: str, text: str, progress: Progress | None = None) -> Event:
        done, total = (0, None) if progress is None else (progress.step, progress.steps)
        clips = self.recipe.clips
        source = self.footage.source(clips.frames, seed=clips.seed + 2000)
        return Event(stage, text, None, source, self.footage.prompts, self.model, progress, done, total)


def new_words(footage: Footage, text: TextSettings, *, width: int | None) -> Words | None:
    """A text encoder that has learnt nothing, and the tokenizer of what is told of the clips; None where the
    network reads no words."""
    if width is None:
        return None
    tokenizer = Tokenizer.train(footage.wordings, text.tokens)
    config = TextEncoderConfig(
        vocabulary=tokenizer.vocabulary_size, width=width, layers=text.layers, heads=text.heads,
        head_dim=text.head_dim, ffn_dim=text.ffn_dim,
    )  # fmt: skip
    return Words(tokenizer, TextEncoder(config), padded_to=text.padded_to)
