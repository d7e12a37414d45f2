"""One loop trains every network, and it is a generator.

    for progress in train(task, settings, run_folder):
        print(progress)

A task is its modules and `loss(step, generator)`. Everything random comes from (seed, step) alone, and the
position in the data is the step, so a checkpoint needs no random state and a resumed run is the unbroken run,
bit for bit. To resume is to call again; to stop is to stop iterating: the loop then writes a checkpoint, as
it does on Ctrl-C and SIGTERM.

    run folder:  settings.json · metrics.jsonl · checkpoints/step-00001234/
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mutoscope.checkpoints import store
from mutoscope.models.precision import fast_dtype
from mutoscope.training.ema import Ema
from mutoscope.training.optimizer import Optimizer, learning_rate_factor
from mutoscope.training.run_folder import Metrics, RunFolder, Signals
from mutoscope.training.settings import BOOKKEEPING, Event, Progress, Task, TrainSettings
from mutoscope.video import Refusal

__all__ = ["Diverged", "Progress", "Task", "TrainSettings", "seed_of", "start_from", "train"]

T = TypeVar("T")


class Diverged(RuntimeError):
    """Too many steps in a row without a finite loss and gradient; the last checkpoint is good."""

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
        try:
            yield from _steps(run, signals)
        except (GeneratorExit, KeyboardInterrupt):
            # Where the caller stopped between two steps the state is whole.
            if run.between_steps:
                run.save()
            raise


def _steps(run: _Run, signals: Signals) -> Iterator[Progress]:
    if run.finished:
        yield run.progress("finished")
    while not run.finished and not signals.caught:
        event = run.advance()
        if run.finished or run.due():
            run.save()
            event = "finished" if run.finished else "saved"
        if run.finished or not signals.caught:
            yield run.progress(event)
    if signals.caught:
        if not run.finished:
            run.save()  # before the caller has its turn: a preempted machine may not wait for it
        yield run.progress("stopped")  # of a finished run too: what comes next is not to begin


class _Run:
    """The state of a run, and the one step that moves it."""

    def __init__(self, task: Task, settings: TrainSettings, folder: RunFolder) -> None:
        self.task, self.settings, self.folder = task, settings, folder
        self.modules = dict(task.modules)
        self.optimizer = Optimizer(
            _named_weights(self.modules), settings=settings.optimizer, tables=_tables(self.modules)
        )
        self.trained = list(self.optimizer.weights.values())
        self.device = self.trained[0].device
        self.lowered = fast_dtype(self.device, precision=settings.precision) == torch.bfloat16
        self.ema = Ema(self.optimizer.weights.items(), decay=settings.ema) if settings.ema else None
        self.metrics = Metrics(folder.path / "metrics.jsonl")
        self.step, self.bad, self.skipped, self.elapsed = 0, 0, 0, 0.0
        self.losses: dict[str, float] = {}
        self.grad_norm, self.seconds, self.lr = math.nan, math.nan, math.nan
        self.between_steps, self.saved_step = True, -1

    @property
    def finished(self) -> bool:
        return self.plan.steps is not None and self.step >= self.plan.steps

    def resume(self) -> None:
        """Take up the newest checkpoint, or start from another run's weights, or from the modules' own."""
        found = store.latest(self.folder.checkpoints)
        self.plan = self.folder.agree(
            _comparable(self.task, self.settings),
            ignored=BOOKKEEPING,
            steps=self.settings.steps,
            begun=found is not None,
        )
        if found is not None:
            self._load(found)
            self.saved_step = self.step
        elif self.settings.init_from:
            start_from(self.modules, self.settings.init_from)
            if self.ema:
                self.ema = Ema(self.optimizer.weights.items(), decay=self.settings.ema)
        self.metrics.truncate(self.step)
        self.begun_at = self.settled_step = self.step
        self.settled_at = self.saved_at = self.clock = time.monotonic()

    def advance(self) -> Event:
        """One optimizer step, or none if the loss or the gradient is not finite."""
        self.between_steps, begun = False, time.monotonic()
        for module in self.modules.values():
            module.train()  # the caller may have looked at it in eval mode
        self._find_gradient()
        factor = self._lr_factor()
        self.lr = factor * (self.settings.optimizer.muon_lr or self.settings.optimizer.adamw_lr)
        whole = math.isfinite(self.losses["loss"]) and math.isfinite(self.grad_norm)
        if whole:
            self.optimizer.step(factor)
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

    def _find_gradient(self) -> None:
        """Losses, gradients and their norm: the mean over the accumulated parts."""
        parts = self.settings.accumulate
        means: dict[str, Tensor] = {}
        for part in range(parts):
            losses = self._losses(self.step * parts + part)
            (losses["loss"] / parts).backward()
            for name, value in losses.items():
                share = value.detach().float() / parts
                means[name] = means[name] + share if name in means else share
        norm = nn.utils.clip_grad_norm_(self.trained, self.settings.clip)
        *values, self.grad_norm = torch.stack([*means.values(), norm.float()]).tolist()  # one wait for a GPU
        self.losses = dict(zip(means, values, strict=True))

    def _losses(self, call: int) -> Mapping[str, Tensor]:
        seed = seed_of(self.settings.seed, call)
        torch.manual_seed(seed)  # dropout draws from the global generator
        generator = torch.Generator(self.device).manual_seed(seed)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.lowered):
            return self.task.loss(call, generator)

    def _lr_factor(self) -> float:
        # While the rate was measured the length was not known: a repetition must not know it either.
        known = self.plan.steps if self.step >= self.plan.measured else None
        return learning_rate_factor(
            self.step,
            steps=known,
            warmup_steps=self.settings.warmup_steps,
            decay_share=self.settings.decay_share,
            decay=self.settings.decay,
        )

    def _keep_time(self, begun: float) -> None:
        now = time.monotonic()
        took = now - begun
        # The first step compiles and warms caches; it would weigh on the mean for long.
        young = math.isnan(self.seconds) or self.step - self.begun_at <= 3
        self.seconds = took if young else 0.9 * self.seconds + 0.1 * took
        self.elapsed, self.clock = self.elapsed + now - self.clock, now
        if self.plan.steps is None:
            self._measure(now)

    def _measure(self, now: float) -> None:
        """After some steps, turn the time budget into a number of steps, once for the whole run."""
        done = self.step - self.begun_at
        if done <= self.settings.settle_steps:
            self.settled_at, self.settled_step = now, self.step
        elif done >= self.settings.settle_steps + self.settings.measure_steps:
            each = (now - self.settled_at) / (self.step - self.settled_step)
            left = max(0.0, (self.settings.minutes or 0) * 60 - self.elapsed)
            self.plan = self.folder.fix_steps(self.step + int(left / each), measured=self.step)

    def _log(self, *, skipped: bool) -> None:
        if skipped or self.step % self.settings.log_steps == 0 or self.finished:
            numbers = {**self.losses, "grad_norm": self.grad_norm, "lr": self.lr, "seconds": self.elapsed}
            self.metrics.write({"step": self.step, **_finite(numbers), "skipped": skipped})

    def _give_up(self) -> None:
        self.metrics.flush()
        raise Diverged(
            f"loss or gradient not finite {self.bad} steps in a row, up to step {self.step} (loss "
            f"{self.losses['loss']}, gradient norm {self.grad_norm}); the checkpoints in "
            f"{self.folder.checkpoints} are good. Take a new run folder with init_from={self.folder.path} "
            "and smaller optimizer.muon_lr and optimizer.adamw_lr, or precision float32"
        )

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        late = time.monotonic() - self.saved_at >= self.settings.checkpoint_seconds
        return late or self.step % self.settings.checkpoint_steps == 0

    def progress(self, event: Event) -> Progress:
        rate = 1 / self.seconds if self.seconds > 0 else math.nan
        samples = getattr(self.task, "batch", 1) * self.settings.accumulate
        left = None if self.plan.steps is None else self.plan.steps - self.step
        return Progress(
            step=self.step,
            steps=self.plan.steps,
            losses=dict(self.losses),
            rate=rate,
            samples_rate=rate * samples,
            eta=None if left is None else left * self.seconds if left else 0.0,
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
        numbers = {
            "grad_norm": self.grad_norm,
            "seconds": self.seconds,
            "lr": self.lr,
            "elapsed": self.elapsed,
        }
        counts = {"step": self.step, "bad": self.bad, "skipped": self.skipped}
        facts = counts | {
            "updates": self.ema.updates if self.ema else 0,
            "numbers": _finite(numbers),
            "losses": _finite(self.losses),
            "run": self.plan.as_dict(),
        }
        store.save(
            self.folder.checkpoints, self.step, tensors=self._tensors(), facts=facts, keep=self.settings.keep
        )
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def _tensors(self) -> dict[str, Tensor]:
        weights = {
            f"weights.{name}.{key}": value
            for name, module in self.modules.items()
            for key, value in _named(module.state_dict().items())
        }
        average = {f"average.{n}": t for n, t in self.ema.tensors().items()} if self.ema else {}
        return weights | average | {f"optimizer.{n}": t for n, t in self.optimizer.tensors().items()}

    def _load(self, found: store.Checkpoint) -> None:
        for name, module in self.modules.items():
            _fill(module, found.weights(name, averaged=False), name=name, path=found.path)
        facts = found.facts
        if self.ema:
            self.ema.load(found.tensors("average."), updates=facts["updates"])
        self.optimizer.load(found.tensors("optimizer."))
        self.step, self.bad, self.skipped = facts["step"], facts["bad"], facts["skipped"]
        numbers = {n: math.nan if v is None else v for n, v in facts["numbers"].items()}
        self.elapsed, self.seconds = numbers["elapsed"], numbers["seconds"]
        self.grad_norm, self.lr = numbers["grad_norm"], numbers["lr"]
        self.losses = {n: math.nan if v is None else v for n, v in facts["losses"].items()}


def seed_of(seed: int, step: int) -> int:
    """A 63-bit seed for one step; unlike seed + step, neighbouring runs and steps share nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8], "big") >> 1


def start_from(modules: Mapping[str, nn.Module], path: str | Path) -> None:
    """Fill modules with the averaged weights of another run: its folder, its checkpoints, or one of these.

    Raises:
        Refusal: there is no checkpoint, or its weights do not fit.
    """
    path = Path(path)
    found = store.load(path / "checkpoints" if (path / "checkpoints").is_dir() else path)
    for name, module in modules.items():
        _fill(module, found.weights(name), name=name, path=found.path)


def _named(pairs: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Names as the uncompiled module has them."""
    return ((name.replace("_orig_mod.", ""), value) for name, value in pairs)


def _named_weights(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        if "." in name:
            raise ValueError(f"module name {name!r} has a dot, which ends a module's name in a checkpoint")
        yield from ((f"{name}.{key}", weight) for key, weight in _named(module.named_parameters()))


def _tables(modules: Mapping[str, nn.Module]) -> set[str]:
    """Names of embedding tables: matrices by shape, lists of vectors by use."""
    parts = (part for module in modules.values() for part in module.modules())
    tables = {id(part.weight) for part in parts if isinstance(part, nn.Embedding)}
    return {name for name, weight in _named_weights(modules) if id(weight) in tables}


def _fill(module: nn.Module, state: Mapping[str, Tensor], *, name: str, path: Path) -> None:
    own = dict(_named(module.state_dict().items()))
    wrong = sorted(own.keys() ^ state.keys()) or sorted(n for n in own if own[n].shape != state[n].shape)
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
    own = own.model_dump(mode="json") if isinstance(own, BaseModel) else dict(own)
    return settings.model_dump(mode="json") | {"task": own}


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: null stands for what is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
