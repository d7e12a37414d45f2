"""What a user sees while something is made.

For a film a bar, or sparse lines where there is no terminal; for training lines and contact sheets.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutoscope.pipelines.output import Progress

__all__ = ["SECONDS_BETWEEN_LINES", "Lines", "TrainingDisplay", "filming"]

SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def filming() -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, total=progress.total)
            bars.update(tasks[progress.phase], completed=progress.done)

        yield show


class Lines:
    """Progress as text: the end of every phase, and a line every few seconds with the time left."""

    def __init__(self) -> None:
        self.phase, self.begun, self.said, self.first = "", 0.0, 0.0, 0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase != self.phase:
            self.phase, self.begun, self.said, self.first = progress.phase, now, now, progress.done
        if progress.done == progress.total:
            print(f"{progress.phase} {progress.done}/{progress.total}", file=sys.stderr, flush=True)
        elif now - self.said >= SECONDS_BETWEEN_LINES and progress.done > self.first:
            left = (now - self.begun) / (progress.done - self.first) * (progress.total - progress.done)
            print(
                f"{progress.phase} {progress.done}/{progress.total}, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            self.said = now


class TrainingDisplay:
    """Draws what training yields: a line every few seconds, and contact sheets every few minutes, or less
    often where they would take more than a tenth of the time, and at the end of every stage."""

    def __init__(self, recipe: Any, folder: Path, *, minutes: float, data: str | None) -> None:
        import torch

        self.recipe, self.folder, self.every, self.data = recipe, folder, minutes * 60, data
        self.stage, self.said, self.drawn, self.pause = "", 0.0, time.monotonic(), self.every
        if recipe.threads:
            torch.set_num_threads(recipe.threads)

    def __call__(self, event: Any) -> None:
        now, ended = time.monotonic(), event.progress is not None and event.progress.event == "finished"
        if event.stage != self.stage or ended or now - self.said >= SECONDS_BETWEEN_LINES:
            self.stage, self.said = event.stage, now
            print(f"{event.stage}: {event.text}", file=sys.stderr, flush=True)
        if event.progress is not None and self.every and (now - self.drawn >= self.pause or ended):
            self._draw(event)
            self.drawn = time.monotonic()
            self.pause = max(self.every, 9 * (self.drawn - now))

    def _draw(self, event: Any) -> None:
        from mutoscope.pipelines.sheets import reconstruction_sheet, sample_sheet, stage_sheet

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{event.stage.split('/')[0].replace(' ', '-')}-{event.progress.step:06d}.png"
        with event.progress.ema.weights() if event.progress.ema else contextlib.nullcontext():
            if event.stage in ("autoencoder", "decoder"):
                reconstruction_sheet(event.networks.autoencoder, event.source, path=path)
            elif getattr(self.recipe, "stage", None) is not None:
                stage_sheet(event.model(), event.source, path=path)
            else:
                sample_sheet(event.model(), event.prompts, path=path)
        print(f"{event.stage}: {path}", file=sys.stderr, flush=True)
