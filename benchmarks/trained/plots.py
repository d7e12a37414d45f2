"""A row as a picture: every arm a line, every seed a dot, their mean a larger one."""

from collections.abc import Sequence
from pathlib import Path

import torch
from benchmarks.trained.experiment import Experiment, Record

from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure

__all__ = ["figure", "picture_of", "quantities"]

MOST = 2
"""Panels of a row."""


def picture_of(name: str, page: Path) -> Path:
    """Where the picture of a row of this name lies, beside the page."""
    return page.parent / "pictures" / f"{page.stem}-{name}.png"


def quantities(experiment: Experiment, record: Record, seeds: Sequence[int]) -> list[str]:
    """What is drawn: the first quantities that a comparison speaks of, and then whatever was measured."""
    columns = [quantity for numbers in record.arms(seeds[0]).values() for quantity in numbers]
    compared = [q for one in experiment.comparisons for q in columns if one.label.startswith(f"{q}:")]
    return list(dict.fromkeys([*compared, *columns]))[:MOST]


def figure(experiment: Experiment, record: Record) -> Figure:
    """The record's complete seeds; there must be one."""
    seeds = record.complete(experiment)
    panels = [_panel(record, seeds, quantity) for quantity in quantities(experiment, record, seeds)]
    return Figure(experiment.title, panels, across=1 if len(record.arms(seeds[0])) > 4 else MOST)


def _panel(record: Record, seeds: Sequence[int], quantity: str) -> Curves:
    arms = [arm for arm, numbers in record.arms(seeds[0]).items() if quantity in numbers][::-1]
    values = torch.tensor([[record.arms(seed)[arm][quantity] for seed in seeds] for arm in arms])
    rows = torch.arange(float(len(arms)))
    dots = Curve("", values.flatten(), rows.repeat_interleave(len(seeds)), "dots", colour=5)
    means = Curve("", values.mean(1), rows, "dots", colour=1)
    return Curves(quantity, "", "", [dots, means], rows=arms)
