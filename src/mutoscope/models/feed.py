"""value · gelu(gate) between two matrices (GEGLU, Shazeer 2020), a few rows at a time.

    value, gate = x Vᵀ + b, x Gᵀ + c        y = (value · gelu(gate)) Dᵀ + d

Inside it is eight times as wide as at its ends, and most of what a U-Net's training step writes to memory is
there. So on a CPU rows are taken in chunks whose inside its cache keeps. Value and gate stay for
the gradients, each contiguous; gelu and product, as large again, are computed again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mutoscope.models.nested import Gradients, differentiable

INSIDE = 2**18
"""Numbers of `value` in a chunk: a megabyte in float32. Smaller chunks make products too narrow."""


def gated_feed(
    x: Float[Tensor, "*n c"],
    up: Float[Tensor, "two_k c"],
    *,
    up_bias: Float[Tensor, " two_k"],
    down: Float[Tensor, "d k"],
    down_bias: Float[Tensor, " d"],
) -> Float[Tensor, "*n d"]:
    """y of the formula above; the first half of `up` makes values, the second gates. Under autocast in its
    dtype."""
    if torch.compiler.is_compiling():  # it joins gelu and product itself, and knows what to compute again
        return _plain(x, up, up_bias, down, down_bias)
    weights, device = (up, up_bias, down, down_bias), x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weights = x.to(dtype), tuple(w.to(dtype) for w in weights)
    with torch.autocast(device, enabled=False):
        y = _Feed.apply(x.flatten(0, -2), *weights)
    return y.unflatten(0, x.shape[:-1])  # type: ignore[no-any-return]


def _plain(x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    """The same with all of the inside at once, which has gradients of gradients."""
    value, gate = F.linear(x, up, up_bias).chunk(2, dim=-1)
    return F.linear(value * F.gelu(gate), down, down_bias)


class _Feed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
        y = x.new_empty(len(x), len(down))
        value, gate = (x.new_empty(len(x), down.shape[1]) for _ in range(2))
        (to_value, to_gate), (value_bias, gate_bias) = up.chunk(2), up_bias.chunk(2)
        for rows, v, g, out in _chunks(x, value, gate, y, inside=down.shape[1]):
            torch.addmm(value_bias, rows, to_value.t(), out=v)
            torch.addmm(gate_bias, rows, to_gate.t(), out=g)
            torch.addmm(down_bias, F.gelu(g).mul_(v), down.t(), out=out)
        ctx.save_for_backward(x, up, up_bias, down, down_bias, value, gate)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        *inputs, value, gate = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient of this gradient will be asked for
            return differentiable(ctx, _plain(*inputs), grad, inputs=inputs)
        x, up, up_bias, down, _ = inputs
        dx, learned = torch.empty_like(x), _Learned.zeros(up, up_bias, down)
        frozen = not any(ctx.needs_input_grad[1:])
        to_value, to_gate = up.chunk(2)
        for rows, v, g, dy, out in _chunks(x, value, gate, grad, dx, inside=down.shape[1]):
            bent, product = F.gelu(g), dy @ down
            dvalue, dgate = bent * product, torch.ops.aten.gelu_backward(v * product, g)
            torch.addmm(dvalue @ to_value, dgate, to_gate, out=out)
            if not frozen:
                learned.add(rows, dy, product=bent.mul_(v), dvalue=dvalue, dgate=dgate)
        made = (None, None, None) if frozen else learned.rounded(x.dtype)
        return dx, *made, None if frozen else grad.sum(dim=0)


def _chunks(*tensors: Tensor, inside: int) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of each; a GPU takes all at once."""
    whole = tensors[0].device.type != "cpu"
    rows = max(1, len(tensors[0]) if whole else INSIDE // inside)
    return zip(*(x.split(rows) for x in tensors), strict=True)


@dataclass(frozen=True)
class _Learned:
    """Gradients of weights that add up over chunks, in float32 or better."""

    up: Tensor
    up_bias: Tensor
    down: Tensor

    @staticmethod
    def zeros(*like: Tensor) -> "_Learned":
        wide = torch.promote_types(like[0].dtype, torch.float32)
        return _Learned(*(torch.zeros_like(w, dtype=wide) for w in like))

    def add(self, rows: Tensor, dy: Tensor, *, product: Tensor, dvalue: Tensor, dgate: Tensor) -> None:
        _add_product(self.down, dy.t(), product)
        halves = zip((dvalue, dgate), self.up.chunk(2), self.up_bias.chunk(2), strict=True)
        for turn, weight, bias in halves:
            _add_product(weight, turn.t(), rows)
            bias.add_(turn.sum(dim=0))

    def rounded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        return self.up.to(dtype), self.up_bias.to(dtype), self.down.to(dtype)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b, in the dtype of `total`."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)
