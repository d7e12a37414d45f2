"""What all autoencoders of the house agree on: which shapes they take, and what their latents are.

A picture of any size is repeated at its right and lower edge up to whole latent pixels, and what was added is
cropped off again. Latents are a diagonal Gaussian, N(mean, exp(logvar)); a denoiser works on (z - mean) / std
per channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mutoscope.video import Refusal

LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents, `b c f h w`; `logvar` is clamped to [-30, 20]."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        return (0.5 * self.logvar).exp()

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, noise: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """mean + std * noise, with standard normal `noise` given or drawn from `generator`."""
        if noise is None:
            noise = torch.randn(
                self.mean.shape, dtype=self.mean.dtype, device=self.mean.device, generator=generator
            )
        return self.mean + self.std * noise

    def kl(self) -> Tensor:
        """The divergence from N(0, 1) in nats, per element."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1 - self.logvar)


def posterior_of(moments: Float[Tensor, "b d f h w"]) -> Posterior:
    """The posterior whose means are the first half of the channels, and log-variances the second."""
    mean, logvar = moments.chunk(2, dim=1)
    return Posterior(mean=mean, logvar=logvar.clamp(*LOGVAR_RANGE))


def padded_to_multiple(x: Float[Tensor, "b c f h w"], stride: int) -> Float[Tensor, "b c f h2 w2"]:
    """Height and width up to multiples of `stride`: the last row and column are repeated."""
    right, bottom = -x.shape[4] % stride, -x.shape[3] % stride
    return F.pad(x, (0, right, 0, bottom, 0, 0), mode="replicate") if right or bottom else x


def cropped(x: Float[Tensor, "b c f h w"], size: tuple[int, int] | None) -> Float[Tensor, "b c f h2 w2"]:
    """The upper left part of `size` (width, height); all of it for None."""
    return x if size is None else x[..., : size[1], : size[0]]


def check_channels(x: Tensor, channels: int, *, what: str) -> None:
    """Refuses what is not `b c f h w` with this many channels and at least one element."""
    if x.ndim != 5 or x.shape[1] != channels or prod(x.shape) == 0:
        raise Refusal(
            f"{what} of shape {tuple(x.shape)}: b c f h w with c = {channels} and no empty axis is needed"
        )


def check_crop(z: Tensor, size: tuple[int, int] | None, *, stride: int) -> None:
    """Refuses a size (width, height) that is not what these latents were padded from."""
    if size is None:
        return
    full = (z.shape[4] * stride, z.shape[3] * stride)
    if not all(f - stride < s <= f for s, f in zip(size, full, strict=True)):
        raise Refusal(
            f"size={size}: these latents decode to {full[0]}x{full[1]}, "
            f"of which fewer than {stride} pixels can be cut off each way"
        )


def check_statistics(channels: int, *, mean: Sequence[float], std: Sequence[float]) -> None:
    """ValueError for statistics that are neither empty nor one number a channel, or not above 0."""
    for name, values in (("latents_mean", mean), ("latents_std", std)):
        if len(values) not in (0, channels):
            raise ValueError(f"{name} has {len(values)} numbers; z_dim {channels} needs as many")
    if any(value <= 0 for value in std):
        raise ValueError(f"latents_std has {min(std)}; every deviation must be above 0")


def statistics(z: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel beside `z`, `b c f h w`; empty statistics are 0 and 1."""
    channels, shape = z.shape[1], (-1, 1, 1, 1)
    return (
        z.new_tensor(mean or [0.0] * channels).reshape(shape),
        z.new_tensor(std or [1.0] * channels).reshape(shape),
    )
