"""A page of every row that has been measured: its numbers with their spread and their cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.trained.experiment import Comparison, Experiment, Record
from benchmarks.trained.plots import picture_of, quantities

__all__ = ["report", "spread"]


def report(
    found: Mapping[Experiment, Record | None], *, head: str, command: str, drawn: Path | None = None
) -> str:
    """The whole page. found: None for rows that wait. command: what a row's name is put after. drawn: where
    the page is to lie, if its rows' pictures lie beside it."""
    sections = [
        _section(experiment, record, command, drawn)
        for experiment, record in found.items()
        if record is not None
    ]
    waiting = [experiment for experiment, record in found.items() if record is None]
    return "\n".join([head, *sections, *_waiting(waiting, command)])


def _waiting(rows: Sequence[Experiment], command: str) -> list[str]:
    lines = [f"- {row.title}: `{command} {row.name}`" for row in rows]
    return ["## Not measured yet\n", *lines, ""] if lines else []


def _section(experiment: Experiment, record: Record, command: str, page: Path | None) -> str:
    seeds = record.complete(experiment)
    scale = record.scale
    line = f"{command} {experiment.name} --scale {scale.name} --seeds {len(seeds)}"
    where = f"`{line}`: {scale.told}."
    parts = [f"## {experiment.title}", f"Published: {experiment.published}", where]
    if not seeds:
        return "\n\n".join([*parts, "Not yet measured for any seed.", ""])
    if page is not None:
        path = picture_of(experiment.name, page).relative_to(page.parent)
        shown = ", ".join(quantities(experiment, record, seeds))
        parts.append(
            f"![A line an arm, a dot a seed, the mean in red: {shown}; the numbers are below]({path})"
        )
    parts += [_numbers(record, seeds), _comparisons(experiment.comparisons, record, seeds)]
    parts += [_cost(experiment, record, seeds), *filter(None, [experiment.remark])]
    return "\n\n".join(parts) + "\n"


def _numbers(record: Record, seeds: Sequence[int]) -> str:
    """A line an arm, a column a quantity."""
    arms = record.arms(seeds[0])
    columns = list(dict.fromkeys(quantity for numbers in arms.values() for quantity in numbers))
    lines = [_line("arm", *columns), _line(*["---"] * (len(columns) + 1))]
    for arm, numbers in arms.items():
        cells = [
            spread([record.arms(seed)[arm][column] for seed in seeds]) if column in numbers else ""
            for column in columns
        ]
        lines.append(_line(arm, *cells))
    return "\n".join(lines)


def _comparisons(comparisons: Sequence[Comparison], record: Record, seeds: Sequence[int]) -> str:
    lines = [_line("compared within a seed", "wanted", "measured", "seeds that meet it"), _line(*["---"] * 4)]
    for one in comparisons:
        values = [one.value(record.arms(seed)) for seed in seeds]
        met = f"{sum(map(one.met, values))} of {len(values)}" if one.asks else ""
        lines.append(_line(one.label, one.wanted, spread(values), met))
    return "\n".join(lines)


def _cost(experiment: Experiment, record: Record, seeds: Sequence[int]) -> str:
    told = []
    for unit in experiment.units:
        outcomes = [record.outcomes[seed][unit] for seed in seeds]
        training, measuring = (
            sum(getattr(outcome, part) for outcome in outcomes) / len(outcomes)
            for part in ("training", "measuring")
        )
        told.append(f"{unit} {training:.0f} + {measuring:.0f}")
    return f"Seconds a seed, training + measuring: {'; '.join(told)}."


def spread(values: Sequence[float]) -> str:
    """Mean (lowest to highest)."""
    mean = sum(values) / len(values)
    return f"{mean:.3g} ({min(values):.3g} to {max(values):.3g})"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
