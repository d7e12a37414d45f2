"""Names: both ways, parts alone and in order, and unknown ones unharmed."""

import pytest

from mutoscope.checkpoints.names import Names

NAMES = Names(
    {
        "start": "embed.first",
        "table": "shift_table",
        "blocks": "encoder.block",
        "a.q": "attn.to_q",
        "a.out": "attn.to_out.0",
    }
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


@pytest.mark.parametrize("name", ["nothing", "embed.second", "starts.outer", "shift_table_2.weight"])
def test_unknown_names_stay(name: str) -> None:
    assert NAMES.to_ours(name) == name == NAMES.to_public(name)


def test_parts_apply_in_order_and_back_in_the_other() -> None:
    chain = Names({"space": "resample.1", "resample": "sampler"})
    assert chain.to_public("up.space.bias") == "up.sampler.1.bias"
    assert chain.to_ours("up.sampler.1.bias") == "up.space.bias"
