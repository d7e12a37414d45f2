"""A causal 3D variational autoencoder: video to latents and back, whole or in a stream, trainable.

    encode   b 3 f h w in [-1, 1]  ->  N(mean, exp(logvar)), b z (1 + (f-1)/4) h/16 w/16  (or other strides)
    decode   the way back; the pixels are not clamped

The architecture is that of Wan 2.1 and 2.2 (Wan team 2025, arXiv:2503.20314), so one class serves both public
layouts of `AutoencoderKLWan`: `residual=False` with plain stages, and `residual=True` with parameter-free
shortcuts past every stage and pixels folded into channels at the door (`patch_size`). Nothing looks into the
future, hence

    the latents of a prefix are the prefix of the latents, an image is a one-frame video, streaming is exact.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.causal import CausalConv, FrameAttention, Memory, ResidualBlock
from mutoscope.models.coders import AutoencoderConfig, Decoder, Encoder
from mutoscope.models.resampling import Downsample, Upsample, patchify, unpatchify
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


class Autoencoder(nn.Module):
    """The autoencoder. `checkpoint_gradients()` trades a second forward pass for memory while training."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.after_encoder = CausalConv(2 * config.z_dim, 2 * config.z_dim, kernel=(1, 1, 1))
        self.before_decoder = CausalConv(config.z_dim, config.z_dim, kernel=(1, 1, 1))
        self.decoder = Decoder(config)
        initialise(self)

    @property
    def time_stride(self) -> int:
        return self.config.time_stride

    @property
    def space_stride(self) -> int:
        return self.config.space_stride

    def checkpoint_gradients(self, on: bool = True) -> None:
        self.encoder.checkpointing = self.decoder.checkpointing = on

    def encode(self, x: Float[Tensor, "b 3 f h w"]) -> Posterior:
        """The posterior of videos in [-1, 1] of any size and length.

        The last row and column are repeated up to a multiple of the space stride, and the last frame up to
        1 + k * time_stride frames: nothing is dropped, and `decode(z, size=, frames=)` crops back.
        """
        self._check(x, channels=3, what="pixels")
        return self._encode(_pad_frames(self._pad_space(x), -(x.shape[2] - 1) % self.time_stride), None)

    def decode(
        self, z: Float[Tensor, "b c f h w"], *, size: tuple[int, int] | None = None, frames: int | None = None
    ) -> Float[Tensor, "b 3 f2 h2 w2"]:
        """The videos of latents, around [-1, 1] but not clamped.

        `size` (width, height) in pixels and `frames` cut off what `encode` added.
        """
        self._check(z, channels=self.config.z_dim, what="latents")
        self._check_crop(z, size)
        longest = 1 + (z.shape[2] - 1) * self.time_stride
        if frames is not None and not 1 <= frames <= longest:
            raise Refusal(f"frames={frames}: {z.shape[2]} latent frames decode to 1..{longest} frames")
        return _crop(self._decode(z, None), size)[:, :, :frames]

    def stream_encode(self, chunks: Iterable[Float[Tensor, "b 3 _ h w"]]) -> Iterator[Posterior]:
        """`encode`, chunk by chunk: chunks of any lengths in, a posterior of one latent frame at a time out.

        The parts joined in time are what `encode` gives for the joined video, in memory that does not grow
        with its length. No gradients flow.
        """
        memory = Memory()
        for i, x in enumerate(_regroup(chunks, first=1, later=self.time_stride)):
            self._check(x, channels=3, what="pixels")
            lacking = self.time_stride - x.shape[2] if i else 0
            with torch.no_grad():
                posterior = self._encode(_pad_frames(self._pad_space(x), lacking), memory)
            yield posterior

    def stream_decode(
        self,
        chunks: Iterable[Float[Tensor, "b c _ h w"]],
        *,
        size: tuple[int, int] | None = None,
        frames: int | None = None,
        step: int = 2,
    ) -> Iterator[Float[Tensor, "b 3 _ h2 w2"]]:
        """`decode`, chunk by chunk: latent chunks of any lengths in, pixels of `step` latent frames out.

        Memory does not grow with the length, and no gradients flow. Raises `Refusal` at the end if the
        latents held fewer than `frames` frames.
        """
        for name, value in (("step", step), ("frames", frames)):
            if value is not None and value < 1:
                raise Refusal(f"{name}={value}: 1 or more is needed")
        memory, left = Memory(), frames
        for z in _regroup(chunks, first=step, later=step):
            self._check(z, channels=self.config.z_dim, what="latents")
            self._check_crop(z, size)
            with torch.no_grad():
                x = _crop(self._decode(z, memory), size)[:, :, :left]
            left = None if left is None else left - x.shape[2]
            yield x
            if left == 0:
                return
        if left:
            raise Refusal(f"frames={frames}: the latents ended {left} frames short of it")

    def normalise(self, z: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """(z - latents_mean) / latents_std per channel: what a denoiser works on."""
        mean, std = self._statistics(z)
        return (z - mean) / std

    def denormalise(self, z: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """z * latents_std + latents_mean: what `decode` takes."""
        mean, std = self._statistics(z)
        return z * std + mean

    def _encode(self, x: Tensor, memory: Memory | None) -> Posterior:
        x = patchify(x, self.config.patch_size or 1)
        mean, logvar = self.after_encoder(self.encoder(x, memory)).chunk(2, dim=1)
        return Posterior(mean=mean, logvar=logvar.clamp(*LOGVAR_RANGE))

    def _decode(self, z: Tensor, memory: Memory | None) -> Tensor:
        return unpatchify(self.decoder(self.before_decoder(z), memory), self.config.patch_size or 1)

    def _statistics(self, z: Tensor) -> tuple[Tensor, Tensor]:
        channels, shape = self.config.z_dim, (-1, 1, 1, 1)
        mean = z.new_tensor(self.config.latents_mean or [0.0] * channels).reshape(shape)
        return mean, z.new_tensor(self.config.latents_std or [1.0] * channels).reshape(shape)

    def _pad_space(self, x: Tensor) -> Tensor:
        right, bottom = -x.shape[4] % self.space_stride, -x.shape[3] % self.space_stride
        return F.pad(x, (0, right, 0, bottom, 0, 0), mode="replicate") if right or bottom else x

    def _check(self, x: Tensor, *, channels: int, what: str) -> None:
        if x.ndim != 5 or x.shape[1] != channels or prod(x.shape) == 0:
            raise Refusal(
                f"{what} of shape {tuple(x.shape)}: b c f h w with c = {channels} and no empty axis is needed"
            )

    def _check_crop(self, z: Tensor, size: tuple[int, int] | None) -> None:
        if size is None:
            return
        full = (z.shape[4] * self.space_stride, z.shape[3] * self.space_stride)
        if not all(f - self.space_stride < s <= f for s, f in zip(size, full, strict=True)):
            raise Refusal(
                f"size={size}: these latents decode to {full[0]}x{full[1]}, "
                f"of which fewer than {self.space_stride} pixels can be cut off each way"
            )


def initialise(model: Autoencoder) -> None:
    """Weights to train from.

    Convolutions keep the variance of what they see (LeCun 1998); the last one of every residual branch is
    zero, so a block begins as its shortcut (Goyal et al. 2017); convolutions in time begin by averaging the
    two frames they join and copying the one they double; the posterior begins with a deviation of e^-3.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.zeros_(_bias(module))
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.weight)
        elif isinstance(module, FrameAttention):
            nn.init.zeros_(module.out.weight)
        elif isinstance(module, Downsample | Upsample) and module.time is not None:
            _begin_in_time(
                module.time, taps=(0.0, 0.5, 0.5) if isinstance(module, Downsample) else (0.0, 0.0, 1.0)
            )
    with torch.no_grad():
        model.decoder.last.weight.mul_(0.1)
        model.after_encoder.weight[model.config.z_dim :] = 0
        _bias(model.after_encoder)[model.config.z_dim :] = -6.0


def _bias(conv: nn.Conv3d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


@torch.no_grad()
def _begin_in_time(conv: CausalConv, *, taps: tuple[float, ...]) -> None:
    same = torch.eye(conv.in_channels).repeat(conv.out_channels // conv.in_channels, 1)
    conv.weight.copy_(torch.stack([tap * same for tap in taps], dim=-1)[..., None, None])


def _pad_frames(x: Tensor, count: int) -> Tensor:
    return torch.cat([x, x[:, :, -1:].expand(-1, -1, count, -1, -1)], dim=2) if count else x


def _crop(x: Tensor, size: tuple[int, int] | None) -> Tensor:
    return x if size is None else x[..., : size[1], : size[0]]


def _regroup(chunks: Iterable[Tensor], *, first: int, later: int) -> Iterator[Tensor]:
    """The same frames in groups of `first`, then `later`, `later`, ...; the last may be shorter."""
    waiting: Tensor | None = None
    wanted = first
    for chunk in chunks:
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
        while waiting.shape[2] >= wanted:
            group, waiting = waiting[:, :, :wanted], waiting[:, :, wanted:]
            yield group
            wanted = later
    if waiting is not None and waiting.shape[2] > 0:
        yield waiting
