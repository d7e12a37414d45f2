"""Training the denoiser and the text encoder together: joint images and videos, one flow for all plans.

    noisy = (1 - t) clean + t noise,     loss = mean w (network(noisy, t, words) - (noise - clean))^2

or another prediction in another process, under noise that frames share, weighted by its level.
A step takes all its clips at one length (a single latent frame is an image, the first frames of a clip are a
shorter clip, since the autoencoder is causal), and as many clips as make about the same number of tokens:
images are cheap views of bodies and colours, clips teach motion, and both train the same weights. A share of
the clips has its own time for every frame (diffusion forcing), a share has no caption (classifier-free
guidance), and the latent cells that show the subject weigh more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from mutoscope.checkpoints.folder import FLOW, scheduler_of
from mutoscope.data.latents import LatentCache
from mutoscope.data.loader import Ahead
from mutoscope.diffusion.objective import TrainingTimes, Weighting, corrupt, squares
from mutoscope.diffusion.prior import PriorSettings
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.schedule import spread
from mutoscope.models.tokenizer import Tokens
from mutoscope.models.transformer import Transformer
from mutoscope.models.words import Words

__all__ = ["DenoiserTask", "JointSettings"]


class JointSettings(BaseModel):
    """What a step is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lengths: dict[int, float] = Field(
        default={1: 0.25, 3: 0.25, 7: 0.5}, description="latent frames -> share of the steps; 1 is images"
    )
    frames_a_step: int = Field(
        default=112, ge=1, description="latent frames in a step, whatever their length"
    )
    unconditional: float = Field(
        default=0.1, ge=0, le=1, description="share of the clips whose caption is left away"
    )
    figure: float = Field(
        default=2.0, ge=0, description="extra weight of the latent cells that show the subject"
    )
    text_length: int = Field(default=32, ge=4, description="tokens a caption may have")
    padded_to: int = Field(
        default=512, ge=4, description="zero rows the transformer attends, as public pipelines do"
    )
    times: TrainingTimes = TrainingTimes(shift=2.0, independent=0.25)
    noise: PriorSettings = PriorSettings()
    weighting: Weighting = Weighting()
    process: Process = FLOW
    compiled: bool = Field(
        default=False, description="torch.compile the networks (a C++ compiler is needed on a CPU)"
    )

    @field_validator("process")
    @classmethod
    def _is_public(cls, process: Process) -> Process:
        scheduler_of(process, shift=1.0)
        return process


@dataclass(frozen=True)
class Choice:
    """What a step looks at: the first `length` latent frames of the clips `index` "b", and what is said."""

    length: int
    index: Tensor
    tokens: Tokens


@dataclass(frozen=True)
class Examples:
    """One step's clips: `clean` "b c f h w", `weight` "b 1 f h w" (mean 1), and their tokens."""

    clean: Float[Tensor, "b c f h w"]
    weight: Float[Tensor, "b 1 f h w"]
    tokens: Tokens


class DenoiserTask:
    """What `training.loop.train` trains: transformer and text encoder on a cache of latents."""

    def __init__(
        self,
        transformer: Transformer,
        words: Words,
        *,
        cache: LatentCache,
        settings: JointSettings,
        seed: int = 0,
    ) -> None:
        self.transformer, self.words, self.cache, self.joint, self.seed = (
            transformer,
            words,
            cache,
            settings,
            seed,
        )
        self.schedule = settings.process.noising()
        self.modules: Mapping[str, nn.Module] = {"transformer": transformer, "text_encoder": words.encoder}
        longest = cache.clean.shape[2]
        self.lengths = {n: share for n, share in settings.lengths.items() if n <= longest}
        mean_clips = sum(self._clips(n) * share for n, share in self.lengths.items()) / sum(
            self.lengths.values()
        )
        self.batch = round(mean_clips)
        # Hundreds of captions take as long as a GPU's step: they are told while another step trains.
        self._coming = Ahead(self._choose)
        if settings.compiled:
            transformer.compile_blocks()  # once for each length
            for block in words.encoder.blocks:
                block.compile(dynamic=False)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "transformer": self.transformer.config.model_dump(mode="json"),
            "text_encoder": self.words.encoder.config.model_dump(mode="json"),
            "joint": self.joint.model_dump(mode="json", exclude={"compiled"} | self._usual),
        }

    @property
    def _usual(self) -> set[str]:
        """Settings that go without saying, so that runs which began before there were such go on."""
        new = ("noise", "weighting", "process")
        return {name for name in new if getattr(self.joint, name) == JointSettings.model_fields[name].default}

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean weighted squared error of the prediction, and the plain error of images and of clips apart."""
        examples = self.examples(step)
        clean, tokens = examples.clean.to(generator.device), examples.tokens
        noise = torch.randn(clean.shape, generator=generator, device=generator.device)
        noise = self.joint.noise.prior().mix(noise)
        t = self.joint.times.draw(len(clean), clean.shape[2], generator=generator, schedule=self.schedule)
        noisy = corrupt(clean, noise, t=t, schedule=self.schedule)
        said = self.transformer(noisy, t, text=self.words(tokens))
        prediction, level = self.joint.process.prediction, self.schedule.level(t)
        square = squares(said, kind=prediction, clean=clean, noise=noise, level=level)
        weight = examples.weight.to(square) * spread(self.joint.weighting(prediction, level), square)
        kind = "images" if clean.shape[2] == 1 else f"clips_{clean.shape[2]}"
        return {"loss": (square * weight).mean(), kind: square.detach().mean()}

    def examples(self, step: int) -> Examples:
        """The clips of a step, a function of (seed, step), on the device of the cache."""
        choice = self._coming(step)
        index = choice.index.to(self.cache.clean.device)
        clean = self.cache.clean[index, :, : choice.length].float()
        weight = 1 + self.joint.figure * self.cache.figure[index, None, : choice.length].float()
        return Examples(clean, weight / weight.mean(), choice.tokens)

    def _choose(self, step: int) -> Choice:
        random = np.random.default_rng([self.seed, step])
        shares = np.array(list(self.lengths.values()))
        length = int(random.choice(list(self.lengths), p=shares / shares.sum()))
        chosen = random.integers(len(self.cache), size=self._clips(length))
        captions = [
            "" if random.uniform() < self.joint.unconditional else self.cache.caption(int(i), random)
            for i in chosen
        ]
        tokens = self.words.tokenizer.encode(captions, length=self.joint.text_length)
        return Choice(length, torch.from_numpy(chosen), tokens)

    def _clips(self, length: int) -> int:
        return max(1, self.joint.frames_a_step // length)
