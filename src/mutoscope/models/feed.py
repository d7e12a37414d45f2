"""value · gelu(gate) between two matrices (GEGLU, Shazeer 2020), a few rows at a time.

    value, gate = x Vᵀ + b, x Gᵀ + c        y = (value · gelu(gate)) Dᵀ + d

Inside it is eight times as wide as at its ends, and most of what a U-Net's training step writes to memory is
there. So on a CPU rows are taken in chunks whose inside its cache keeps. Value and gate stay for
the gradients, each contiguous; gelu and product, as large again, are computed again.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mutoscope.models.nested import Gradients, differentiable

INSIDE, INSIDE_HALF = 2**18, 2**20
"""Numbers of `value` in a chunk, of 4 bytes (a megabyte) and of 2. Smaller ones make products too narrow. In
half precision a product is faster and a call takes as long, so fewer calls win over a cache that holds all.
"""


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
        x, up, _, down, _ = inputs
        dx, learned = torch.empty_like(x), list[Tensor]()
        frozen = not any(ctx.needs_input_grad[1:])
        for rows, v, g, dy, out in _chunks(x, value, gate, grad, dx, inside=down.shape[1]):
            bent, product = F.gelu(g), dy @ down
            dboth = torch.cat([bent * product, torch.ops.aten.gelu_backward(v * product, g)], dim=1)
            torch.mm(dboth, up, out=out)
            if not frozen:
                parts = [dboth.t() @ rows, dboth.sum(dim=0), dy.t() @ bent.mul_(v)]
                learned = _added(learned, parts) if learned else parts
        made = (None, None, None) if frozen else (total.to(x.dtype) for total in learned)
        return dx, *made, None if frozen else grad.sum(dim=0)


def _chunks(*tensors: Tensor, inside: int) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of each; a GPU takes all at once."""
    first = tensors[0]
    numbers = INSIDE_HALF if first.dtype.itemsize == 2 else INSIDE
    rows = max(1, numbers // inside if first.device.type == "cpu" else len(first))
    return zip(*(x.split(rows) for x in tensors), strict=True)


def _added(totals: list[Tensor], parts: list[Tensor]) -> list[Tensor]:
    """totals + parts, in float32 or better; totals may be overwritten."""
    wide = torch.promote_types(parts[0].dtype, torch.float32)
    return [total.to(wide).add_(part) for total, part in zip(totals, parts, strict=True)]
