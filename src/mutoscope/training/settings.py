"""What a run is told, and what it tells: the task, the settings, and the progress after each step.

These three are all that a caller of the loop has to know. A task is anything with modules and a loss;
settings are frozen and stored with the run; progress is a plain value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from mutoscope.models.precision import Precision
from mutoscope.training.ema import Ema
from mutoscope.training.optimizer import OptimizerSettings

__all__ = ["BOOKKEEPING", "Event", "Progress", "Task", "TrainSettings"]

Event = Literal["step", "skipped", "saved", "stopped", "finished"]

# Settings that change how a run is kept but not what it computes; these may differ at resume.
BOOKKEEPING = (
    "checkpoint_steps",
    "checkpoint_seconds",
    "keep",
    "log_steps",
    "patience",
    "settle_steps",
    "measure_steps",
)


@runtime_checkable
class Task(Protocol):
    """What is trained.

    It may also have `batch`, the samples in one call of `loss` (for the rates; 1 if absent), and `settings`,
    a mapping or pydantic model that is stored with the run and compared at resume.
    """

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The trained modules by name; names become those of the checkpoint, and have no dots."""
        ...

    def loss(self, step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Scalars to log, among them "loss", which is minimised.

        All that is random must come from `generator` (on the device of the first weight, seeded by seed and
        step), from torch's global generator (seeded alike, for dropout) or from `step`. With gradient
        accumulation `step` counts the calls: optimizer step * accumulate + part.
        """
        ...


class TrainSettings(BaseModel):
    """How long, how fast and how carefully to train; exactly one of `steps` and `minutes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(default=None, ge=1, description="optimizer steps")
    minutes: float | None = Field(
        default=None, gt=0, description="time budget, turned into steps once measured"
    )
    seed: int = Field(default=0, description="of everything random in the run")
    optimizer: OptimizerSettings = OptimizerSettings()
    warmup_steps: int = Field(default=50, ge=0, description="the learning rate rises over these")
    decay_share: float = Field(
        default=0.25, ge=0, le=1, description="last share of the steps: the rate falls to 0"
    )
    decay: Literal["linear", "sqrt"] = Field(default="linear", description="form of that fall")
    accumulate: int = Field(default=1, ge=1, description="calls of the loss for one optimizer step")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights; 0: no average")
    precision: Precision = Field(
        default="float32", description="bfloat16: under autocast; auto: that where this machine is fast at it"
    )
    init_from: str | None = Field(
        default=None, description="run folder or checkpoint whose weights are the start"
    )
    settle_steps: int = Field(default=3, ge=0, description="first steps, not measured: compilation")
    measure_steps: int = Field(default=10, ge=1, description="steps over which the rate is measured, once")
    checkpoint_steps: int = Field(default=1000, ge=1, description="a checkpoint every so many steps")
    checkpoint_seconds: float = Field(default=300.0, gt=0, description="and at least this often")
    keep: int = Field(default=2, ge=2, description="checkpoints kept")
    log_steps: int = Field(default=1, ge=1, description="a line in metrics.jsonl every so many steps")
    patience: int = Field(default=5, ge=1, description="steps in a row that are not finite, before giving up")

    @model_validator(mode="after")
    def _one_length(self) -> TrainSettings:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give exactly one of steps and minutes")
        return self


@dataclass(frozen=True)
class Progress:
    """Where the run stands after a step.

    Args:
        step: optimizer steps done, 1 after the first.
        steps: of the whole run; None until the rate of a time budget is measured.
        losses: what the task returned, as numbers; the mean over accumulated parts.
        rate: optimizer steps per second, lately, checkpoints and the caller's own time left out.
        samples_rate: samples per second, likewise.
        eta: seconds left; None while `steps` is.
        lr: learning rate of the step, of the hidden matrices (of AdamW where `muon_lr` is 0).
        grad_norm: of the whole gradient, before clipping.
        elapsed: seconds spent on this run, earlier calls included.
        event: "step"; "skipped" (loss or gradient not finite, nothing moved); "saved" (a checkpoint was
            written); "stopped" (by a signal, saved; it may follow "finished"); "finished" (saved).
        ema: the average; `with progress.ema.weights(): ...` evaluates with it. None if switched off.
    """

    step: int
    steps: int | None
    losses: dict[str, float]
    rate: float
    samples_rate: float
    eta: float | None
    lr: float
    grad_norm: float
    elapsed: float
    event: Event = "step"
    ema: Ema | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        losses = "  ".join(f"{name} {value:.4g}" for name, value in self.losses.items())
        left = "measuring the rate" if self.eta is None else f"{self.eta:.0f} s left"
        event = "" if self.event == "step" else f"  [{self.event}]"
        return (
            f"step {self.step}/{self.steps or '?'}  {losses}  gradient {self.grad_norm:.3g}  "
            f"{self.samples_rate:.3g} samples/s  {left}{event}"
        )
