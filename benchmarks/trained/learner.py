"""A small transformer on films of discs, trained by the house's own loop, and the denoiser that it becomes.

Everything random in a training is a function of (seed, step): two arms of one seed start from the same
weights and see the same films with the same white noise, and differ only in what is compared.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from benchmarks.trained.discs import KINDS, Discs, Sample
from jaxtyping import Float, Int
from torch import Tensor, nn

from mutoscope.diffusion.denoiser import NetworkDenoiser
from mutoscope.diffusion.objective import TrainingTimes, corrupt, loss
from mutoscope.diffusion.prior import Independent, Prior
from mutoscope.diffusion.schedule import STRAIGHT
from mutoscope.models.text import Text
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.training.loop import TrainSettings, seed_of, train
from mutoscope.training.optimizer import OptimizerSettings

__all__ = [
    "ANY", "SCALES", "DiscTask", "Network", "Scale", "Size", "Trained", "clock", "learned", "longer",
    "seeded",
]  # fmt: skip

ANY = KINDS
"""The condition that says nothing."""
EARLIEST = 0.2
"""Earlier times weigh no more than this one."""


class Size(Protocol):
    """How large an experiment is: a frozen dataclass that has a name and can be told in words."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def told(self) -> str: ...


@dataclass(frozen=True)
class Scale:
    """How large an experiment is: pixels of a side, frames, the network, training, and films measured."""

    name: str
    size: int
    frames: int
    patch: int
    heads: int
    layers: int
    batch: int
    steps: int
    films: int
    device: str = "cpu"

    @property
    def discs(self) -> Discs:
        return Discs(self.size, self.frames, speed=(self.size / 32, self.size / 8))

    @property
    def told(self) -> str:
        return (
            f"{self.size}x{self.size} pixels, {self.frames} frames, {self.layers} layers of width "
            f"{32 * self.heads}, {self.steps} steps of {self.batch} films, {self.films} films measured"
        )


SCALES = {
    "toy": Scale("toy", size=16, frames=4, patch=8, heads=1, layers=1, batch=4, steps=3, films=48),
    "cpu": Scale("cpu", size=16, frames=8, patch=16, heads=4, layers=2, batch=32, steps=600, films=256),
    "gpu": Scale(
        "gpu", size=32, frames=16, patch=4, heads=8, layers=6, batch=64, steps=1500, films=512, device="cuda"
    ),
}


class Network(nn.Module):
    """A transformer whose words are one learned row: the kind of disc, or anything."""

    def __init__(self, scale: Scale, *, kinds: int = KINDS) -> None:
        super().__init__()
        config = TransformerConfig(
            heads=scale.heads, head_dim=32, layers=scale.layers, ffn_dim=96 * scale.heads, in_channels=3,
            out_channels=3, text_dim=16, freq_dim=64, patch_size=(1, scale.patch, scale.patch),
        )  # fmt: skip
        self.kinds = nn.Embedding(kinds + 1, config.text_dim)
        self.transformer = Transformer(config)

    def forward(
        self, noisy: Float[Tensor, "b c f h w"], t: Float[Tensor, "b f"], kind: Int[Tensor, " b"] | None
    ) -> Float[Tensor, "b c f h w"]:
        """The clean film. kind: None for anything."""
        if kind is None:
            kind = torch.full((len(noisy),), self.kinds.num_embeddings - 1, device=noisy.device)
        rows = self.kinds(kind)[:, None]
        text = Text(rows, torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device), padded_to=1)
        return self.transformer(noisy, t, text=text)


@dataclass(eq=False)
class DiscTask:
    """What `training.loop.train` trains: to guess the clean film, which is simple where the noise is not.

    prior: the noise's. times: as in the objective. unconditional: share of the films whose kind is not told.
    """

    network: nn.Module
    discs: Discs
    batch: int
    seed: int
    prior: Prior = field(default_factory=Independent)
    times: TrainingTimes = field(default_factory=lambda: TrainingTimes(shift=2.0, std=1.4))
    unconditional: float = 1.0

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean squared error, weighted as the flow's."""
        sample = self.films(step, device=generator.device)
        clean = sample.video
        noise = self.prior.mix(torch.randn(clean.shape, generator=generator, device=generator.device))
        t = self.levels(len(clean), clean.shape[2], generator=generator)
        hidden = torch.rand(len(clean), generator=generator, device=generator.device) < self.unconditional
        kind = torch.where(hidden, ANY, sample.kind.to(generator.device))
        return {"loss": self.error(clean, noise, t=t, kind=kind).mean()}

    def levels(self, count: int, frames: int, *, generator: torch.Generator) -> Float[Tensor, "b f"]:
        return self.times.draw(count, frames, generator=generator)

    def films(self, step: int, *, device: torch.device) -> Sample:
        return self.discs.draw(seed_of(self.seed, step), self.batch, device=device)

    def error(self, clean: Tensor, noise: Tensor, *, t: Tensor, kind: Tensor) -> Float[Tensor, " b"]:
        """Of the frames that have noise in them: a frame that is known teaches nothing."""
        said = self.network(corrupt(clean, noise, t=t), t, kind)
        weight = (t > 0) / t.clamp(min=EARLIEST) ** 2  # the error of the flow, which is 1 / t of the film's
        return loss(said, kind="clean", clean=clean, noise=noise, level=STRAIGHT.level(t), weight=weight)


@dataclass(frozen=True, eq=False)
class Trained:
    """The denoiser with averaged weights, its seconds (of a core, or of the GPU), and its last loss."""

    denoiser: NetworkDenoiser
    seconds: float
    loss: float


def learned(task: Any, scale: Scale, *, seed: int, **of_denoiser: Any) -> Trained:
    """Train a task, which has a network, for the scale's steps. of_denoiser: for `NetworkDenoiser`."""
    began, losses = clock(scale), []
    settings = TrainSettings(
        steps=scale.steps, seed=seed, warmup_steps=min(20, scale.steps // 4), decay_share=0.5, ema=0.98,
        optimizer=OptimizerSettings(muon_lr=0.02, adamw_lr=2e-3), checkpoint_steps=10**9,
        precision="bfloat16" if scale.device == "cuda" else "float32",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for progress in train(task, settings, folder):
            losses.append(progress.losses["loss"])
        assert progress.ema is not None
        with torch.no_grad(), progress.ema.weights():
            average = {name: weight.clone() for name, weight in task.network.state_dict().items()}
    task.network.load_state_dict(average)
    task.network.eval().requires_grad_(False)
    tail = losses[-max(1, len(losses) // 10) :]
    denoiser = NetworkDenoiser(task.network, **{"prediction": "clean"} | of_denoiser)
    return Trained(denoiser, clock(scale) - began, sum(tail) / len(tail))


def clock(scale: Size) -> float:
    """Seconds of this process's cores, which other work does not lengthen; on a GPU, seconds that pass."""
    return time.perf_counter() if scale.device == "cuda" else time.process_time()


def seeded(scale: Scale, seed: int, *, kinds: int = KINDS) -> Network:
    """A network whose first weights are a function of the seed."""
    torch.manual_seed(seed)
    return Network(scale, kinds=kinds).to(scale.device)


def longer(scale: Scale, factor: float) -> Scale:
    """The same scale, trained `factor` times as long."""
    return replace(scale, steps=max(1, round(factor * scale.steps)))
