"""Names of weights, ours and public, for models that are a stack of equal blocks.

A table pairs modules (or single weights) outside the stack, another those inside a block:

    blocks.3.query.weight  <->  encoder.block.3.layer.0.SelfAttention.q.weight

A name that no table knows is left as it is, so whoever compares names reports it under the name in the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockNames:
    """Two-way translation of weight names.

    Args:
        outside: our module or weight to the public one, outside the stack.
        inside: the same within one block.
        stack: what the stack of blocks is called, here and there.
    """

    outside: Mapping[str, str]
    inside: Mapping[str, str]
    stack: tuple[str, str] = ("blocks", "blocks")

    def to_public(self, name: str) -> str:
        """Our name to the public one."""
        ours, public = self.stack
        return _translated(name, self.outside, inside=self.inside, stack=(ours, public))

    def to_ours(self, name: str) -> str:
        """The public name to ours."""
        ours, public = self.stack
        return _translated(name, _inverse(self.outside), inside=_inverse(self.inside), stack=(public, ours))


def _translated(
    name: str, outside: Mapping[str, str], *, inside: Mapping[str, str], stack: tuple[str, str]
) -> str:
    before, after = stack
    index, _, rest = name.removeprefix(f"{before}.").partition(".")
    if not name.startswith(f"{before}.") or not index.isdecimal():
        return _looked_up(name, outside) or name
    found = _looked_up(rest, inside)
    return f"{after}.{index}.{found}" if found else name


def _looked_up(name: str, table: Mapping[str, str]) -> str | None:
    """The weight itself, or the module that holds it with the weight's own last name."""
    module, _, leaf = name.rpartition(".")
    if name in table:
        return table[name]
    return f"{table[module]}.{leaf}" if module in table else None


def _inverse(table: Mapping[str, str]) -> dict[str, str]:
    return {public: ours for ours, public in table.items()}
