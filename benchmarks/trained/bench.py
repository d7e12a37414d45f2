"""A page of experiments as one command: `python -m benchmarks.NAME ROW` measures a row, or goes on with it.

Records lie in benchmarks/results/NAME_ROW.json, the page in docs/NAME.md.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks.trained.experiment import Experiment, Record, carried_out, read
from benchmarks.trained.learner import Size
from benchmarks.trained.plots import figure, picture_of
from benchmarks.trained.report import report

from mutoscope.diffusion.drawings.picture import save
from mutoscope.video import Refusal

__all__ = ["Bench"]


@dataclass(frozen=True, eq=False)
class Bench:
    """name: of the package, of records and of the page. head: what the page opens with. scales: by name, all
    of one class. usual: the scale of the page."""

    name: str
    head: str
    experiments: Mapping[str, Experiment]
    scales: Mapping[str, Size]
    usual: str = "cpu"

    def path(self, row: str, out: Path) -> Path:
        """Where a row's record lies."""
        return out / f"{self.name}_{row}.json"

    def record(self, row: str, out: Path) -> Record | None:
        """What has been measured of a row; None is nothing."""
        path = self.path(row, out)
        return read(path, kind=type(self.scales[self.usual])) if path.exists() else None

    def write_report(self, out: Path, page: Path, *, drawn: bool = False) -> None:
        """The page: every record that is there, and which rows have none. drawn: with a picture of each, in
        pictures/ beside the page."""
        found = {experiment: self.record(row, out) for row, experiment in self.experiments.items()}
        command, beside = f"python -m benchmarks.{self.name}", page if drawn else None
        text = report(found, head=self.head, command=command, drawn=beside)
        if drawn:
            self._draw({row: record for row, record in found.items() if record is not None}, page)
        page.write_text(text, encoding="utf-8")

    def _draw(self, found: Mapping[Experiment, Record], page: Path) -> None:
        for experiment, record in found.items():
            if record.complete(experiment):
                command = f"python -m benchmarks.{self.name} {experiment.name}"
                save(figure(experiment, record), picture_of(experiment.name, page), command=command)

    def units(self, row: str, scale: Size, *, seeds: Iterable[int], out: Path) -> Iterator[str]:
        """Measures what a row's record lacks of these seeds; yields a line a unit."""
        return carried_out(self.experiments[row], scale, seeds=seeds, path=self.path(row, out))

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """The command."""
        chosen = self._asked(arguments)
        scale = self.scales[chosen.scale]
        if scale.device == "cpu":
            torch.set_num_threads(1)  # seconds in the table are those of one core
        try:
            for line in self.units(chosen.row, scale, seeds=range(chosen.seeds), out=chosen.out):
                print(line, flush=True)
        except Refusal as error:
            print(error, file=sys.stderr)
            return 2
        self.write_report(chosen.out, chosen.report, drawn=True)
        return 0

    def _asked(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        page = Path(f"docs/{self.name}.md")
        parser = argparse.ArgumentParser(description=f"Train and measure one row of {page}.")
        parser.add_argument("row", choices=self.experiments)
        parser.add_argument("--seeds", type=int, default=3)
        parser.add_argument("--scale", choices=self.scales, default=self.usual)
        parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="where records lie")
        parser.add_argument("--report", type=Path, default=page, help="the page")
        return parser.parse_args(arguments)
