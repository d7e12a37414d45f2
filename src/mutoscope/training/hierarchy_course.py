"""A course for a hierarchy of U-Nets on the latents of pictures: Align Your Latents (2304.08818), in stages.

    1 autoencoder      pictures -> latents and back                        RUN/autoencoder/
    2 latents          clips encoded once, at every rate                   RUN/latents-0/, latents-1/, ...
    3 pictures         words and noise -> the latents of a picture         RUN/pictures/
    4 key frames       layers over frames put in, which alone learn        RUN/key-frames/
    5 decoder          the decoder's layers over frames, alone             RUN/decoder/
    6 between          from two known frames, those between them           RUN/between/
    7 larger           small pixels -> large ones: pictures, then clips    RUN/larger-pictures/, larger-clips/
    8 model            the folder                                          RUN/model/

What is put in begins as nothing, so stage 4 starts with a model that makes the pictures of stage 3, bit for
bit; and stage 5 leaves the encoder what it was, so latents keep their meaning. Both are checked on the way.
LVDM's hierarchy (2211.13221) is the same course with other settings. The same call again goes on where it
stopped.
"""

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mutoscope.checkpoints.folder import ModelFacts, scheduler_of
from mutoscope.checkpoints.hierarchy_folder import (
    HierarchyFacts,
    HierarchyModel,
    load_hierarchy,
    save_hierarchy,
)
from mutoscope.data.examples import Clips, Examples, clips_of, windows_of
from mutoscope.data.latents import LatentCache, encode_all
from mutoscope.data.loader import Ahead, Source
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig, add_time
from mutoscope.models.precision import default_device
from mutoscope.models.unet import UNet, inflate
from mutoscope.models.unet_config import TimeConfig, UNetConfig, align
from mutoscope.training.autoencoder import AutoencoderTask, ReconstructionSettings, measure_latents
from mutoscope.training.course import Event, unless_stopped
from mutoscope.training.decoder import DecoderTask
from mutoscope.training.encoding import encoder_of, weights_hash
from mutoscope.training.footage import ClipSettings, Footage, Settings, Sources
from mutoscope.training.loop import Progress, Task, TrainSettings, start_from, train
from mutoscope.training.pixel_course import TextSettings, UNetPiece, new_words
from mutoscope.training.video_unet import UNetTask
from mutoscope.video import Refusal

__all__ = ["CodingPiece", "HierarchyRecipe", "LargerStage", "inserted", "run"]


class CodingPiece(Settings):
    """A piece of the autoencoder's training; `frames` of a clip are seen at a time."""

    terms: ReconstructionSettings = ReconstructionSettings()
    frames: int = Field(default=1, ge=1)
    train: TrainSettings


class LargerStage(Settings):
    """How the upscaler is built and trained: on pictures, then, with layers over frames, on clips."""

    network: UNetConfig
    pictures: UNetPiece
    clips: UNetPiece


class HierarchyRecipe(Settings):
    """A named, complete set of settings.

    clips: `fps` is that of the finished film, `width` and `height` are those of the small film, before the
    upscaler; `frames` those that sheets of reconstructions show. Networks are those of pictures; `time` is
    put into all of them.
    """

    about: str
    clips: ClipSettings
    chain: HierarchyFacts = HierarchyFacts()
    coder: ImageAutoencoderConfig
    autoencoder: CodingPiece
    measure: int = Field(default=16, ge=1, description="batches that measure the latents' mean and deviation")
    latents: int = Field(ge=1, description="clips to encode, of every rate")
    network: UNetConfig
    time: TimeConfig = align()
    text: TextSettings = TextSettings()
    pictures: UNetPiece
    keys: UNetPiece
    decoder: CodingPiece
    between: UNetPiece
    larger: LargerStage
    steps: int = Field(default=24, ge=1, description="default number of sampling steps, of key frames")
    guidance: float = Field(default=3.0, ge=0, description="default guidance scale, of key frames")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; all cores if left away")

    def clips_after(self, rounds: int) -> ClipSettings:
        """Small clips at the rate that there is after so many rounds of interpolation: 0 is key frames."""
        rate = self.clips.fps / self.chain.every ** (self.chain.rounds - rounds)
        return self.clips.model_copy(update={"fps": rate})

    def seen_after(self, rounds: int) -> int:
        """Frames of these that a network sees: key frames, then what is between them."""
        return self.chain.span if rounds else self.chain.keys

    @property
    def large_clips(self) -> ClipSettings:
        """Clips of the finished film's rate and size."""
        scale = self.chain.scale
        sides = {"width": scale * self.clips.width, "height": scale * self.clips.height}
        return self.clips.model_copy(update=sides)

    @model_validator(mode="after")
    def _stages_fit(self) -> "HierarchyRecipe":
        found = {"keys.unet.frames": self.keys.unet.frames, "between.unet.frames": self.between.unet.frames}
        wanted = {"keys.unet.frames": self.chain.keys, "between.unet.frames": self.chain.span}
        for name, frames in wanted.items():
            if found[name] != frames:
                raise ValueError(f"{name} is {found[name]}, and the chain makes {frames} at a time")
        for pieces in ((self.pictures, self.keys, self.between), (self.larger.pictures, self.larger.clips)):
            if len({piece.unet.process.model_dump_json() for piece in pieces}) > 1:
                raise ValueError(
                    "the pieces have several processes; a hierarchy has one, its upscaler another"
                )
        if self.chain.larger is not None:
            raise ValueError("chain.larger is what the pieces of larger say of their process; leave it away")
        scheduler_of(self.keys.unet.process, shift=1.0)  # refused before anything is learnt
        if self.between.unet.trainable != "temporal":
            raise ValueError("between.unet.trainable is all, and its words are those of the key frames")
        if self.network.in_channels != self.coder.z_dim:
            raise ValueError(f"network reads {self.network.in_channels} channels, latents {self.coder.z_dim}")
        return self


def run(
    recipe: HierarchyRecipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    start: str | Path | None = None,
    done: Collection[str] = (),
    sources: Sources | None = None,
) -> Iterator[Event]:
    """Run a course in the folder `out`; the same call goes on where an earlier one stopped.

    Args:
        data: a folder of real clips instead of the made world.
        start: a model folder whose parts every stage starts from; their shapes must be the recipe's.
        done: stages that are not trained: the parts of `start` are what they have left. Clips are encoded
            again, where they are needed.
        sources: gives the clips of settings, a number of frames and a seed, where they are not drawn here and
            now.

    Raises:
        Refusal: the folder's run has other settings, or the data folder holds no clips.
    """
    course = _Course(recipe, Path(out), data=data, start=start, done=done, sources=sources)
    return unless_stopped(course.stages())


@dataclass(frozen=True)
class _Coded:
    autoencoder: ImageAutoencoder


class _Course:
    def __init__(
        self,
        recipe: HierarchyRecipe,
        out: Path,
        *,
        data: str | Path | None,
        start: str | Path | None,
        done: Collection[str],
        sources: Sources | None,
    ) -> None:
        self.recipe, self.out, self.data, self.done, self.sources = recipe, out, data, done, sources
        self.device = default_device().type
        self.footage = self._footage(recipe.clips_after(0))
        torch.manual_seed(recipe.autoencoder.train.seed)
        begun = load_hierarchy(start) if start else self._begun()
        self.autoencoder, self.words = begun.autoencoder.to(self.device), begun.words.to(self.device)
        self.unet = begun.unet.to(self.device)
        self.between = None if begun.interpolation is None else begun.interpolation.to(self.device)
        self.larger = None if begun.upscaler is None else begun.upscaler.to(self.device)

    def _begun(self) -> HierarchyModel:
        """Networks that have learnt nothing."""
        recipe = self.recipe
        autoencoder = ImageAutoencoder(recipe.coder)
        words = new_words(self.footage, recipe.text, width=recipe.network.text_dim)
        if words is None:
            raise Refusal("network.text_dim is null: a hierarchy makes films of words; give it a width")
        return HierarchyModel(UNet(recipe.network), autoencoder, words, hierarchy=recipe.chain)

    def stages(self) -> Iterator[Event]:
        if self.footage.verdict is not None:
            yield self._event("clips", str(self.footage.verdict))
        yield from self._learn_pictures()
        yield from self._learn_key_frames()
        yield from self._learn_to_decode()
        yield from self._learn_between()
        yield from self._learn_larger()
        folder = save_hierarchy(self.model(), self.out / "model")
        yield self._event("model", f"{folder} holds the model")

    def _learn_pictures(self) -> Iterator[Event]:
        """An autoencoder of pictures, the latents of clips, and a model of the latents of pictures."""
        yield from self._learn_to_code()
        for number in range(self.recipe.chain.rounds + 1):
            yield from self._encode(number)
        piece = self.recipe.pictures
        if self.unet.config.time is None:
            yield from self._train("pictures", self._task(self.unet, piece), piece.train)

    def _learn_to_code(self) -> Iterator[Event]:
        piece = self.recipe.autoencoder
        source = self.footage.source(piece.frames)
        batches = Ahead(lambda step: source.batch(step, piece.terms.batch))
        task = AutoencoderTask(self.autoencoder, batches, settings=piece.terms)
        yield from self._train("autoencoder", task, piece.train)
        if "autoencoder" in self.done:
            return  # and its latents' statistics came with it
        unseen = self.footage.source(1, seed=self.recipe.clips.seed + 1000)
        latents = measure_latents(
            self.autoencoder, lambda step: unseen.batch(step, 64), count=self.recipe.measure
        )
        found = {"latents_mean": tuple(latents.mean.tolist()), "latents_std": tuple(latents.std.tolist())}
        self.autoencoder.config = self.autoencoder.config.model_copy(update=found)

    def _encode(self, number: int) -> Iterator[Event]:
        """Clips at the rate that there is after so many rounds of interpolation."""
        footage, total = self._footage(self.recipe.clips_after(number)), self.recipe.latents
        if footage.clips:
            total = min(total, max(64, 8 * len(footage.clips)))
        frames = self.recipe.seen_after(number)
        facts = {
            "encoder": self.encoder_hash, "clips": footage.settings.model_dump(mode="json"),
            "frames": frames, "count": total, "data": footage.described(),
        }  # fmt: skip
        for done in encode_all(
            footage.source(frames), self.out / f"latents-{number}", encode=encoder_of(self.autoencoder),
            count=total, facts=facts, batch=64 if self.device == "cuda" else 8,
        ):  # fmt: skip
            text = f"{done}/{total} clips encoded at {footage.settings.fps:g} frames a second"
            yield self._event("latents", text, done=done, total=total)

    def _learn_key_frames(self) -> Iterator[Event]:
        recipe = self.recipe
        if self.unet.config.time is None:
            self.unet = inserted(self.unet, recipe.time, told=True)
            yield self._event("key frames", "layers over frames are in; pictures are as before, bit for bit")
        yield from self._train("key frames", self._task(self.unet, recipe.keys), recipe.keys.train)

    def _learn_to_decode(self) -> Iterator[Event]:
        piece, before = self.recipe.decoder, self.encoder_hash
        if not self.autoencoder.config.temporal:
            self.autoencoder = add_time(self.autoencoder)
        source = self.footage_of_film.source(piece.frames)
        batches = Ahead(lambda step: source.batch(step, piece.terms.batch))
        task = DecoderTask(self.autoencoder, batches, settings=piece.terms)
        yield from self._train("decoder", task, piece.train)
        if self.encoder_hash != before:
            raise RuntimeError(f"the encoder was {before} and is {self.encoder_hash}: it must not change")
        yield self._event("decoder", f"the encoder is what it was: {before}")

    def _learn_between(self) -> Iterator[Event]:
        recipe = self.recipe
        self.between = self.between or copy.deepcopy(self.unet)
        if recipe.chain.rounds:
            task = self._task(self.between, recipe.between)
            yield from self._train("between", task, recipe.between.train)

    def _learn_larger(self) -> Iterator[Event]:
        stage = self.recipe.larger
        if self.larger is None:
            torch.manual_seed(stage.pictures.train.seed)
            self.larger = UNet(stage.network).to(self.device)
        if self.larger.config.time is None:
            task = self._larger_task(self.larger, stage.pictures)
            yield from self._train("larger pictures", task, stage.pictures.train)
            self.larger = inserted(self.larger, self.recipe.time, told=False)
        yield from self._train("larger clips", self._larger_task(self.larger, stage.clips), stage.clips.train)

    def _train(self, name: str, task: Task, settings: TrainSettings) -> Iterator[Event]:
        """Trains, and leaves the averaged weights in the task's modules."""
        if name in self.done:
            return
        folder = self.out / name.replace(" ", "-")
        for progress in train(task, settings, folder):
            yield self._event(name, str(progress), progress)
            if progress.event == "stopped":
                raise KeyboardInterrupt  # the next stage must not begin with half of this one
        start_from(task.modules, folder)

    def _task(self, unet: UNet, piece: UNetPiece) -> UNetTask:
        """On latents: key frames and pictures at the rate of key frames, the others at all faster ones."""
        asked, seed = piece.unet, piece.train.seed
        between = asked.known is not None and asked.known.kind == "interpolation"
        numbers = range(1, self.recipe.chain.rounds + 1) if between else range(1)
        caches = [self._cache(number) for number in numbers if asked.frames]
        clips = in_turn([windows_of(cache, frames=asked.frames, seed=seed) for cache in caches])
        pictures = windows_of(self._cache(0), frames=1, seed=seed + 1) if asked.pictures else None
        return UNetTask(unet, self.words, settings=asked, clips=clips, pictures=pictures, seed=seed)

    def _larger_task(self, unet: UNet, piece: UNetPiece) -> UNetTask:
        asked, footage = piece.unet, self._footage(self.recipe.large_clips)
        films = clips_of(footage.source(asked.frames)) if asked.frames else None
        pictures = clips_of(footage.source(1, seed=self.recipe.clips.seed + 1000)) if asked.pictures else None
        return UNetTask(unet, None, settings=asked, clips=films, pictures=pictures, seed=piece.train.seed)

    def _cache(self, number: int) -> LatentCache:
        cache = LatentCache.load(self.out / f"latents-{number}")
        return cache.to(self.device) if cache.fits(self.device) else cache

    def _footage(self, settings: ClipSettings) -> Footage:
        return Footage(settings, data=self.data, sources=self.sources, device=self.device)

    @cached_property
    def footage_of_film(self) -> Footage:
        """Clips at the rate of the finished film."""
        return self._footage(self.recipe.clips)

    @cached_property
    def shown(self) -> Source:
        """The clips of sheets."""
        clips = self.recipe.clips
        return self.footage_of_film.source(clips.frames, seed=clips.seed + 2000)

    @property
    def encoder_hash(self) -> str:
        return weights_hash(self.autoencoder.encoder, self.autoencoder.after_encoder)

    def model(self) -> HierarchyModel:
        """The model as it stands, of as many parts as there are."""
        recipe, clips = self.recipe, self.recipe.clips
        chain = recipe.chain.model_copy(update={"larger": recipe.larger.clips.unet.process})
        rounds, scale = chain.rounds if self.between else 0, chain.scale if self.larger else 1
        facts = ModelFacts(
            fps=recipe.clips_after(rounds).fps, frames=(chain.keys - 1) * chain.every**rounds + 1,
            size=(clips.width * scale, clips.height * scale), steps=recipe.steps, guidance=recipe.guidance,
            sampler="multistep", process=recipe.keys.unet.process, noise=recipe.keys.unet.prior,
            vocabulary=self.footage.vocabulary,
        )  # fmt: skip
        return HierarchyModel(
            self.unet, self.autoencoder, self.words, interpolation=self.between, upscaler=self.larger,
            facts=facts, hierarchy=chain,
        )  # fmt: skip

    def _event(
        self, stage: str, text: str, progress: Progress | None = None, *, done: int = 0,
        total: int | None = None,
    ) -> Event:  # fmt: skip
        if progress is not None:
            done, total = progress.step, progress.steps
        # A sheet of large films costs as much as minutes of training.
        prompts = self.footage.prompts[: 8 if self.between is None else 2]
        coded = _Coded(self.autoencoder)
        return Event(stage, text, coded, self.shown, prompts, self.model, progress, done, total)


def inserted(pictures: UNet, time: TimeConfig, *, told: bool) -> UNet:
    """A model of pictures with layers over frames, and, with `told`, channels for frames that are known.

    It makes of every frame what the model of pictures makes of it, bit for bit: checked here on noise.
    """
    config = pictures.config
    channels = config.out_channels + 1 if told else 0
    wider = config.with_time(
        time, in_channels=config.in_channels + channels, labels=max(config.labels, int(told))
    )
    here = copy.deepcopy(pictures).cpu()
    film = inflate(here, wider)
    one, other = (_said(network) for network in (here, film))
    if not torch.equal(one, other):
        raise RuntimeError("layers over frames changed what the model makes of pictures")
    return film.to(next(pictures.parameters()).device)


@torch.no_grad()
def _said(unet: UNet) -> Tensor:
    """Of three frames of noise, of which nothing is known."""
    config, side = unet.config, 2 * unet.config.factor
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(1, config.out_channels, 3, side, side, generator=generator)
    rest = torch.zeros(1, config.in_channels - config.out_channels, 3, side, side)
    labels = torch.zeros(1, config.labels) if config.labels else None
    return unet.eval()(torch.cat([own, rest], dim=1), torch.full((1, 1), 500.0), labels=labels)


def in_turn(sources: list[Clips]) -> Clips | None:
    """Examples of each in turn, a step each; None for no sources."""
    if not sources:
        return None

    def examples(step: int, count: int) -> Examples:
        return sources[step % len(sources)](step // len(sources), count)

    return examples
