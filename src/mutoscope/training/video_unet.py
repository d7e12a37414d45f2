"""Training a U-Net on films, whatever it is for: one task for every stage of the U-Net family.

    noisy = alpha(t) clean + sigma(t) noise
    loss  = mean weight(t) (network(noisy, t, words, what is known) - target)^2, over the frames not known
            (heavier on the figure)

With each clip ride some pictures: frames of other clips, flagged so that no layer lets them see another frame
(joint training of Video Diffusion Models, 2204.03458, section 2.2). No clip and only pictures is how an image
model is trained. Every picture has its own caption and its own time. What is known of a clip is drawn by a
policy (`training.known`); a share of the captions is left away; and either all weights are trained, or those
that an image model does not have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from mutoscope.data.examples import Clips, Examples
from mutoscope.data.loader import Ahead
from mutoscope.diffusion.known import Condition, Conditioned, Known, channels_of
from mutoscope.diffusion.linear import Linear
from mutoscope.diffusion.objective import TrainingTimes, Weighting, squares
from mutoscope.diffusion.prior import PriorSettings
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.schedule import Level
from mutoscope.models.text import Text
from mutoscope.models.tokenizer import Tokens
from mutoscope.models.unet import UNet
from mutoscope.models.words import Words
from mutoscope.training.known import KnownSettings
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.video import Refusal

__all__ = ["DETAIL", "MUON", "WIDE", "UNetSettings", "UNetTask"]

# The layers between the network and what it does not learn are no hidden matrices. Decay keeps the norms of
# queries and keys at what they may have before attention to words is all or nothing (docs/journal.md).
MUON = OptimizerSettings(
    muon_lr=0.02,
    adamw_lr=2e-3,
    weight_decay=0.3,
    adamw_words=("unet.first", "unet.last", "unet.finish", "labels"),
)
"""For U-Nets that learn words."""
WIDE = TrainingTimes(shift=4.0, std=2.8)
"""Times at both ends: where words decide what a film shows, and where grain goes."""
DETAIL = Process(deviation=0.05, guesses=True)
"""For U-Nets that make films larger: half the deviation of what enlarged ones lack (docs/journal.md)."""


class UNetSettings(BaseModel):
    """What a step is made of, and what is asked of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: int = Field(default=4, ge=1, description="examples in a step")
    frames: int = Field(default=16, ge=0, description="frames of a clip; 0: pictures only")
    pictures: int = Field(default=0, ge=0, description="pictures of their own that ride with each clip")
    patch: tuple[int, int] | None = Field(
        default=None, description="height and width of the part that is trained on; None: the whole frame"
    )
    process: Process = Process()
    times: TrainingTimes = TrainingTimes(distribution="uniform")
    weighting: Weighting = Weighting()
    figure: float = Field(
        default=0.0, ge=0, description="extra weight of the pixels, or latents, that show the subject"
    )
    prior: PriorSettings = PriorSettings()
    known: KnownSettings | None = Field(default=None, description="what is known of a clip; None: nothing")
    unconditional: float = Field(default=0.1, ge=0, le=1, description="share of captions left away")
    text_length: int = Field(default=32, ge=4, description="tokens a caption may have")
    trainable: Literal["all", "temporal"] = Field(
        default="all", description="temporal: what an image model does not have; all else is frozen"
    )
    compiled: bool | Literal["small"] = Field(
        default=False,
        description="torch.compile the network (a C++ compiler is needed on a CPU); small: its norms and "
        "feed-forward networks alone, which takes seconds and not minutes",
    )

    @model_validator(mode="after")
    def _something(self) -> "UNetSettings":
        if not self.frames + self.pictures:
            raise ValueError("no frames and no pictures: an example needs one of them")
        if not self.frames and self.known is not None and self.known.kind != "small":
            raise ValueError(f"known is {self.known.kind}, and pictures show no frame of themselves")
        if self.known is None and self.process.guesses:
            raise ValueError("process.guesses is true, and nothing is known to guess from; set known")
        if self.process.colours != "rgb" and self.known is not None and self.known.kind == "small":
            raise ValueError(f"process.colours is {self.process.colours}; stages that enlarge films see rgb")
        return self


@dataclass(frozen=True)
class Step:
    """One step's examples: `clean` "b c f h w", clips and then their pictures; the tokens of the captions of
    all clips and then of all pictures (None: no words); where the patch lies, down and across, in [0, 1); and
    how much each pixel weighs, one in the mean of the step (None: all alike)."""

    clean: Float[Tensor, "b c f h w"]
    tokens: Tokens | None
    corner: tuple[float, float]
    heavy: Float[Tensor, "b 1 f h w"] | None


class UNetTask:
    """What `training.loop.train` trains: a U-Net, and its text encoder if it reads words.

    clips: examples of `settings.frames` frames. pictures: examples of one frame; the clips' own frames, one
    at a time, are fine. Either may be left away where the settings ask for none. linear: the first guess that
    the network says what lacks of; None: it says all.
    """

    def __init__(
        self,
        unet: UNet,
        words: Words | None,
        *,
        settings: UNetSettings,
        clips: Clips | None = None,
        pictures: Clips | None = None,
        linear: Linear | None = None,
        seed: int = 0,
    ) -> None:
        self.unet, self.words, self.asked, self.seed = unet, words, settings, seed
        self.clips, self.pictures, self.batch = clips, pictures, settings.clips
        self.modules: Mapping[str, nn.Module] = {"unet": unet}
        if words is not None:
            self.modules = {**self.modules, "text_encoder": words.encoder}
        self._check_fit(guessed=linear is not None)
        self._choose_weights()
        if settings.compiled:
            unet.compile_blocks(small=settings.compiled == "small")
        self.linear = None if linear is None else linear.to(next(unet.parameters()).device)
        self.network = Conditioned(unet, settings.process, self.linear)
        self.schedule = settings.process.noising()
        # Drawing clips and telling captions takes as long as a step on a GPU: both happen meanwhile.
        self._coming = Ahead(self._collect)

    @property
    def settings(self) -> dict[str, Any]:
        asked = self.asked.model_dump(mode="json", exclude={"compiled"})
        own = {"unet": self.unet.config.model_dump(mode="json"), "task": asked}
        if self.words is not None:
            own["text_encoder"] = self.words.encoder.config.model_dump(mode="json")
        return own

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The weighted error over the frames that are not known, and the plain one of clips and of pictures
        apart."""
        asked, coming = self.asked, self._coming(step)
        clean = asked.process.coded(coming.clean.to(generator.device))
        known = None if asked.known is None else asked.known.draw(
            clean, pictures=asked.pictures, generator=generator, schedule=self.schedule
        )  # fmt: skip
        clean, known, heavy = self._part(clean, known, coming)
        noise, t = self._noise(clean, generator), self._times(len(clean), generator)
        level = self.schedule.level(t)
        condition = Condition(self._text(coming.tokens), known, self._images)
        said, process = self.network(level.mix(clean, noise), t, condition), asked.process
        kind, seen = process.prediction, process.seen(level)
        square = squares(said, kind=kind, clean=clean / (process.deviation or 1), noise=noise, level=seen)
        unknown, error = self._unknown(known, t), mean_of_frames(square)
        weight = asked.weighting(kind, seen, error=self._guess_error(level)) * unknown
        weighed = error if heavy is None else mean_of_frames(square * heavy)
        return {"loss": (weight * weighed).mean()} | self._parts(error.detach(), unknown)

    def _guess_error(self, level: Level) -> Float[Tensor, "b f"] | None:
        """The mean square of what the first guess lacks."""
        if self.linear is None:
            return None
        return self.linear.lacks(level, images=self._images).square().mean(dim=-1)

    def _parts(self, error: Tensor, unknown: Tensor) -> dict[str, Tensor]:
        f, parts = self.asked.frames, {}
        if f:
            parts["clips"] = (error * unknown)[:, :f].sum() / unknown[:, :f].sum().clamp(min=1)
        if self.asked.pictures:
            parts["pictures"] = error[:, f:].mean()
        return parts

    def _unknown(self, known: Known | None, t: Tensor) -> Float[Tensor, "b f"]:
        """1 for frames that are asked for, 0 for those that are given."""
        return 1 - known.which.to(t) if known is not None and known.stands else torch.ones_like(t)

    def _noise(self, clean: Tensor, generator: torch.Generator) -> Float[Tensor, "b c f h w"]:
        """Of clips as the prior says, of pictures white."""
        white = torch.randn(clean.shape, generator=generator, device=clean.device)
        f = self.asked.frames
        return torch.cat([self._prior.mix(white[:, :, :f]), white[:, :, f:]], dim=2) if f else white

    @cached_property
    def _prior(self):
        return self.asked.prior.prior(window=max(1, self.asked.frames))

    def _times(self, batch: int, generator: torch.Generator) -> Float[Tensor, "b f"]:
        """Of clips as the settings say, of every picture its own."""
        asked, drawn = self.asked, []
        for samples, frames in ((batch, asked.frames), (batch * asked.pictures, 1)):
            if samples * frames:
                t = asked.times.draw(samples, frames, generator=generator, schedule=self.schedule)
                drawn.append(t.reshape(batch, -1))
        return torch.cat(drawn, dim=1)

    @cached_property
    def _images(self) -> Bool[Tensor, "b f"] | None:
        if not self.asked.pictures:
            return None
        f, k = self.asked.frames, self.asked.pictures
        return (torch.arange(f + k) >= f).expand(self.asked.clips, -1)

    def _part(
        self, clean: Tensor, known: Known | None, coming: Step
    ) -> tuple[Tensor, Known | None, Tensor | None]:
        """The same patch of all examples, on the grid of the small version if there is one, and its
        weights."""
        heavy = None if coming.heavy is None else coming.heavy.to(clean.device)
        if self.asked.patch is None:
            return clean, known, heavy
        (height, width), raster = self.asked.patch, self.asked.known.factor if self.asked.known else 1
        sides = zip(clean.shape[-2:], (height, width), coming.corner, strict=True)
        top, left = (int(place * ((whole - part) // raster + 1)) * raster for whole, part, place in sides)
        window = (..., slice(top, top + height), slice(left, left + width))
        shown = known.window(top, left, height=height, width=width) if known else None
        return clean[window], shown, None if heavy is None else heavy[window]

    def _text(self, tokens: Tokens | None) -> Text | None:
        if self.words is None or tokens is None:
            return None
        text = self.words(tokens)
        return each_frame(text, self._whose(self.asked.clips)) if self.asked.pictures else text

    def _whose(self, batch: int) -> Int[Tensor, "b f"]:
        """Which caption every frame has: all frames of a clip the clip's, every picture its own."""
        f, k = self.asked.frames, self.asked.pictures
        clips = torch.arange(batch).unsqueeze(1).expand(-1, f)
        pictures = rearrange(torch.arange(batch * k), "(b k) -> b k", k=k) + (batch if f else 0)
        return torch.cat([clips, pictures], dim=1)

    def _collect(self, step: int) -> Step:
        random, asked = np.random.default_rng([self.seed, step]), self.asked
        films, figures, captions = [], [], []
        for clips, count, frames in (
            (self.clips, asked.clips if asked.frames else 0, asked.frames),
            (self.pictures, asked.clips * asked.pictures, 1),
        ):
            if count and clips is not None:
                found = clips(step, count)
                if found.clean.shape[2] != frames:
                    raise Refusal(f"the clips have {found.clean.shape[2]} frames and {frames} are trained on")
                films.append(rearrange(found.clean, "(b k) c f h w -> b c (k f) h w", b=asked.clips))
                captions += found.captions
                if asked.figure:
                    figures.append(self._figures(found))
        corner = (float(random.uniform()), float(random.uniform()))
        heavy = 1 + asked.figure * torch.cat(figures, dim=2) if figures else None
        return Step(
            torch.cat(films, dim=2), self._tokens(captions, random), corner,
            None if heavy is None else heavy / heavy.mean(),
        )  # fmt: skip

    def _figures(self, found: Examples) -> Float[Tensor, "b 1 f h w"]:
        if found.figure is None:
            raise Refusal(f"figure is {self.asked.figure}, and nothing says where these clips' subject is")
        return rearrange(found.figure, "(b k) f h w -> b 1 (k f) h w", b=self.asked.clips)

    def _tokens(self, captions: list[str], random: np.random.Generator) -> Tokens | None:
        if self.words is None:
            return None
        left = ["" if random.uniform() < self.asked.unconditional else text for text in captions]
        return self.words.tokenizer.encode(left, length=self.asked.text_length)

    def _choose_weights(self) -> None:
        everything = self.asked.trainable == "all"
        for module in self.modules.values():
            module.requires_grad_(everything)
        for weight in self.unet.temporal_parameters():
            weight.requires_grad_(True)

    def _check_fit(self, *, guessed: bool) -> None:
        asked, config = self.asked, self.unet.config
        for count, clips, name in (
            (asked.frames, self.clips, "clips"),
            (asked.pictures, self.pictures, "pictures"),
        ):
            if count and clips is None:
                raise Refusal(f"{count} {name} a step are asked for, and nothing says where they come from")
        known = asked.known is not None
        channels = channels_of(config.out_channels, guessed=guessed, known=known)
        if config.in_channels != channels or config.labels != known:
            raise Refusal(
                f"the network takes {config.in_channels} channels and {config.labels} labels; with what is "
                f"known {'and guessed ' if guessed else ''}here it must be {channels} and {int(known)}"
            )
        if guessed and (asked.process.deviation is not None or asked.process.guesses):
            raise Refusal("two first guesses: process has deviation or guesses, and films a linear one")


def mean_of_frames(square: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b f"]:
    return reduce(square, "b c f h w -> b f", "mean")


def each_frame(text: Text, whose: Int[Tensor, "b f"]) -> Text:
    """Captions for frames: one caption a frame, sample after sample, `whose[b, f]` of the text's."""
    chosen = whose.flatten().to(text.rows.device)
    return Text(text.rows[chosen], text.mask[chosen], text.padded_to)
