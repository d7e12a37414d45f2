"""Fair timing of variants on a machine that others use too.

The variants take turns, round after round, so that a slow minute hits all of them, and a ratio is the median
of the ratios within rounds. Used by the scripts beside it.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Row:
    """One variant: milliseconds (median, quartiles), the same over the reference, relative rms error."""

    milliseconds: float
    quartiles: tuple[float, float]
    times_reference: float
    error: float


@torch.no_grad()
def errors(variants: Mapping[str, Run]) -> dict[str, float]:
    """Relative rms error of each variant against the first; also the warm-up of all."""
    outputs = {name: run().float() for name, run in variants.items()}
    exact = next(iter(outputs.values()))
    return {name: ((output - exact).norm() / exact.norm()).item() for name, output in outputs.items()}


@torch.no_grad()
def take_turns(
    variants: Mapping[str, Run], *, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each variant in each round, by this clock."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def rows(seconds: Mapping[str, list[float]], error: Mapping[str, float], *, reference: str) -> dict[str, Row]:
    """A row for each variant, beside the reference."""
    return {name: row(times, seconds[reference], error=error[name]) for name, times in seconds.items()}


def row(times: list[float], reference: list[float], *, error: float) -> Row:
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    ratio = statistics.median(a / b for a, b in zip(times, reference, strict=True))
    return Row(1000 * statistics.median(times), (1000 * low, 1000 * high), ratio, error)


def table(results: Mapping[str, Row], *, reference: str) -> str:
    """Lines of text: a title, and one line for each variant."""
    lines = [f"{'':34}{'ms':>8}  {'quartiles':>15}{'/ ' + reference:>30}{'error':>9}"]
    for name, r in results.items():
        spread = f"{r.quartiles[0]:.0f} .. {r.quartiles[1]:.0f}"
        lines.append(f"{name:34}{r.milliseconds:8.1f}  {spread:>15}{r.times_reference:>30.2f}{r.error:9.1e}")
    return "\n".join(lines)


def machine(**packages: str) -> dict[str, str | int | float]:
    """What a reader needs to know about where it was measured, and versions of named packages."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **packages,
    }


def processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
