"""silu(group_norm(x)) as one operation that keeps x alone for gradients, and modules of it.

    n = (x - mean) / std        z = n · gain + bias        y = silu(z)
    dz = silu'(z) · dy          dx = (gain · dz - mean(gain · dz) - n · mean(gain · dz · n)) / std

Means are over the rows and channels of a group. Backward n is not made: its sums follow from those of dz and
of dz · x. Norm and SiLU apart keep z as well; here it is computed again, for less memory. It takes less time
too on a processor, where torch's own norm goes through the few channels of a group one by one. Sums are in
float32 or better.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.nested import Gradients, differentiable


class RowNorm(nn.GroupNorm):
    """The group norm of each x[i] over its rows, and SiLU if `silu`. As a module a compiler may have it by
    itself."""

    def forward(self, x: Float[Tensor, "n p c"], *, silu: bool = False) -> Float[Tensor, "n p c"]:  # type: ignore[override]
        return normed(x, self.weight, bias=self.bias, groups=self.num_groups, eps=self.eps, silu=silu)


class FrameNorm(RowNorm):
    """The same of maps in channels_last, every frame by itself."""

    def forward(self, x: Float[Tensor, "n c h w"], *, silu: bool = False) -> Float[Tensor, "n c h w"]:
        y = super().forward(rearrange(x, "n c h w -> n (h w) c"), silu=silu)
        return rearrange(y, "n (h w) c -> n c h w", h=x.shape[2])


class LayerNorm(nn.LayerNorm):
    """A layer norm that stays in the dtype of its input. By itself, autocast on a GPU would make its output
    float32, and each product that reads it would turn it back."""

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:  # type: ignore[override]
        if x.device.type == "cpu":  # autocast leaves it alone there, and weights may be wider than x
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


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
        mean = _over_groups(wide.sum(dim=1), groups, rows=x.shape[1]).unsqueeze(1)
        y = wide - mean
        variance = _over_groups(y.square().sum(dim=1), groups, rows=x.shape[1])
        inverse = variance.add_(eps).rsqrt_().unsqueeze(1)
        torch.addcmul(bias.to(y.dtype), y, inverse * gain, out=y)
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
        x, dz, scale = x.to(mean.dtype), grad.to(mean.dtype), inverse * gain
        if silu:
            dz = torch.ops.aten.silu_backward(dz, torch.addcmul(bias - mean * scale, x, scale))
        dbias, moment = dz.sum(dim=1, keepdim=True), (dz * x).sum(dim=1, keepdim=True)
        dgain = inverse * (moment - mean * dbias)
        pulls = _over_groups(gain * torch.stack([dbias, dgain]), groups, rows=x.shape[1])
        pull, turn = pulls.mul_(inverse)
        turn.mul_(inverse)
        dx = torch.addcmul(mean * turn - pull, dz, scale).addcmul_(x, turn, value=-1)
        return dx.to(grad.dtype), dgain.sum(dim=(0, 1)), dbias.sum(dim=(0, 1)), None, None, None


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


def _over_groups(sums: Float[Tensor, "*n c"], groups: int, *, rows: int) -> Float[Tensor, "*n c"]:
    """The sum over the channels of each group over how many numbers that is, for every channel: of sums over
    rows their means. In few operations: on a processor each takes as long as hundreds of numbers."""
    grouped = sums.unflatten(-1, (groups, -1))
    each = grouped.shape[-1]
    return (grouped.sum(dim=-1, keepdim=True).expand(grouped.shape) / (rows * each)).flatten(-2)
