"""Names: both ways, inside and outside the stack, and unknown ones unharmed."""

import pytest

from mutoscope.checkpoints.names import BlockNames

NAMES = BlockNames(
    outside={"start": "embed.first", "table": "shift_table"},
    inside={"a.q": "attn.to_q", "a.out": "attn.to_out.0", "table": "shift_table"},
    stack=("blocks", "encoder.block"),
)
PAIRS = [
    ("start.weight", "embed.first.weight"),
    ("table", "shift_table"),
    ("blocks.0.a.q.bias", "encoder.block.0.attn.to_q.bias"),
    ("blocks.12.a.out.weight", "encoder.block.12.attn.to_out.0.weight"),
    ("blocks.3.table", "encoder.block.3.shift_table"),
]


@pytest.mark.parametrize(("ours", "public"), PAIRS)
def test_both_ways(ours: str, public: str) -> None:
    assert NAMES.to_public(ours) == public
    assert NAMES.to_ours(public) == ours


@pytest.mark.parametrize(
    "name", ["nothing", "encoder.block.0.other.weight", "encoder.block.x.attn.to_q.bias"]
)
def test_unknown_names_stay(name: str) -> None:
    assert NAMES.to_ours(name) == name
