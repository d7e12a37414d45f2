"""Attention: both kernels agree, merged padding is exact, and rotation knows only relative places."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutoscope.models import attention
from mutoscope.models.attention import (
    Attention,
    attend,
    fused_is_faster,
    merged_padding_bias,
    plain_attention,
    rope_axes,
    rope_tables,
    rotate_complex,
    rotate_real,
    softmax,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def qkv(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(random(2, 3, n, 8, seed=n).to(dtype) for n in (5, 7, 7))  # type: ignore[return-value]


def bias_of(*lengths: int, n: int = 6, padded_to: int = 20) -> Tensor:
    return merged_padding_bias(torch.arange(n) < torch.tensor(lengths).unsqueeze(1), padded_to)


class TestKernels:
    @pytest.mark.parametrize("biased", [False, True])
    @pytest.mark.parametrize("scale", [None, 1.0])
    def test_plain_is_fused_is_the_formula(self, biased: bool, scale: float | None) -> None:
        query, key, value = qkv()
        bias = bias_of(2, 5) if biased else None
        width = 8**-0.5 if scale is None else scale
        scores = torch.einsum("bhnd,bhmd->bhnm", query.double(), key.double()) * width
        exact = ((scores if bias is None else scores + bias).softmax(-1) @ value.double()).float()
        torch.testing.assert_close(attend(query, key, value=value, bias=bias, scale=scale), exact)
        torch.testing.assert_close(plain_attention(query, key, value=value, bias=bias, scale=width), exact)

    def test_bf16_stays_bf16_and_close(self) -> None:
        query, key, value = qkv(torch.bfloat16)
        bias = bias_of(2, 5)
        assert not fused_is_faster(query, key)
        got = attend(query, key, value=value, bias=bias)
        exact = attend(query.float(), key.float(), value=value.float(), bias=bias)
        assert got.dtype == torch.bfloat16
        assert (got.float() - exact).norm() / exact.norm() < 0.02

    def test_gradients_agree(self) -> None:
        inputs = [x.requires_grad_() for x in qkv()]
        query, key, value = inputs
        bias = bias_of(2, 5)
        plain = plain_attention(query, key, value=value, bias=bias, scale=0.3)
        fused = attend(query, key, value=value, bias=bias, scale=0.3)
        weight = random(*plain.shape, seed=9)
        for one, other in zip(
            torch.autograd.grad((plain * weight).sum(), inputs),
            torch.autograd.grad((fused * weight).sum(), inputs),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("shape", [(5, 3, 4), (2, 1, 7), (1, 6, 1), (0, 2, 3)])
    def test_short_rows_are_rows(self, shape: tuple[int, int, int]) -> None:
        scores = random(*shape).double().requires_grad_()
        rows = softmax(scores)
        torch.testing.assert_close(rows, scores.softmax(dim=-1))
        assert rows.is_contiguous()
        if scores.numel():
            assert torch.autograd.gradcheck(softmax, scores)
            assert torch.autograd.gradgradcheck(softmax, scores)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("columns", [8, 15, 16, 31, 40])
    def test_rows_around_a_register(self, dtype: torch.dtype, columns: int) -> None:
        scores = (5 * random(6, 4, columns)).to(dtype).requires_grad_()
        weight = random(6, 4, columns, seed=1).to(dtype)
        found, known = ((f(scores) * weight).sum() for f in (softmax, lambda x: x.softmax(dim=-1)))
        one, other = (torch.autograd.grad(y, scores)[0] for y in (found, known))
        rounded = 2**-6 if dtype == torch.bfloat16 else 2**-20
        assert abs(found - known) <= rounded * weight.abs().sum()
        assert (one - other).norm() <= rounded * other.norm()

    def test_minus_infinity_is_no_weight(self) -> None:
        scores = random(3, 2, 5)
        scores[:, :, 2:4] = -torch.inf
        assert not softmax(scores)[:, :, 2:4].any()

    def test_the_door(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small = torch.zeros(1, 1, 4, 2)
        assert fused_is_faster(small, small)
        assert not fused_is_faster(small.bfloat16(), small.bfloat16())
        assert fused_is_faster(small.bfloat16().to("meta"), small.bfloat16().to("meta"))
        few_in_many_heads, more = torch.zeros(2, 40, 8, 2), torch.zeros(2, 40, 32, 2)
        assert not fused_is_faster(few_in_many_heads, few_in_many_heads)
        assert fused_is_faster(more, more) and fused_is_faster(few_in_many_heads, more)
        monkeypatch.setattr(attention, "PLAIN_SCORES_AT_MOST", 15)
        assert fused_is_faster(small.bfloat16(), small.bfloat16())


class TestMergedPadding:
    @pytest.mark.parametrize("lengths", [(6, 3), (1, 0), (2, 2)])
    def test_equals_explicit_zero_rows(self, lengths: tuple[int, int]) -> None:
        """n zero rows have one key and value; that key once, with log(n), gives the same."""
        query, key, value = random(2, 2, 5, 4), random(2, 2, 6, 4, seed=1), random(2, 2, 6, 4, seed=2)
        pad_key, pad_value = random(1, 2, 1, 4, seed=3), random(1, 2, 1, 4, seed=4)
        merged = attend(
            query,
            torch.cat([key, pad_key.expand(2, -1, -1, -1)], 2),
            value=torch.cat([value, pad_value.expand(2, -1, -1, -1)], 2),
            bias=bias_of(*lengths, padded_to=512),
        )
        for sample, length in enumerate(lengths):
            rows = [
                torch.cat([real[sample : sample + 1, :, :length], pad.expand(1, 2, 512 - length, 4)], 2)
                for real, pad in ((key, pad_key), (value, pad_value))
            ]
            explicit = F.scaled_dot_product_attention(query[sample : sample + 1], *rows)
            torch.testing.assert_close(merged[sample : sample + 1], explicit, rtol=1e-5, atol=1e-6)

    def test_values(self) -> None:
        bias = bias_of(2, 3, n=3, padded_to=4)
        assert bias.tolist() == [[[[0, 0, -math.inf, pytest.approx(math.log(2))]]], [[[0, 0, 0, 0]]]]

    def test_no_zero_row_no_padding_key(self) -> None:
        bias = bias_of(3, n=3, padded_to=3)
        assert bias[0, 0, 0].tolist() == [0, 0, 0, -math.inf]
        query, key, value = random(1, 1, 2, 4), random(1, 1, 4, 4, seed=1), random(1, 1, 4, 4, seed=2)
        without = attend(query, key[:, :, :3], value=value[:, :, :3])
        torch.testing.assert_close(attend(query, key, value=value, bias=bias), without)

    def test_too_long_a_text(self) -> None:
        with pytest.raises(ValueError, match=r"6 text rows do not fit into padded_to=5"):
            bias_of(6, padded_to=5)


class TestRope:
    @pytest.mark.parametrize(
        ("head_dim", "axes"), [(128, (44, 42, 42)), (64, (24, 20, 20)), (24, (8, 8, 8)), (4, (4, 0, 0))]
    )
    def test_axes(self, head_dim: int, axes: tuple[int, int, int]) -> None:
        assert rope_axes(head_dim) == axes

    def test_tables_by_hand(self) -> None:
        cos, sin = rope_tables((2, 3, 4), 24)
        assert cos.shape == (24, 12) and cos.dtype == torch.float32
        token = (1 * 3 + 2) * 4 + 3  # frame 1, row 2, column 3
        for pair, place in ((1, 1), (4 + 1, 2), (8 + 2, 3)):
            turn = place * 10000 ** (-2 * (pair % 4) / 8)
            assert cos[token, pair].item() == pytest.approx(math.cos(turn), abs=1e-7)
            assert sin[token, pair].item() == pytest.approx(math.sin(turn), abs=1e-7)

    def test_later_frames_keep_their_place(self) -> None:
        whole = rope_tables((5, 2, 2), 24)
        assert torch.equal(rope_tables((2, 2, 2), 24, first_frame=3), whole[:, 12:])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_real_is_complex(self, dtype: torch.dtype) -> None:
        x, tables = random(2, 24, 3, 24).to(dtype), rope_tables((2, 3, 4), 24)
        real, complex_ = rotate_real(x, tables), rotate_complex(x, tables)
        assert real.dtype == complex_.dtype == dtype
        torch.testing.assert_close(real, complex_)
        torch.testing.assert_close(real.float().norm(dim=-1), x.float().norm(dim=-1), rtol=1e-2, atol=0)

    def test_scores_know_only_distances(self) -> None:
        query, key = (
            random(1, 1, 1, 24).expand(-1, 8, -1, -1),
            random(1, 1, 1, 24, seed=1).expand(-1, 8, -1, -1),
        )
        tables = rope_tables((8, 1, 1), 24)
        scores = torch.einsum("bnhd,bmhd->nm", rotate_real(query, tables), rotate_real(key, tables))
        for distance in range(-7, 8):
            along = scores.diagonal(distance)
            torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)
        assert (scores[0, 1:] - scores[0, 0]).abs().min() > 1e-3


def test_module_norms_over_all_heads() -> None:
    """Scaling one head of the projection changes the others' queries: the norm is over the whole width."""
    torch.manual_seed(0)
    module, x = Attention(2, 4), random(1, 3, 8)
    before = module.queries(x)
    with torch.no_grad():
        module.query.weight[:4] *= 3
    assert not torch.allclose(module.queries(x)[:, 1], before[:, 1])
    rms = module.queries(x).transpose(1, 2).flatten(2).pow(2).mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.ones(1, 3), rtol=1e-4, atol=0)


def test_module_gives_every_token_a_mixture() -> None:
    torch.manual_seed(0)
    module, x, context = Attention(2, 4), random(2, 3, 8), random(2, 5, 8, seed=1)
    key, value = module.keys_values(context)
    out = module(module.queries(x), key, value=value)
    assert out.shape == (2, 3, 8)
    only_first = torch.tensor([0.0, *[-math.inf] * 4]).view(1, 1, 1, 5)
    chosen = module(module.queries(x), key, value=value, bias=only_first)
    torch.testing.assert_close(chosen, module.out(module.value(context[:, :1])).expand(-1, 3, -1))


def test_autocast_computes_in_bf16_and_norms_in_fp32() -> None:
    torch.manual_seed(0)
    module, x = Attention(2, 4), random(1, 3, 8)
    tables = rope_tables((3, 1, 1), 4)
    exact = module.queries(x, rope=tables)
    with torch.autocast("cpu", torch.bfloat16):
        query = module.queries(x, rope=tables)
    assert query.dtype == torch.bfloat16
    torch.testing.assert_close(query.float(), exact, rtol=0.03, atol=0.03)
