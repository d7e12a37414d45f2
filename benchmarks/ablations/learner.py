"""Trainings of the rows: what a U-Net is shown, how it is trained, and the denoiser that it becomes.

Everything random in a training is a function of (seed, step): arms of one seed start from the same weights
and see the same films. A finished training is found again by its name, scale and seed; of one that was
stopped only the steps since its last checkpoint are done again.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from benchmarks.ablations.scale import Scale
from benchmarks.trained.discs import Discs
from benchmarks.trained.learner import clock
from torch import Tensor, nn

from mutoscope.data.examples import Clips, Examples
from mutoscope.diffusion.denoiser import NetworkDenoiser
from mutoscope.diffusion.known import Condition, Conditioned
from mutoscope.diffusion.linear import Linear
from mutoscope.diffusion.multistep import Multistep2
from mutoscope.diffusion.noise import draw, stream
from mutoscope.diffusion.plan import Plan, full_sequence
from mutoscope.diffusion.sampler import sample
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import TimeConfig, UNetConfig, vdm
from mutoscope.training.loop import TrainSettings, train
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.training.video_unet import MUON, UNetSettings, UNetTask

__all__ = [
    "ATTENDS", "RUNS", "denoiser_of", "drawn", "films", "made", "new_unet", "noise_of", "pictures", "plan_of",
    "shape_of", "spent_in", "trained", "unseen",
]  # fmt: skip

RUNS = Path("runs/ablations")
"""Where trainings lie, in the folder that the command is given in."""
ATTENDS = (False, True)
"""The levels that attend, over pixels and over frames."""


def shape_of(scale: Scale, *, time: TimeConfig | None = None, **changes: Any) -> UNetConfig:
    """The shape of a row's U-Net; VDM's layers over frames unless others are named."""
    values = {
        "in_channels": 3, "out_channels": 3, "channels": (scale.width, 2 * scale.width), "layers": 1,
        "attention": ATTENDS, "heads": (1, 2), "groups": 8, "time": time or vdm(levels=ATTENDS),
    }  # fmt: skip
    return UNetConfig.model_validate(values | changes)


def new_unet(config: UNetConfig, *, seed: int, device: str) -> UNet:
    """A U-Net whose first weights are a function of the seed."""
    torch.manual_seed(seed)
    return UNet(config).to(device)


def films(discs: Discs, seed: int, *, purpose: str = "clips") -> Clips:
    """Films without end; nothing is said of them."""

    def examples(step: int, count: int) -> Examples:
        return Examples(discs.draw(stream(seed, f"{purpose} {step}"), count).video, [""] * count)

    return examples


def pictures(discs: Discs, seed: int) -> Clips:
    """Single frames of films that are not among the clips."""
    return films(replace(discs, frames=1), seed, purpose="pictures")


def unseen(discs: Discs, seed: int, count: int, *, device: str, purpose: str = "unseen") -> Tensor:
    """True films that no training draws: "b 3 f h w"."""
    return discs.draw(stream(seed, purpose), count, device=device).video


class Trains(Protocol):
    """A task of the loop."""

    @property
    def modules(self) -> Mapping[str, nn.Module]: ...
    def loss(self, step: int, generator: torch.Generator) -> Mapping[str, Tensor]: ...


def trained(task: Trains, name: str, scale: Scale, *, seed: int, steps: int | None = None) -> float:
    """Train a task's modules, or find them trained, and give them their averaged weights, to be measured.

    Returns the seconds that it took (of a core, or of the GPU), whenever that was. steps: the scale's if
    None.
    """
    count = steps or scale.steps
    settings = TrainSettings(
        steps=count, seed=seed, warmup_steps=min(20, count // 4), decay_share=0.5, ema=0.98,
        optimizer=OptimizerSettings(
            muon_lr=MUON.muon_lr, adamw_lr=MUON.adamw_lr, adamw_words=MUON.adamw_words
        ),
        precision="bfloat16" if scale.device == "cuda" else "float32", log_steps=10,
    )  # fmt: skip
    folder = RUNS / scale.name / f"{name}-{seed}"
    before, began, told = spent_in(folder), clock(scale), []
    try:
        for progress in train(task, settings, folder):
            told.append(progress)
    finally:
        if len(told) > 1 or not before:  # the one step of a finished training only reads it
            _note(folder, before + clock(scale) - began)
    if not told or told[-1].event != "finished":
        raise SystemExit(f"{folder} was stopped at its last checkpoint; the same command goes on from there")
    _settle(task, told[-1].ema)
    return spent_in(folder)


def spent_in(folder: Path) -> float:
    """Seconds noted of a training; 0 of one that has not begun."""
    path = folder / "seconds.json"
    return float(json.loads(path.read_text())) if path.exists() else 0.0


def _note(folder: Path, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seconds.json").write_text(json.dumps(seconds))


def _settle(task: Trains, average: Any) -> None:
    with torch.no_grad(), average.weights():
        kept = {
            name: {key: value.clone() for key, value in module.state_dict().items()}
            for name, module in task.modules.items()
        }
    for name, module in task.modules.items():
        module.load_state_dict(kept[name])
        module.eval().requires_grad_(False)


def denoiser_of(unet: UNet, asked: UNetSettings, *, linear: Linear | None = None) -> NetworkDenoiser:
    """The U-Net as a denoiser; its condition is a `Condition`. linear: the first guess that it completes."""
    return asked.process.denoiser(Conditioned(unet, asked.process, linear))


def drawn(
    name: str, scale: Scale, *, seed: int, asked: UNetSettings, steps: int | None = None
) -> tuple[NetworkDenoiser, float]:
    """A denoiser without words or anything known, trained on films and pictures, and its seconds."""
    unet = new_unet(shape_of(scale), seed=seed, device=scale.device)
    task = UNetTask(
        unet, None, settings=asked, clips=films(scale.discs, seed), pictures=pictures(scale.discs, seed),
        seed=seed,
    )  # fmt: skip
    return denoiser_of(unet, asked), trained(task, name, scale, seed=seed, steps=steps)


def noise_of(scale: Scale, seed: int, *, frames: int | None = None, purpose: str = "films") -> Tensor:
    """White noise for the films that are measured."""
    seeds = [stream(seed, f"{purpose} {number}") for number in range(scale.films)]
    return draw(seeds, (3, frames or scale.frames, scale.size, scale.size), device=scale.device)


def plan_of(scale: Scale, frames: int | None = None, *, shift: float = 1.0) -> Plan:
    return full_sequence(scale.walk, frames or scale.frames, shift=shift)


def made(
    denoiser: Any, noise: Tensor, scale: Scale, *, condition: Condition | None = None, shift: float = 1.0
) -> Tensor:
    """Films from noise, by the scale's steps of DPM-Solver++."""
    plan = plan_of(scale, noise.shape[2], shift=shift)
    *_, last = sample(denoiser, noise, plan=plan, condition=condition or Condition(), sampler=Multistep2())
    return last.clean
