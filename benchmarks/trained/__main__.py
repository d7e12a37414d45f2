"""Runs one row, or goes on with it, and writes its record and the page again.

python -m benchmarks.trained priors|rollout|brightness|shifts|guidance
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks.trained import brightness, guidance, priors, rollout, shifts
from benchmarks.trained.experiment import Experiment, carried_out, read
from benchmarks.trained.learner import SCALES
from benchmarks.trained.report import report

from mutoscope.video import Refusal

__all__ = ["EXPERIMENTS", "main", "path_of", "write_report"]

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT for module in (priors, rollout, brightness, shifts, guidance)
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train and measure one row of docs/trained.md.")
    parser.add_argument("row", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="where records lie")
    parser.add_argument("--report", type=Path, default=Path("docs/trained.md"), help="the page")
    chosen = parser.parse_args(arguments)
    if SCALES[chosen.scale].device == "cpu":
        torch.set_num_threads(1)  # seconds in the table are those of one core
    path = path_of(chosen.row, chosen.out)
    try:
        for line in carried_out(EXPERIMENTS[chosen.row], SCALES[chosen.scale], seeds=chosen.seeds, path=path):
            print(line, flush=True)
    except Refusal as error:
        print(error, file=sys.stderr)
        return 2
    write_report(chosen.out, chosen.report)
    return 0


def path_of(row: str, out: Path) -> Path:
    return out / f"trained_{row}.json"


def write_report(out: Path, page: Path) -> None:
    """The page, of every record that is there."""
    paths = {experiment: path_of(name, out) for name, experiment in EXPERIMENTS.items()}
    found = {experiment: read(path) for experiment, path in paths.items() if path.exists()}
    page.write_text(report(found), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
