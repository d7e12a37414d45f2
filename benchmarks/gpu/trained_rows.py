"""The rows of `benchmarks.trained` at a useful size, on one data-centre GPU in calls of a few minutes.

    python benchmarks/gpu/trained_rows.py --out RECORDS [--start RECORDS_BEFORE] --budget-seconds 540

Films of 16 frames at 32x32, a transformer of width 256 and 6 layers. A unit (one training and what is
measured of it) is the least that is kept: the record is written after each and copied to --back ($OUT) at
once, so a call that is taken away loses one. The same call again goes on; on a fresh machine --start names
the files that came back. No unit is begun that would end after the budget, going by the longest so far.
Ends with a short table. How to run it on a lent machine: README.md beside this file.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks.trained, from wherever this is run

from benchmarks.trained.__main__ import BENCH
from benchmarks.trained.bench import Bench
from benchmarks.trained.experiment import Experiment, Record
from benchmarks.trained.learner import Size
from benchmarks.trained.report import spread

from mutoscope.video import Refusal

BEGUN = time.monotonic()
FIRST_UNIT = 30.0
"""Seconds that a unit is taken to need before any has been timed."""


@dataclass(frozen=True)
class Call:
    """What was asked of this call. left: seconds until its time is up."""

    bench: Bench
    rows: Sequence[str]
    scale: Size
    seeds: range
    out: Path
    back: Path | None
    budget: float = 540.0

    def left(self) -> float:
        return self.budget - (time.monotonic() - BEGUN)


def work(call: Call) -> Iterator[str]:
    """Do what fits, seed by seed, so that a short time gives all rows of one seed; yields a line a unit."""
    longest, began = FIRST_UNIT if call.scale.device == "cuda" else 0.0, time.monotonic()
    for seed in call.seeds:
        for row in call.rows:
            units = call.bench.units(row, call.scale, seeds=[seed], out=call.out)
            while call.left() > longest:
                line = next(units, None)
                if line is None:
                    break
                longest, began = max(longest, time.monotonic() - began), time.monotonic()
                keep(call)
                yield line
            else:
                yield f"time is up: {call.left():.0f} s left, a unit takes up to {longest:.0f}"
                return


def keep(call: Call) -> None:
    """Put the records and the page where files come back from."""
    call.bench.write_report(call.out, call.out / f"{call.bench.name}.md")
    if call.back is not None:
        call.back.mkdir(parents=True, exist_ok=True)
        for path in call.out.iterdir():
            shutil.copy(path, call.back)


def table(call: Call) -> str:
    """A line a comparison: what was wanted, and what was measured."""
    lines = [f"{'row':<11} {'seeds':>5}  {'measured':<30} wanted"]
    for row in call.rows:
        record = call.bench.record(row, call.out)
        if record is not None:
            lines += _lines(call.bench.experiments[row], record)
    return "\n".join(lines)


def _lines(experiment: Experiment, record: Record) -> Iterator[str]:
    seeds = record.complete(experiment)
    for one in experiment.comparisons if seeds else ():
        measured = spread([one.value(record.arms(seed)) for seed in seeds])
        yield f"{experiment.name:<11} {len(seeds):>5}  {measured:<30} {one.wanted}: {one.label}"


def asked(arguments: Sequence[str] | None, bench: Bench) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"The rows of benchmarks.{bench.name} at a useful size.")
    add = parser.add_argument
    add("--out", type=Path, required=True, help="where records lie; on this machine's own disk")
    add("--back", type=Path, default=os.environ.get("OUT"), help="where the files that come back go ($OUT)")
    add("--start", type=Path, help="records that came back from another machine: go on from them")
    add("--rows", nargs="+", choices=bench.experiments, default=list(bench.experiments))
    add("--seeds", type=int, default=3)
    add("--first", type=int, default=0, help="the first seed; those before are another process's")
    add("--budget-seconds", type=float, default=540.0, help="of the whole call, after the imports")
    add("--toy", action="store_true", help="the smallest scale, on the processor if there is no GPU")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, *, bench: Bench = BENCH) -> int:
    chosen = asked(arguments, bench)
    scale = bench.scales["toy" if chosen.toy else "gpu"]
    if chosen.toy and torch.cuda.is_available():
        scale = replace(scale, device="cuda")
    if scale.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here; --toy runs on the processor", file=sys.stderr)
        return 2
    torch.set_float32_matmul_precision("high")  # the few matrices outside autocast
    chosen.out.mkdir(parents=True, exist_ok=True)
    for path in chosen.start.glob(f"{bench.name}_*.json") if chosen.start else ():
        if not (chosen.out / path.name).exists():
            shutil.copy(path, chosen.out)
    seeds = range(chosen.first, chosen.seeds)
    call = Call(bench, chosen.rows, scale, seeds, chosen.out, chosen.back, chosen.budget_seconds)
    try:
        for line in work(call):
            print(f"{time.monotonic() - BEGUN:6.0f} s  {line}", flush=True)
    except Refusal as error:
        print(error, file=sys.stderr)
        return 2
    keep(call)
    print(table(call), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
