"""What the sampler's loop costs beside the network it calls, at the size of the model that ships.

The loop is everything but the network: levels, noise, guidance, the move and the state that is handed out.

    overhead = (time of sampling - time inside the network) / time inside the network

Times are processor time of one thread, so that other work on the machine does not count. Text is read once,
before the loop, and is not in it.

    python benchmarks/loop_overhead.py            all rounds; a table
    python benchmarks/loop_overhead.py --toy      two steps and one round, to see that it runs
    python benchmarks/loop_overhead.py --save     also benchmarks/results/loop_overhead.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import turns

from mutoscope.models.transformer import Transformer
from mutoscope.pipelines import Pipeline, load

RESULTS = Path(__file__).parent / "results" / "loop_overhead.json"
MOST = 0.02
WAYS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "no guidance": {"guidance": 1},
    "unipc, zero-star, rescale": {"sampler": "unipc", "guidance_kind": "zero-star", "guidance_rescale": 0.7},
    "sde3, projected, mixed noise": {"sampler": "sde3", "guidance_kind": "projected", "noise": "mixed"},
    "ancestral with corrector": {"sampler": "ancestral", "noise": "progressive"},
    "pyramid, unipc": {"plan": "pyramid", "sampler": "unipc"},
}


class Watch:
    """How long the network was in use, in seconds of processor time, and how often, while it is watched."""

    def __init__(self) -> None:
        self.seconds, self.calls, self.forward = 0.0, 0, Transformer.forward

    def __enter__(self) -> "Watch":
        def timed(network: Transformer, *seen: Any, **told: Any) -> torch.Tensor:
            begun = time.thread_time()
            said = self.forward(network, *seen, **told)
            self.seconds += time.thread_time() - begun
            self.calls += 1
            return said

        Transformer.forward = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Transformer.forward = self.forward  # type: ignore[method-assign]


def overhead(pipeline: Pipeline, settings: Mapping[str, Any]) -> dict[str, float]:
    """Of one film: calls of the network, milliseconds in it and beside it, and their ratio."""
    request = pipeline.request("a man walking in the rain", **settings)
    states = pipeline.steps(request)  # reads the words
    with Watch() as network:
        begun = time.thread_time()
        for _ in states:
            pass
        beside = time.thread_time() - begun - network.seconds
    return {
        "calls": network.calls,
        "network_ms": 1000 * network.seconds,
        "loop_ms": 1000 * beside,
        "overhead": beside / network.seconds,
    }


def measured(pipeline: Pipeline, *, rounds: int, steps: int | None = None) -> dict[str, dict[str, float]]:
    """The medians of each way over rounds in which all take turns; the first round warms up."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    overhead(pipeline, {"steps": 2})
    for _ in range(rounds):
        for name, settings in WAYS.items():
            found[name].append(overhead(pipeline, {**settings, "steps": steps}))
    return {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="two steps and one round")
    parser.add_argument("--rounds", type=int, help="3 unless told otherwise, 1 for a toy")
    parser.add_argument("--steps", type=int, help="of sampling; the model's own unless told otherwise")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}; refused for a toy")
    options = parser.parse_args()
    if options.save and options.toy:
        parser.error("--save keeps measurements, and a toy is none: leave one of the two out")
    torch.set_num_threads(1)
    rounds, steps = (1, 2) if options.toy else (options.rounds or 3, options.steps)
    pipeline = load(device="cpu")
    rows = measured(pipeline, rounds=rounds, steps=steps)
    print(f"{pipeline.facts.name}, {rounds} rounds, {turns.machine()}")
    print(f"{'':32}{'calls':>6}{'network ms':>12}{'loop ms':>10}{'overhead':>10}")
    for name, row in rows.items():
        print(
            f"{name:32}{row['calls']:6.0f}{row['network_ms']:12.0f}{row['loop_ms']:10.1f}{row['overhead']:9.2%}"
        )
    if options.save:
        kept = {"model": pipeline.facts.name, "rounds": rounds, "steps": steps or pipeline.facts.steps}
        kept |= {"most": MOST, "machine": turns.machine(), "ways": rows}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
