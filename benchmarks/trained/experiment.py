"""What a row is, what it keeps on the disk, and how it is told.

A unit is one training; it gives numbers for one arm or for several. Units of one seed are paired, so a
comparison is a number a seed, told as mean (lowest to highest) beside what was wanted.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.trained.learner import Scale, Size

from mutoscope.video import Refusal

__all__ = ["Arms", "Comparison", "Experiment", "Outcome", "Record", "carried_out", "ratio", "read"]

Arms = dict[str, dict[str, float]]
"""Numbers by arm and quantity."""


@dataclass(frozen=True)
class Outcome:
    """What a unit gave: seconds of training and of everything after it, and its arms' numbers."""

    training: float
    measuring: float
    arms: Arms


@dataclass(frozen=True)
class Comparison:
    """A number made of all arms of a seed, wanted to be at least `least` and at most `most`."""

    label: str
    wanted: str
    value: Callable[[Arms], float]
    least: float = -float("inf")
    most: float = float("inf")

    @property
    def asks(self) -> bool:
        """Whether anything is wanted."""
        return self.least > -float("inf") or self.most < float("inf")

    def met(self, value: float) -> bool:
        return self.least <= value <= self.most


@dataclass(frozen=True)
class Experiment:
    """A row: `run(unit, scale, seed)` trains and measures. published: what others report; remark: what we
    make of what came out."""

    name: str
    title: str
    published: str
    units: tuple[str, ...]
    run: Callable[[str, Any, int], Outcome]
    comparisons: tuple[Comparison, ...]
    remark: str = ""


@dataclass(frozen=True)
class Record:
    """What is kept of an experiment: at which scale, and outcomes by seed and unit."""

    scale: Size
    outcomes: dict[int, dict[str, Outcome]]

    def arms(self, seed: int) -> Arms:
        """All arms of a seed."""
        return {name: numbers for one in self.outcomes[seed].values() for name, numbers in one.arms.items()}

    def complete(self, experiment: Experiment) -> list[int]:
        """The seeds that have all units."""
        return [seed for seed, found in sorted(self.outcomes.items()) if set(experiment.units) <= set(found)]


def carried_out(experiment: Experiment, scale: Size, *, seeds: Iterable[int], path: Path) -> Iterator[str]:
    """Do what the record in `path` lacks, seed by seed, and write it after every unit; yields a line each.

    Raises Refusal if the record was made at another scale.
    """
    record = read(path, kind=type(scale)) if path.exists() else Record(scale, {})
    if record.scale != scale:
        raise Refusal(
            f"{path} was measured at another scale ({record.scale}); name another folder with --out"
        )
    for seed in seeds:
        for unit in experiment.units:
            if unit in record.outcomes.get(seed, {}):
                continue
            outcome = experiment.run(unit, scale, seed)
            record.outcomes.setdefault(seed, {})[unit] = outcome
            write(record, path)
            cost = f"{outcome.training:.0f} s training, {outcome.measuring:.0f} s measuring"
            yield f"{experiment.name}, seed {seed}, {unit}: {cost}"


def read(path: Path, *, kind: Callable[..., Size] = Scale) -> Record:
    """The record in a file; `kind` makes its scale."""
    known = json.loads(path.read_text())
    outcomes = {
        int(seed): {unit: Outcome(**found) for unit, found in units.items()}
        for seed, units in known["outcomes"].items()
    }
    return Record(kind(**known["scale"]), outcomes)


def write(record: Record, path: Path) -> None:
    """Whole or not at all: whoever is taken away while writing leaves the record before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_suffix(".writing")
    writing.write_text(json.dumps(asdict(record), indent=1) + "\n")
    os.replace(writing, path)


def ratio(quantity: str, above: str, below: str) -> Callable[[Arms], float]:
    """One arm's quantity over another's."""

    def value(arms: Mapping[str, Mapping[str, float]]) -> float:
        return arms[above][quantity] / arms[below][quantity]

    return value
