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

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mutoscope.models.causal import CausalConv, FrameAttention, Memory, ResidualBlock
from mutoscope.models.coders import AutoencoderConfig, Decoder, Encoder
from mutoscope.models.latents import (
    Posterior,
    check_channels,
    check_crop,
    cropped,
    padded_to_multiple,
    posterior_of,
    statistics,
)
from mutoscope.models.resampling import Downsample, Upsample, patchify, unpatchify
from mutoscope.video import Refusal


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
        check_channels(x, 3, what="pixels")
        lacking = -(x.shape[2] - 1) % self.time_stride
        return self._encode(_pad_frames(x, lacking), None)

    def decode(
        self, z: Float[Tensor, "b c f h w"], *, size: tuple[int, int] | None = None, frames: int | None = None
    ) -> Float[Tensor, "b 3 f2 h2 w2"]:
        """The videos of latents, around [-1, 1] but not clamped.

        `size` (width, height) in pixels and `frames` cut off what `encode` added.
        """
        check_channels(z, self.config.z_dim, what="latents")
        check_crop(z, size, stride=self.space_stride)
        longest = 1 + (z.shape[2] - 1) * self.time_stride
        if frames is not None and not 1 <= frames <= longest:
            raise Refusal(f"frames={frames}: {z.shape[2]} latent frames decode to 1..{longest} frames")
        return cropped(self._decode(z, None), size)[:, :, :frames]

    def stream_encode(self, chunks: Iterable[Float[Tensor, "b 3 _ h w"]]) -> Iterator[Posterior]:
        """`encode`, chunk by chunk: chunks of any lengths in, a posterior of one latent frame at a time out.

        The parts joined in time are what `encode` gives for the joined video, in memory that does not grow
        with its length. No gradients flow.
        """
        memory = Memory()
        for i, x in enumerate(_regroup(chunks, first=1, later=self.time_stride)):
            check_channels(x, 3, what="pixels")
            lacking = self.time_stride - x.shape[2] if i else 0
            with torch.no_grad():
                posterior = self._encode(_pad_frames(x, lacking), memory)
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
            check_channels(z, self.config.z_dim, what="latents")
            check_crop(z, size, stride=self.space_stride)
            with torch.no_grad():
                x = cropped(self._decode(z, memory), size)[:, :, :left]
            left = None if left is None else left - x.shape[2]
            yield x
            if left == 0:
                return
        if left:
            raise Refusal(f"frames={frames}: the latents ended {left} frames short of it")

    def normalise(self, z: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """(z - latents_mean) / latents_std per channel: what a denoiser works on."""
        mean, std = statistics(z, mean=self.config.latents_mean, std=self.config.latents_std)
        return (z - mean) / std

    def denormalise(self, z: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """z * latents_std + latents_mean: what `decode` takes."""
        mean, std = statistics(z, mean=self.config.latents_mean, std=self.config.latents_std)
        return z * std + mean

    def _encode(self, x: Tensor, memory: Memory | None) -> Posterior:
        x = patchify(padded_to_multiple(x, self.space_stride), self.config.patch_size or 1)
        return posterior_of(self.after_encoder(self.encoder(x, memory)))

    def _decode(self, z: Tensor, memory: Memory | None) -> Tensor:
        return unpatchify(self.decoder(self.before_decoder(z), memory), self.config.patch_size or 1)


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
