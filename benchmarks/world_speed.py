"""How fast the made world is drawn: clips a second by the number that is drawn at a time.

    python benchmarks/world_speed.py [--frames 25] [--size 96x64] [--rounds 5] [--save]

On one thread of the processor, and on a GPU if there is one. Vocabularies and batch sizes take turns, round
after round; every round draws new scenes, the same for all batch sizes. Medians and the fastest are printed.
--save writes benchmarks/results/world_speed.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from turns import machine

from mutoscope.data.world import VOCABULARIES, draw

BATCHES = {"cpu": (1, 8, 32), "cuda": (8, 64, 256)}


@dataclass(frozen=True)
class Rate:
    """Clips a second: median and fastest round."""

    device: str
    vocabulary: str
    batch: int
    median: float
    fastest: float

    def __str__(self) -> str:
        return (
            f"{self.device:<6}{self.vocabulary:<8}{self.batch:>5} at a time"
            f"{self.median:>10.1f} clips/s   fastest {self.fastest:.1f}"
        )


def seconds(
    vocabulary: str, batch: int, *, start: int, frames: int, size: tuple[int, int], device: str
) -> float:
    """Time of drawing one batch, the choice of its scenes included."""
    begun = time.perf_counter()
    scenes = VOCABULARIES[vocabulary].scenes(0, start, batch)
    drawn = draw(scenes, frames=frames, size=size, device=device)
    float(drawn.video[-1, 0, -1, 0, 0])  # waits for a GPU
    return time.perf_counter() - begun


def measure(device: str, *, rounds: int, frames: int, size: tuple[int, int]) -> Iterator[Rate]:
    """A rate for every vocabulary and batch size of a device."""
    cases = [(name, batch) for name in sorted(VOCABULARIES) for batch in BATCHES[device]]
    spent: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for number in range(rounds + 1):
        for name, batch in cases:
            # as many clips whatever the batch size, so that all are measured on the same scenes
            most = max(BATCHES[device])
            starts = range(number * most, (number + 1) * most, batch)
            times = [seconds(name, batch, start=k, frames=frames, size=size, device=device) for k in starts]
            if number:  # the first round warms up
                spent[name, batch].append(most / sum(times))
    for (name, batch), rates in spent.items():
        yield Rate(device, name, batch, statistics.median(rates), max(rates))


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--size", default="96x64", help="WIDTHxHEIGHT in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true")
    told = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, told.size.split("x"))
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    rates = []
    for device in devices:
        for rate in measure(device, rounds=told.rounds, frames=told.frames, size=(width, height)):
            print(rate)
            rates.append(asdict(rate))
    if told.save:
        facts = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "frames": told.frames,
                 "size": told.size, "rounds": told.rounds, "clips_a_second": rates}  # fmt: skip
        path = Path(__file__).parent / "results" / "world_speed.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
