"""The text encoder: padding is invisible, buckets are sorted, the start is sane.

That it equals the one of transformers stands in tests/checkpoints/test_umt5.py."""

import pytest
import torch
from pydantic import ValidationError

from mutoscope.models.text import Text, TextEncoder, TextEncoderConfig, distance_buckets

SMALL = TextEncoderConfig(vocabulary=40, width=24, layers=2, heads=3, head_dim=8, ffn_dim=32)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(SMALL).eval()


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(2, 40, (rows, length), generator=torch.Generator().manual_seed(0))


def test_rows_past_the_mask_are_zero(encoder: TextEncoder) -> None:
    mask = torch.arange(6) < torch.tensor([[2], [6], [0]])
    rows = encoder(ids(3, 6), mask)
    assert rows.shape == (3, 6, 24)
    assert (rows.abs().sum(-1) > 0).equal(mask)


def test_padding_changes_nothing(encoder: TextEncoder) -> None:
    tokens = ids(1, 5)
    alone = encoder(tokens, torch.ones(1, 5, dtype=torch.bool))
    for filler in (0, 7):
        padded = torch.cat([tokens, torch.full((1, 4), filler)], dim=1)
        rows = encoder(padded, torch.arange(9).unsqueeze(0) < 5)
        torch.testing.assert_close(rows[:, :5], alone, rtol=1e-5, atol=1e-5)


def test_batch_is_n_singles(encoder: TextEncoder) -> None:
    tokens, mask = ids(3, 6), torch.arange(6) < torch.tensor([[2], [6], [4]])
    together = encoder(tokens, mask)
    for row in range(3):
        one = encoder(tokens[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], one, rtol=1e-5, atol=1e-5)


def test_order_matters(encoder: TextEncoder) -> None:
    tokens, mask = ids(1, 5), torch.ones(1, 5, dtype=torch.bool)
    backwards = encoder(tokens.flip(1), mask).flip(1)
    assert (backwards - encoder(tokens, mask)).abs().max() > 1e-3


def test_the_start_is_sane() -> None:
    """Rows leave with an RMS of one, and no layer has blown up or died."""
    torch.manual_seed(0)
    encoder = TextEncoder(
        TextEncoderConfig(vocabulary=300, width=64, layers=4, heads=2, head_dim=32, ffn_dim=96)
    )
    rows = encoder(torch.randint(0, 300, (8, 12)), torch.ones(8, 12, dtype=torch.bool))
    torch.testing.assert_close(rows.pow(2).mean(-1).sqrt(), torch.ones(8, 12), rtol=1e-3, atol=0)
    (rows * torch.randn_like(rows)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and 1e-6 < parameter.grad.norm() < 1e4, name


def test_autocast_stays_close(encoder: TextEncoder) -> None:
    tokens, mask = ids(2, 6), torch.arange(6) < torch.tensor([[2], [6]])
    with torch.autocast("cpu", torch.bfloat16):
        rows = encoder(tokens, mask)
    exact = encoder(tokens, mask)
    assert (rows.float() - exact).norm() / exact.norm() < 0.03


class TestBuckets:
    distance = torch.arange(-200, 201).unsqueeze(0)

    def test_near_keys_have_their_own(self) -> None:
        near = torch.arange(-7, 8).unsqueeze(0)
        assert distance_buckets(near, buckets=32, max_distance=128).unique().numel() == 15

    def test_far_keys_share(self) -> None:
        found = distance_buckets(self.distance, buckets=32, max_distance=128)[0]
        assert found.min() == 0 and found.max() == 31
        assert found[self.distance[0] <= -128].unique().tolist() == [15]
        assert found[self.distance[0] >= 128].unique().tolist() == [31]

    def test_further_never_comes_first(self) -> None:
        found = distance_buckets(self.distance, buckets=32, max_distance=128)[0]
        left, right = found[:201].flip(0), found[200:] - 16
        assert (left.diff() >= 0).all() and (right[1:].diff() >= 0).all()
        assert torch.equal(left[1:], right[1:])


class TestText:
    def test_explicit_rows(self) -> None:
        text = Text(
            torch.ones(2, 3, 4), torch.tensor([[True, False, False], [True, True, True]]), padded_to=6
        )
        rows = text.explicit()
        assert rows.shape == (2, 6, 4)
        assert rows.sum((1, 2)).tolist() == [4, 12]
        assert torch.equal(rows[1, :3], text.rows[1])

    def test_is_frozen(self) -> None:
        with pytest.raises(AttributeError):
            Text(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool)).padded_to = 3  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [{"vocabulary": 0}, {"buckets": 6}, {"width": -1}, {"dropout": 0.1}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        TextEncoderConfig(**{"vocabulary": 10, **wrong})
