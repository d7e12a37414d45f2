"""Gradients of gradients for operations that write their gradient by hand.

Such a gradient is fast since it works in place, where autograd cannot follow. Where it must (`create_graph`),
the operation is done again by parts that autograd knows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, ...]


def differentiable(ctx: Any, y: Tensor, grad: Tensor, *, inputs: Sequence[Tensor]) -> Gradients:
    """For `backward`: gradients of y to those of the first inputs that want one; None for all others."""
    wants = ctx.needs_input_grad
    wanted = [x for x, wanting in zip(inputs, wants, strict=False) if wanting]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=True))
    return tuple(next(found) if wanting else None for wanting in wants)
