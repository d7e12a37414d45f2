"""Names of weights, ours and public: a table of parts between dots, read in both directions.

    blocks.3.query.weight  <->  encoder.block.3.layer.0.SelfAttention.q.weight

What no part of the table touches is left as it is, so whoever compares names reports it under the name in the
file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Two-way translation of weight names.

    Args:
        parts: our part of a name (one word, or several with dots between) to the public one. To public they
            apply from the first to the last, to ours from the last to the first.
    """

    parts: Mapping[str, str]

    def to_public(self, name: str) -> str:
        """Our name to the public one."""
        return _replaced(name, self.parts.items())

    def to_ours(self, name: str) -> str:
        """The public name to ours."""
        return _replaced(name, [(self.parts[ours], ours) for ours in reversed(list(self.parts))])


def _replaced(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    name = f".{name}."
    for old, new in pairs:
        name = name.replace(f".{old}.", f".{new}.")
    return name.strip(".")
