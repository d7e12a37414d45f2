"""What the trainings on a lent GPU share: a call that does what fits into its budget, and leaves a parcel.

train_shipped, train_align, train_vdm    each a recipe, what is drawn for it, and what its parcel shows
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from mutoscope.data.loader import WorldSource
from mutoscope.data.world import VOCABULARIES
from mutoscope.training.course import Event
from mutoscope.training.footage import ClipSettings
from mutoscope.video import Refusal

BEGUN = time.monotonic()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EVERY_SECONDS = 10.0

AnyRecipe = TypeVar("AnyRecipe")


@dataclass(frozen=True)
class Call(Generic[AnyRecipe]):
    """What was asked of a call; `over` says whether its time is up."""

    recipe: AnyRecipe
    out: Path
    parcel: Path
    start: Path | None
    over: Callable[[], bool]
    workers: int = 0
    pack_seconds: float = 200.0


def parser_of(doc: str | None, *, reserve: float) -> argparse.ArgumentParser:
    """The arguments of every call."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the run; on this machine's own disk")
    add("--parcel", type=Path, default=os.environ.get("OUT"), help="where the files that come back go ($OUT)")
    add("--start", type=Path, help="a folder that parcel.py made: go on from there")
    add("--budget-seconds", type=float, default=540.0, help="of this call, after its imports")
    add("--reserve-seconds", type=float, default=reserve, help="of these, for checkpoint, sheets and parcel")
    add("--workers", type=int, help="processes that draw (all cores but three; none in a toy)")
    add("--toy", action="store_true", help="everything in seconds on a processor, to see that it runs")
    return parser


def common(chosen: argparse.Namespace) -> dict[str, Any]:
    """What these arguments are to a `Call`."""
    end = BEGUN + chosen.budget_seconds - chosen.reserve_seconds
    workers = 0 if chosen.toy else max(1, (os.cpu_count() or 2) - 3)
    return {
        "out": chosen.out,
        "parcel": Path(chosen.parcel or chosen.out / "files"),
        "start": chosen.start,
        "over": lambda: time.monotonic() > end,
        "workers": workers if chosen.workers is None else chosen.workers,
    }


def ended(work: Callable[[], object]) -> int:
    """The exit code of a call that does this work."""
    fast_kernels()
    try:
        work()
    except Refusal as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{time.monotonic() - BEGUN:.0f} s in all on {DEVICE}", flush=True)
    return 0


def fast_kernels() -> None:
    """What a GPU needs to be fast here; elsewhere nothing, for dynamo alone takes seconds to import."""
    if DEVICE != "cuda":
        return
    torch.set_float32_matmul_precision("high")  # the few matrices outside autocast
    torch.backends.cudnn.benchmark = True  # every shape comes back thousands of times
    torch._dynamo.config.recompile_limit = 64  # beyond its limit a block would silently run uncompiled


def follow(
    events: Iterator[Event], call: Call[Any], *, note: Callable[[Event], None], pack: Callable[[Event], None]
) -> Event:
    """Listen to a course until it ends or time is up, and pack what there is every few minutes; the last
    event."""
    said, packed, stage = 0.0, time.monotonic(), ""
    for event in events:
        note(event)
        now = time.monotonic()
        if event.stage != stage or now - said > EVERY_SECONDS:
            said, stage = now, event.stage
            print(f"{now - BEGUN:6.0f} s  {stage}  {event.text}", flush=True)
        if call.over() or event.stage == "model":
            break
        if now - packed > call.pack_seconds:
            pack(event)
            packed = time.monotonic()
    return event


@contextmanager
def as_averaged(event: Event) -> Iterator[None]:
    """The networks with their averaged weights, while they are trained."""
    ema = event.progress.ema if event.progress else None
    if ema is None:
        yield
    else:
        with ema.weights():
            yield


def world_source(clips: ClipSettings, frames: int, *, seed: int) -> WorldSource:
    return WorldSource(
        VOCABULARIES[clips.vocabulary], frames=frames, size=(clips.width, clips.height), fps=clips.fps,
        seed=seed, device=DEVICE,
    )  # fmt: skip
