"""silu(group_norm(x)) as one operation that keeps x alone for gradients.

    n = (x - mean) / std        z = n · gain + bias        y = silu(z)
    dz = silu'(z) · dy          dx = (gain · dz - mean(gain · dz) - n · mean(gain · dz · n)) / std

Means are over the rows and channels of a group. Norm and SiLU apart keep z as well; here it is computed
again, for less memory. It takes less time too on a processor, where torch's own norm goes through the few
channels of a group one by one. Sums are in float32 or better.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mutoscope.models.nested import Gradients, differentiable


def normed(
    x: Float[Tensor, "n p c"],
    gain: Float[Tensor, " c"],
    *,
    bias: Float[Tensor, " c"],
    groups: int,
    eps: float,
    silu: bool,
) -> Float[Tensor, "n p c"]:
    """The group norm of each x[i], over its p rows and the channels of a group, and SiLU if `silu`; in the
    dtype of x."""
    own = x.device.type == "cpu" or torch.compiler.is_compiling()
    function = _Normed if own else _NormedByKernels
    return function.apply(x, gain, bias, groups, eps, silu)  # type: ignore[no-any-return]


def _plain(x: Tensor, gain: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    """The same by the kernels of torch, which have gradients of gradients."""
    y = F.group_norm(x.movedim(2, 1), groups, gain.to(x.dtype), bias.to(x.dtype), eps).movedim(1, 2)
    return F.silu(y) if silu else y


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _over_groups(wide.mean(dim=1, keepdim=True), groups)
        y = wide - mean
        inverse = (_over_groups(y.square().mean(dim=1, keepdim=True), groups) + eps).rsqrt()
        y = torch.addcmul(bias.to(y.dtype), y, inverse * gain)
        if silu:
            F.silu(y, inplace=True)
        ctx.save_for_backward(x, gain, bias, mean, inverse)
        ctx.settings = groups, eps, silu
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, gain, bias, mean, inverse = ctx.saved_tensors
        groups, _, silu = ctx.settings
        if torch.is_grad_enabled():  # the gradient of this gradient will be asked for
            y = _plain(x, gain, bias, *ctx.settings)
            return differentiable(ctx, y, grad, inputs=(x, gain, bias))
        n = (x.to(mean.dtype) - mean).mul_(inverse)
        gain, dz = gain.to(n.dtype), grad.to(n.dtype)
        if silu:
            dz = torch.ops.aten.silu_backward(dz, torch.addcmul(bias.to(n.dtype), n, gain))
        dbias = dz.sum(dim=1, keepdim=True)
        dgain = (dz * n).sum(dim=1, keepdim=True)
        pull, turn = (_over_groups(gain * d, groups) / x.shape[1] for d in (dbias, dgain))
        dx = torch.addcmul(-inverse * pull, dz, inverse * gain).addcmul_(n, inverse * turn, value=-1)
        return dx.to(x.dtype), dgain.sum(dim=(0, 1)), dbias.sum(dim=(0, 1)), None, None, None


class _NormedByKernels(torch.autograd.Function):
    """The same by the kernels of torch, fast on a GPU. They want channels first, so x is moved there
    and the result back; SiLU and its gradient do it as they go."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        y, mean, inverse = _kernel(x.mT.contiguous(), gain, bias, groups, eps)
        ctx.save_for_backward(x, gain, bias, mean, inverse)
        ctx.settings = groups, eps, silu
        return torch.ops.aten.silu.out(y.mT, out=x.new_empty(x.shape)) if silu else y.mT.contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        x, gain, bias, mean, inverse = ctx.saved_tensors
        groups, eps, silu = ctx.settings
        if torch.is_grad_enabled():
            y = _plain(x, gain, bias, *ctx.settings)
            return differentiable(ctx, y, grad, inputs=(x, gain, bias))
        x, grad = x.mT.contiguous(), grad.to(x.dtype).mT
        if silu:
            z = _kernel(x, gain, bias, groups, eps)[0]
            grad = torch.ops.aten.silu_backward.grad_input(grad, z, grad_input=torch.empty_like(z))
        made = torch.ops.aten.native_group_norm_backward(
            grad.contiguous(), x, mean, inverse, gain.to(x.dtype), *x.shape, groups, [True, True, True]
        )
        dx, dgain, dbias = made
        return dx.mT.contiguous(), dgain.to(gain.dtype), dbias.to(bias.dtype), None, None, None


def _kernel(
    x: Float[Tensor, "n c p"], gain: Tensor, bias: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """torch's norm of contiguous x; means and inverse deviations of its groups."""
    n, c, p = x.shape
    return torch.native_group_norm(x, gain.to(x.dtype), bias.to(x.dtype), n, c, p, groups, eps)


def _over_groups(values: Tensor, groups: int) -> Tensor:
    """The mean over the channels of each group, for every channel: "n 1 c" to "n 1 c"."""
    n, _, channels = values.shape
    each = channels // groups
    means = values.reshape(n, groups, each).mean(dim=2, keepdim=True)
    return means.expand(n, groups, each).reshape(n, 1, channels)
