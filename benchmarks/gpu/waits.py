"""How often a step of sampling waits for the GPU: it never should.

    python benchmarks/gpu/waits.py [--out RECORD.json]

The host runs ahead of a GPU as long as nothing asks for a result. PyTorch names every call that does
(`torch.cuda.set_sync_debug_mode`); here they are counted over films of few and of twice as many steps, by the
model that ships, and the difference is what the steps cost. Beside it, what the host and the GPU need for a
film.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import turns
from loop_overhead import WAYS

from mutoscope.pipelines import load
from mutoscope.pipelines.filmmaker import Filmmaker

STEPS = 8


def waits(work: Callable[[], Any]) -> int:
    """Calls that waited for the GPU while the work was done; 0 where there is none."""
    if not torch.cuda.is_available():
        work()
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in told)


def of_steps(pipeline: Filmmaker, settings: Mapping[str, Any], steps: int) -> dict[str, float]:
    """Of one film: waits, seconds until the host has asked for everything, and until it is there."""

    def walk() -> None:
        for _ in pipeline.steps(request):
            pass

    request = pipeline.request("a man walking in the rain", **settings, steps=steps)
    walk()
    found = waits(walk)
    begun = time.perf_counter()
    walk()
    asked = time.perf_counter() - begun
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return {"waits": found, "host": asked, "all": time.perf_counter() - begun}


def measured(pipeline: Filmmaker, *, steps: int = STEPS) -> dict[str, dict[str, float]]:
    rows = {}
    for name, settings in WAYS.items():
        few, many = (of_steps(pipeline, settings, count) for count in (steps, 2 * steps))
        rows[name] = {"waits a step": (many["waits"] - few["waits"]) / steps, "waits a film": many["waits"]}
        rows[name] |= {"host s": many["host"], "film s": many["all"]}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="where the record goes")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the shorter films")
    options = parser.parse_args()
    pipeline = load()
    rows = measured(pipeline, steps=options.steps)
    print(f"{pipeline.facts.name}, {turns.machine()}")
    print(f"{'':32}{'waits a step':>13}{'a film':>8}{'host s':>9}{'film s':>9}")
    for name, row in rows.items():
        print(
            f"{name:32}{row['waits a step']:13.2f}{row['waits a film']:8.0f}{row['host s']:9.3f}"
            f"{row['film s']:9.3f}"
        )
    if options.out:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        kept = {"model": pipeline.facts.name, "machine": turns.machine(gpu=gpu), "ways": rows}
        options.out.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
