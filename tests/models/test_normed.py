"""Operations with gradients by hand are what torch's own parts give, once and twice differentiated."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models import feed
from mutoscope.models import normed as norms
from mutoscope.models.feed import gated_feed
from mutoscope.models.normed import normed


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_torch(x: Tensor, gain: Tensor, bias: Tensor, *, silu: bool) -> Tensor:
    y = F.group_norm(x.movedim(2, 1), 4, gain, bias, 1e-5).movedim(1, 2)
    return F.silu(y) if silu else y


def ours(x: Tensor, gain: Tensor, bias: Tensor, *, silu: bool) -> Tensor:
    return normed(x, gain, bias=bias, groups=4, eps=1e-5, silu=silu)


@pytest.fixture(params=["_Normed", "_NormedByKernels"])
def _both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU runs, and what a GPU runs, here on a CPU."""
    monkeypatch.setattr(norms, "_Normed", getattr(norms, request.param))


@pytest.mark.usefixtures("_both")
@pytest.mark.parametrize("silu", [False, True])
class TestNormed:
    def inputs(
        self, dtype: torch.dtype = torch.float64, *, shape: tuple[int, int, int] = (3, 7, 12)
    ) -> list[Tensor]:
        x, channels = 3 + 2 * random(*shape, seed=0), shape[-1]
        return [v.to(dtype).requires_grad_() for v in (x, random(channels, seed=1), random(channels, seed=2))]

    def test_values_and_gradients_are_those_of_torch(self, silu: bool) -> None:
        inputs = self.inputs()
        got, wanted = ours(*inputs, silu=silu), by_torch(*inputs, silu=silu)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-13)
        turn = random(*got.shape, seed=3)
        for one, other in zip(
            torch.autograd.grad(got, inputs, turn), torch.autograd.grad(wanted, inputs, turn), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)

    def test_far_from_zero_it_keeps_its_digits(self, silu: bool) -> None:
        """A mean of squares less a squared mean would lose all of them in float32."""
        x, gain, bias = self.inputs()
        exact = by_torch(x + 3000, gain, bias, silu=silu)
        found = ours(*((v.float()) for v in (x + 3000, gain, bias)), silu=silu)
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-3)

    def test_gradients_of_gradients(self, silu: bool) -> None:
        assert torch.autograd.gradgradcheck(lambda *v: ours(*v, silu=silu), self.inputs(shape=(2, 3, 8)))

    def test_a_gain_alone_may_want_a_gradient(self, silu: bool) -> None:
        """Where torch 2.13 ends the process: the first norm over frames behind a frozen image model."""
        x, gain, bias = self.inputs()
        x = x.detach()
        one = torch.autograd.grad(ours(x, gain, bias, silu=silu).square().sum(), gain)[0]
        other = torch.autograd.grad(by_torch(x.contiguous(), gain, bias, silu=silu).square().sum(), gain)[0]
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)

    def test_float32_far_from_zero(self, silu: bool) -> None:
        """Gradients are made of moments, which cancel where a mean is far beyond the deviation."""
        x, gain, bias = (v.detach() for v in self.inputs(torch.float32))
        inputs = [v.requires_grad_() for v in (x + 100, gain, bias)]
        exact = [v.detach().double().requires_grad_() for v in inputs]
        turn = random(*x.shape, seed=9)
        found = torch.autograd.grad(ours(*inputs, silu=silu), inputs, turn.float())
        wanted = torch.autograd.grad(by_torch(*exact, silu=silu), exact, turn.double())
        for one, other in zip(found, wanted, strict=True):
            assert (one - other).norm() < 1e-4 * other.norm()

    def test_bfloat16_is_rounded_once(self, silu: bool) -> None:
        x, gain, bias = self.inputs(torch.bfloat16)
        exact = by_torch(x.double(), gain.double(), bias.double(), silu=silu)
        got = ours(x, gain, bias, silu=silu)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, exact.bfloat16(), rtol=2**-7, atol=1e-5)


def parts(x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    value, gate = F.linear(x, up, up_bias).chunk(2, dim=-1)
    return F.linear(value * F.gelu(gate), down, down_bias)


def whole(x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    return gated_feed(x, up, up_bias=up_bias, down=down, down_bias=down_bias)


SHAPES = ((2, 5, 3), (8, 3), (8,), (3, 4), (3,))


class TestGatedFeed:
    @pytest.fixture(autouse=True, params=[1, 3, 100], ids=["row by row", "a ragged end", "all rows"])
    def rows(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feed, "INSIDE", 4 * request.param)
        monkeypatch.setattr(feed, "INSIDE_HALF", 4 * request.param)

    def inputs(self, dtype: torch.dtype = torch.float64) -> list[Tensor]:
        return [random(*s, seed=k).to(dtype).requires_grad_() for k, s in enumerate(SHAPES)]

    def test_values_and_gradients_are_those_of_its_parts(self) -> None:
        inputs = self.inputs()
        got, wanted = whole(*inputs), parts(*inputs)
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-13)
        turn = random(*got.shape, seed=9)
        for one, other in zip(
            torch.autograd.grad(got, inputs, turn), torch.autograd.grad(wanted, inputs, turn), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)

    def test_gradients_of_gradients(self) -> None:
        assert torch.autograd.gradgradcheck(whole, self.inputs())

    def test_frozen_weights_get_none_and_what_came_before_gets_the_same(self) -> None:
        inputs = self.inputs()
        (wanted,) = torch.autograd.grad(whole(*inputs).square().sum(), inputs[:1])
        frozen = [inputs[0], *(v.detach() for v in inputs[1:])]
        whole(*frozen).square().sum().backward()
        assert torch.equal(inputs[0].grad if inputs[0].grad is not None else torch.zeros(()), wanted)
        assert all(v.grad is None for v in inputs[1:])

    def test_autocast_multiplies_in_its_dtype_and_learns_in_float32(self) -> None:
        inputs = self.inputs(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            got, wanted = whole(*inputs), parts(*inputs)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, wanted, rtol=2**-5, atol=2**-4)
        found = torch.autograd.grad(got.float().square().sum(), inputs)
        exact = torch.autograd.grad(parts(*inputs).square().sum(), inputs)
        for one, other in zip(found, exact, strict=True):
            assert one.dtype == torch.float32
            assert (one - other).norm() < 0.03 * other.norm()


def test_less_is_kept_for_gradients() -> None:
    """Of a norm and SiLU the input; of a feed-forward network eight widths beside its input, not sixteen."""
    kept: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    x, norm = torch.randn(2, 50, 16, requires_grad=True), nn.GroupNorm(4, 16)
    weights = [torch.randn(*s, requires_grad=True) for s in ((128, 16), (128,), (16, 64), (16,))]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        normed(x, norm.weight, bias=norm.bias, groups=4, eps=1e-5, silu=True)
        assert sum(v.numel() for v in kept) < 1.2 * x.numel()
        kept.clear()
        whole(x, *weights)
    assert sum(v.numel() for v in kept) == 9 * x.numel() + sum(v.numel() for v in weights)
