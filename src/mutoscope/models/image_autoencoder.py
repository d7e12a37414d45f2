"""A variational autoencoder of pictures, which takes films as rows of pictures, and may decode them as films.

    encode   b 3 f h w in [-1, 1]  ->  N(mean, exp(logvar)), b z f h/8 w/8  (or another stride)
    decode   the way back; the pixels are not clamped

The architecture is that of latent diffusion (Rombach et al. 2022, arXiv:2112.10752); one class serves the
public layouts `AutoencoderKL` (Stable Diffusion) and, with `temporal`, `AutoencoderKLTemporalDecoder`
(Stable Video Diffusion), in which the decoder sees all frames of a clip while the encoder stays what it was:

    image autoencoder  --add_time-->  the same, bit for bit, with layers of time to train
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mutoscope.models.image_coders import (
    ImageAttention,
    ImageAutoencoderConfig,
    ImageBlock,
    ImageDecoder,
    ImageEncoder,
)
from mutoscope.models.latents import (
    Posterior,
    check_channels,
    check_crop,
    cropped,
    padded_to_multiple,
    posterior_of,
    statistics,
)
from mutoscope.models.temporal import Frames, each_group, in_order
from mutoscope.models.temporal_decoder import DecoderTime, LastInTime
from mutoscope.video import Refusal

__all__ = [
    "ImageAutoencoder",
    "ImageAutoencoderConfig",
    "Posterior",
    "absorb_before_decoder",
    "add_time",
    "temporal_weights",
]


class ImageAutoencoder(nn.Module):
    """The autoencoder. `checkpoint_gradients()` trades a second forward pass for memory while training."""

    def __init__(self, config: ImageAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config)
        self.after_encoder = _mixing(2 * config.z_dim, wanted=config.after_encoder)
        self.before_decoder = _mixing(config.z_dim, wanted=config.before_decoder)
        self.decoder = ImageDecoder(config)
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
        """The posterior of pictures in [-1, 1] of any size, each frame on its own.

        The last row and column are repeated up to a multiple of the space stride; `decode(z, size=)` crops
        back.
        """
        check_channels(x, 3, what="pixels")
        pictures = rearrange(padded_to_multiple(x, self.space_stride), "b c f h w -> (b f) c h w")
        moments = self.after_encoder(self.encoder(pictures))
        return posterior_of(rearrange(moments, "(b f) c h w -> b c f h w", f=x.shape[2]))

    def decode(
        self,
        z: Float[Tensor, "b c f h w"],
        *,
        size: tuple[int, int] | None = None,
        frames: int | None = None,
        images: Bool[Tensor, "b f"] | None = None,
    ) -> Float[Tensor, "b 3 f2 h2 w2"]:
        """The pictures of latents, around [-1, 1] but not clamped.

        `size` (width, height) in pixels cuts off what `encode` added, and `frames` what comes later. With a
        temporal decoder the f frames of a sample are one clip, those apart that `images` flags: each of these
        is decoded as the image decoder does it, bit for bit, and neither sees nor is seen by another frame.
        """
        check_channels(z, self.config.z_dim, what="latents")
        check_crop(z, size, stride=self.space_stride)
        if frames is not None and not 1 <= frames <= z.shape[2]:
            raise Refusal(f"frames={frames}: {z.shape[2]} latent frames decode to 1..{z.shape[2]} frames")
        if images is None:
            pictures = self._decoded(z, Frames(z.shape[2]))
        else:
            pictures = each_group(
                images, lambda rows, order, own: self._decoded(in_order(z[rows], order), own)
            )
        return cropped(pictures, size)[:, :, :frames]

    def _decoded(self, z: Float[Tensor, "b c f h w"], frames: Frames) -> Float[Tensor, "b 3 f h2 w2"]:
        latents = self.before_decoder(rearrange(z, "b c f h w -> (b f) c h w"))
        return rearrange(self.decoder(latents, frames), "(b f) c h w -> b c f h w", f=frames.count)

    def normalise(self, z: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """(z - latents_mean - shift) · scaling / latents_std per channel: what a denoiser works on."""
        mean, std = self._statistics(z)
        return (z - mean) / std

    def denormalise(self, z: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """The inverse of `normalise`: what `decode` takes."""
        mean, std = self._statistics(z)
        return z * std + mean

    def _statistics(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = statistics(z, mean=self.config.latents_mean, std=self.config.latents_std)
        return mean + self.config.shift, std / self.config.scaling


def add_time(autoencoder: ImageAutoencoder) -> ImageAutoencoder:
    """A copy with layers of time in its decoder, which begin as the identity.

    What it encodes and decodes is that of the image autoencoder bit for bit, until the layers are trained.
    Raises `Refusal` where they are there already.
    """
    if autoencoder.config.temporal:
        raise Refusal("the autoencoder has layers of time already; train those, or start from an image one")
    like = autoencoder.decoder.last.weight
    made = ImageAutoencoder(autoencoder.config.model_copy(update={"temporal": True}))
    made.to(like.device, like.dtype)
    known, temporal = autoencoder.state_dict(), {name for name, _ in temporal_weights(made)}
    state = {
        name: weight if name in temporal else known[name.replace(".space.", ".")]
        for name, weight in made.state_dict().items()
    }
    made.load_state_dict(state)
    return made.train(autoencoder.training)


@torch.no_grad()
def absorb_before_decoder(autoencoder: ImageAutoencoder) -> ImageAutoencoder:
    """A copy without the convolution `before_decoder`, which makes the same pictures, up to rounding.

    W z + b = W (z + W^-1 b): the matrix goes into the decoder's first convolution, and W^-1 b is added to
    the latents where they are made and to `latents_mean`. So a denoiser finds the same normalised latents. A
    plain bias of the decoder could not stand for b: zeros stand around z + W^-1 b, not around z. Raises
    `Refusal` where there is no such convolution, or none that can be inverted.
    """
    mixing, config = autoencoder.before_decoder, autoencoder.config
    if not isinstance(mixing, nn.Conv2d) or mixing.bias is None:
        raise Refusal("the autoencoder has no convolution before its decoder; take it as it is")
    matrix = mixing.weight[:, :, 0, 0].double()
    try:
        moved = torch.linalg.solve(matrix, mixing.bias.double())
    except torch.linalg.LinAlgError:
        raise Refusal("the matrix before the decoder cannot be inverted; train it further first") from None
    mean = torch.tensor(config.latents_mean or [0.0] * config.z_dim).to(moved) + moved
    changes = {"before_decoder": False, "latents_mean": tuple(mean.tolist())}
    made = ImageAutoencoder(config.model_copy(update=changes)).to(mixing.weight.device, mixing.weight.dtype)
    made.load_state_dict({n: w for n, w in autoencoder.state_dict().items() if "before_decoder" not in n})
    first = made.decoder.first.weight
    first.copy_(torch.einsum("omhw,mi->oihw", first.double(), matrix))
    _moments(made)[1][: config.z_dim] += moved
    return made.train(autoencoder.training)


def temporal_weights(autoencoder: ImageAutoencoder) -> list[tuple[str, nn.Parameter]]:
    """Names and weights of the layers of time: all that an image autoencoder does not have."""
    return [
        (f"{place}.{name}", weight)
        for place, module in autoencoder.named_modules()
        if isinstance(module, DecoderTime | LastInTime)
        for name, weight in module.named_parameters()
    ]


@torch.no_grad()
def initialise(model: ImageAutoencoder) -> None:
    """Weights to train from.

    Convolutions keep the variance of what they see (LeCun 1998); the last one of every residual branch is
    zero, so a block begins as its shortcut (Goyal et al. 2017); the posterior begins with a deviation of
    e^-3. Layers of time begin as the identity by themselves.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, ImageBlock):
            nn.init.zeros_(module.conv2.weight)
        elif isinstance(module, ImageAttention):
            nn.init.zeros_(module.out.weight)
    model.decoder.last.weight.mul_(0.1)
    moments, bias = _moments(model)
    moments.weight[model.config.z_dim :] = 0
    bias[model.config.z_dim :] = -6.0


def _moments(model: ImageAutoencoder) -> tuple[nn.Conv2d, Tensor]:
    """The convolution that gives means and log-variances, and its bias."""
    conv = model.after_encoder if isinstance(model.after_encoder, nn.Conv2d) else model.encoder.last
    assert conv.bias is not None
    return conv, conv.bias


def _mixing(channels: int, *, wanted: bool) -> nn.Module:
    return nn.Conv2d(channels, channels, 1) if wanted else nn.Identity()
