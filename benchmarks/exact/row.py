"""One line of the table: what was published or computed elsewhere, beside what this project's code gives."""

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """experiment: E1 to E9 of the reference. stated: the value to meet, measured: ours, in the same unit."""

    experiment: str
    quantity: str
    stated: float
    measured: float
