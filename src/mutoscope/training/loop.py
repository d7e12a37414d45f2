"""One loop trains every network, and it is a generator.

    for progress in train(task, settings, run_folder):
        print(progress)

A task is its modules and `loss(step, generator)`. Everything random comes from (seed, step) alone, and the position in
the data is the step, so a checkpoint needs no random state and a resumed run is the unbroken run, bit for bit. To resume
is to call again; to stop is to stop iterating: the loop then writes a checkpoint, as it does on Ctrl-C and SIGTERM.

    run folder:  settings.json · metrics.jsonl · checkpoints/step-00001234/
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from mutoscope.checkpoints import store
from mutoscope.training.ema import Ema
from mutoscope.training.optimizer import Optimizer, OptimizerSettings, learning_rate_factor
from mutoscope.training.run_folder import Metrics, RunFolder, Signals
from mutoscope.video import Refusal

__all__ = ["Diverged", "Progress", "Task", "TrainSettings", "seed_of", "train"]

# Settings that change how a run is kept but not what it computes; these may differ at resume.
BOOKKEEPING = ("checkpoint_steps", "checkpoint_seconds", "keep", "log_steps", "patience")


class Task(Protocol):
    """What is trained.

    It may also have `batch`, the samples in one call of `loss` (for the rates; 1 if absent), and `settings`, a mapping
    or pydantic model that is stored with the run and compared at resume.
    """

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The trained modules by name; names become those of the checkpoint (no dots)."""
        ...

    def loss(self, step: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Scalars to log, among them "loss", which is minimised.

        All that is random must come from `generator` (on the device of the first weight, seeded by seed and step) and
        from `step`. With gradient accumulation `step` counts the calls: optimizer step * accumulate + part.
        """
        ...


class TrainSettings(BaseModel):
    """How long, how fast and how carefully to train; exactly one of `steps` and `minutes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, description="optimizer steps")
    minutes: float | None = Field(
        None, gt=0, description="time budget; becomes a number of steps once the rate is known"
    )
    seed: int = 0
    optimizer: OptimizerSettings = OptimizerSettings()
    warmup_steps: int = Field(50, ge=0)
    decay_share: float = Field(
        0.25, ge=0, le=1, description="last share of the steps, over which the rate falls to 0"
    )
    decay: Literal["linear", "sqrt"] = "linear"
    accumulate: int = Field(1, ge=1, description="calls of the loss for one optimizer step")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights; 0 keeps no average")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 runs the loss under autocast"
    )
    init_from: str | None = Field(
        None, description="run folder (or checkpoint) whose averaged weights are the start"
    )
    settle_steps: int = Field(
        3, ge=0, description="first steps left out when the rate is measured: compilation"
    )
    measure_steps: int = Field(10, ge=1, description="steps over which the rate is measured, once")
    checkpoint_steps: int = Field(1000, ge=1)
    checkpoint_seconds: float = Field(300.0, gt=0)
    keep: int = Field(2, ge=2, description="checkpoints kept")
    log_steps: int = Field(1, ge=1, description="a line in metrics.jsonl every so many steps")
    patience: int = Field(
        5, ge=1, description="steps in a row without a finite loss and gradient before giving up"
    )

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
        rate: optimizer steps per second, lately.
        samples_rate: samples per second, lately.
        eta: seconds left; None while `steps` is.
        lr: learning rate of the hidden matrices (of AdamW where those have none).
        grad_norm: of the whole gradient, before clipping.
        elapsed: seconds spent on this run, earlier calls included.
        event: "step"; "skipped" (loss or gradient not finite, nothing moved); "saved" (a checkpoint was written);
            "stopped" (by a signal, saved); "finished" (saved).
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
    event: Literal["step", "skipped", "saved", "stopped", "finished"] = "step"
    ema: Ema | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        losses = "  ".join(f"{name} {value:.4g}" for name, value in self.losses.items())
        left = "measuring the rate" if self.eta is None else f"{self.eta:.0f} s left"
        return (
            f"step {self.step}/{self.steps or '?'}  {losses}  {self.samples_rate:.3g} samples/s  "
            f"gradient {self.grad_norm:.3g}  {left}" + (f"  [{self.event}]" if self.event != "step" else "")
        )


class Diverged(RuntimeError):
    """Too many steps in a row without a finite loss and gradient; the last checkpoint is good. Exit code 3."""

    exit_code = 3


def train(task: Task, settings: TrainSettings, run_folder: Path | str) -> Iterator[Progress]:
    """Train, one `Progress` a step; resumes if the folder holds a run.

    A finished run loads its weights into the modules and yields "finished" once.

    Raises:
        Refusal: the folder's run has other settings, is in use by another process, or cannot be written.
        Diverged: loss or gradient were not finite `patience` times in a row.
    """
    with RunFolder(Path(run_folder)) as folder, Signals() as signals:
        run = _Run(task, settings, folder)
        run.resume()
        if run.finished:
            yield run.progress("finished")
        try:
            while not run.finished:
                event = run.advance()
                if signals.caught or run.finished or run.due():
                    run.save()
                    event = "stopped" if signals.caught else "finished" if run.finished else "saved"
                yield run.progress(event)
                if signals.caught:
                    return run.save()
        except (GeneratorExit, KeyboardInterrupt):
            # The caller stopped between two steps, so the state is whole.
            if run.between_steps:
                run.save()
            raise


class _Run:
    """The state of a run, and the one step that moves it."""

    def __init__(self, task: Task, settings: TrainSettings, folder: RunFolder) -> None:
        self.task, self.settings, self.folder = task, settings, folder
        self.modules = dict(task.modules)
        named = [
            (f"{m}.{n}", p)
            for m, module in self.modules.items()
            for n, p in _named(module.named_parameters())
        ]
        self.optimizer = Optimizer(named, settings=settings.optimizer)
        self.trained = list(self.optimizer.weights.values())
        self.device = self.trained[0].device
        self.ema = Ema(self.optimizer.weights.items(), decay=settings.ema) if settings.ema else None
        self.plan = folder.agree(_comparable(task, settings), bookkeeping=BOOKKEEPING, steps=settings.steps)
        self.metrics = Metrics(folder.path / "metrics.jsonl")
        self.step, self.bad, self.skipped, self.elapsed = 0, 0, 0, 0.0
        self.losses: dict[str, float] = {}
        self.grad_norm, self.seconds = math.nan, math.nan
        self.between_steps, self.saved_step = True, -1
        self.settled_at = self.saved_at = self.clock = time.monotonic()

    @property
    def finished(self) -> bool:
        return self.plan.steps is not None and self.step >= self.plan.steps

    def resume(self) -> None:
        """Take up the newest checkpoint, or start from the weights of another run, or from what the modules hold."""
        found = store.latest(self.folder.checkpoints)
        if found is not None:
            self._load(found)
        elif self.settings.init_from:
            start_from(self.modules, self.settings.init_from)
            if self.ema:
                self.ema = Ema(self.optimizer.weights.items(), decay=self.settings.ema)
        self.metrics.truncate(self.step)
        self.saved_step = self.step if found else -1
        self.settled_at = self.saved_at = self.clock = time.monotonic()

    def advance(self) -> Literal["step", "skipped"]:
        """One optimizer step, or none if the loss or the gradient is not finite."""
        self.between_steps, begun = False, time.monotonic()
        for module in self.modules.values():
            module.train()  # the caller may have looked at it in eval mode
        self.losses = self._accumulate_gradient()
        self.grad_norm = float(nn.utils.clip_grad_norm_(self.trained, self.settings.clip))
        whole = math.isfinite(self.losses["loss"]) and math.isfinite(self.grad_norm)
        if whole:
            self.optimizer.step(self._lr_factor())
            if self.ema:
                self.ema.update()
        self.optimizer.zero_grad()
        self.step += 1
        self.bad = 0 if whole else self.bad + 1
        self.skipped += not whole
        self._keep_time(begun)
        self._log(skipped=not whole)
        self.between_steps = True
        if self.bad >= self.settings.patience:
            self._give_up()
        return "step" if whole else "skipped"

    def _accumulate_gradient(self) -> dict[str, float]:
        parts = self.settings.accumulate
        sums: dict[str, Tensor] = {}
        for part in range(parts):
            call = self.step * parts + part
            seed = seed_of(self.settings.seed, call)
            torch.manual_seed(seed)  # dropout draws from the global generator
            generator = torch.Generator(self.device).manual_seed(seed)
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"
            ):
                losses = self.task.loss(call, generator)
            (losses["loss"] / parts).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / parts
        return {name: float(value) for name, value in sums.items()}

    def _lr_factor(self) -> float:
        # While the rate was being measured the length was not known; a repeat of those steps must not know it either.
        known = self.plan.steps if self.step >= self.plan.measured else None
        return learning_rate_factor(
            self.step,
            steps=known,
            warmup_steps=self.settings.warmup_steps,
            decay_share=self.settings.decay_share,
            decay=self.settings.decay,
        )

    def _keep_time(self, begun: float) -> None:
        """Rates, the elapsed time, and at its moment the number of steps that fits the budget."""
        now = time.monotonic()
        took = now - begun
        self.seconds = took if math.isnan(self.seconds) or self.step <= 3 else 0.9 * self.seconds + 0.1 * took
        self.elapsed, self.clock = self.elapsed + now - self.clock, now
        minutes, settle, measure = (
            self.settings.minutes,
            self.settings.settle_steps,
            self.settings.measure_steps,
        )
        if minutes is None or self.plan.steps is not None:
            return
        if self.step <= settle:
            self.settled_at, self.settled_step = now, self.step
        elif self.step >= settle + measure:
            each = (now - self.settled_at) / (self.step - getattr(self, "settled_step", 0))
            left = max(0.0, minutes * 60 - self.elapsed)
            self.plan = self.folder.fix_steps(self.step + int(left / each), measured=self.step)

    def _log(self, *, skipped: bool) -> None:
        if skipped or self.step % self.settings.log_steps == 0 or self.finished:
            self.metrics.write(
                {
                    "step": self.step,
                    **self.losses,
                    "grad_norm": self.grad_norm,
                    "lr": self.lr,
                    "seconds": round(self.elapsed, 3),
                    "skipped": skipped,
                }
            )

    def _give_up(self) -> None:
        self.metrics.flush()
        raise Diverged(
            f"loss or gradient not finite {self.bad} steps in a row, up to step {self.step} (loss {self.losses['loss']}, "
            f"gradient norm {self.grad_norm}); the checkpoints in {self.folder.checkpoints} are good. Lower "
            "optimizer.muon_lr and adamw_lr, or use precision float32, in a new run folder with init_from this one"
        )

    @property
    def lr(self) -> float:
        rate = self.settings.optimizer.muon_lr or self.settings.optimizer.adamw_lr
        return rate * self._lr_factor()

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        late = time.monotonic() - self.saved_at >= self.settings.checkpoint_seconds
        return late or self.step % self.settings.checkpoint_steps == 0

    def progress(self, event: Literal["step", "skipped", "saved", "stopped", "finished"]) -> Progress:
        rate = 1 / self.seconds if self.seconds > 0 else math.nan
        samples = getattr(self.task, "batch", 1) * self.settings.accumulate
        steps = self.plan.steps
        eta = None if steps is None else (steps - self.step) * self.seconds if self.step < steps else 0.0
        return Progress(
            step=self.step,
            steps=steps,
            losses=dict(self.losses),
            rate=rate,
            samples_rate=rate * samples,
            eta=eta,
            lr=self.lr,
            grad_norm=self.grad_norm,
            elapsed=self.elapsed,
            event=event,
            ema=self.ema,
        )

    def save(self) -> None:
        """A checkpoint of this step, unless it is on the disk already."""
        if self.saved_step == self.step:
            return
        self.metrics.flush()
        facts = {
            "step": self.step,
            "bad": self.bad,
            "skipped": self.skipped,
            "elapsed": self.elapsed,
            "updates": self.ema.updates if self.ema else 0,
            "grad_norm": self.grad_norm,
            "seconds": self.seconds,
            "losses": self.losses,
            "run": self.plan.as_dict(),
        }
        store.save(
            self.folder.checkpoints, self.step, tensors=self._tensors(), facts=facts, keep=self.settings.keep
        )
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def _tensors(self) -> dict[str, Tensor]:
        weights = {
            f"weights.{m}.{n}": t
            for m, module in self.modules.items()
            for n, t in _named(module.state_dict().items())
        }
        average = {f"average.{n}": t for n, t in self.ema.tensors().items()} if self.ema else {}
        return weights | average | {f"optimizer.{n}": t for n, t in self.optimizer.tensors().items()}

    def _load(self, found: store.Checkpoint) -> None:
        for name, module in self.modules.items():
            _fill(module, found.weights(name, averaged=False), name=name, path=found.path)
        if self.ema:
            self.ema.load(found.tensors("average."), updates=found.facts["updates"])
        self.optimizer.load(found.tensors("optimizer."))
        facts = found.facts
        self.step, self.bad, self.skipped = facts["step"], facts["bad"], facts["skipped"]
        self.elapsed, self.losses, self.grad_norm = facts["elapsed"], facts["losses"], facts["grad_norm"]
        self.seconds = facts["seconds"]


def seed_of(seed: int, step: int) -> int:
    """A 63-bit seed for one step; unlike seed + step, neighbouring runs and steps share nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8], "big") >> 1


def start_from(modules: Mapping[str, nn.Module], path: str | Path) -> None:
    """Fill modules with the averaged weights of another run: its folder, its checkpoints, or one checkpoint."""
    path = Path(path)
    found = store.load(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
    for name, module in modules.items():
        _fill(module, found.weights(name), name=name, path=found.path)


def _named(pairs: Any) -> Iterator[tuple[str, Any]]:
    """Names as the uncompiled module has them."""
    return ((name.replace("_orig_mod.", ""), value) for name, value in pairs)


def _fill(module: nn.Module, state: Mapping[str, Tensor], *, name: str, path: Path) -> None:
    own = dict(_named(module.state_dict().items()))
    wrong = [
        n
        for n in sorted(own.keys() | state.keys())
        if n not in own or n not in state or own[n].shape != state[n].shape
    ]
    if wrong:
        raise Refusal(
            f"{path} does not fit module {name!r}: {len(wrong)} weights differ, the first is {wrong[0]!r}; "
            "use the settings that it was trained with"
        )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(state[key])


def _comparable(task: Task, settings: TrainSettings) -> dict[str, Any]:
    own = getattr(task, "settings", {})
    return settings.model_dump(mode="json") | {
        "task": own.model_dump(mode="json") if isinstance(own, BaseModel) else dict(own)
    }
