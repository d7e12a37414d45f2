"""Clips made a little worse on purpose, so that a probe learns what is shown and not how cleanly.

A generated clip has been through an autoencoder: it is softer, its rain fainter, its tones slightly off. A
probe that has seen only drawn clips would call such a clip anything. So every view in training is disturbed
anew: softened in space and in time, its tones shifted, noise added, and mirrored (which swaps left and
right). All of it comes from one generator, in the same order whatever the values.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

__all__ = ["Disturbance", "disturb", "mirror"]


@dataclass(frozen=True)
class Disturbance:
    """The largest size of each effect; every clip draws its own between none and this."""

    soft: float = 0.9
    smear: float = 0.35
    tone: float = 0.08
    contrast: float = 0.12
    noise: float = 0.06


def mirror(
    clips: Float[Tensor, "b 3 f h w"], chosen: Float[Tensor, "b"] | Tensor
) -> Float[Tensor, "b 3 f h w"]:
    """The chosen clips ("b", bool) seen in a mirror."""
    return torch.where(chosen[:, None, None, None, None], clips.flip(-1), clips)


def disturb(
    clips: Float[Tensor, "b 3 f h w"], strength: Disturbance, *, generator: torch.Generator
) -> Float[Tensor, "b 3 f h w"]:
    """Clips in [-1, 1], softened, smeared in time, shifted in tone and noisy; still in [-1, 1]."""
    b = len(clips)

    def each(channels: int = 1) -> Tensor:
        return torch.rand(b, channels, 1, 1, 1, generator=generator, device=clips.device)

    # squared: most clips are nearly clean, a few are badly worn
    clips = torch.lerp(clips, softer(clips), each().square() * strength.soft)
    clips = torch.lerp(clips, smeared(clips), each().square() * strength.smear)
    gain = 1 + strength.contrast * (2 * each() - 1)
    clips = clips * gain + strength.tone * (2 * each(3) - 1)
    noise = torch.randn(clips.shape, generator=generator, device=clips.device)
    return (clips + noise * (each().square() * strength.noise)).clamp(-1, 1)


def softer(clips: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 3 f h w"]:
    """Every frame at half resolution and back."""
    frames = rearrange(clips, "b c f h w -> (b f) c h w")
    half = F.avg_pool2d(frames, 2, ceil_mode=True)
    back = F.interpolate(half, frames.shape[-2:], mode="bilinear")
    return rearrange(back, "(b f) c h w -> b c f h w", b=len(clips))


def smeared(clips: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 3 f h w"]:
    """Every frame as the mean of itself and its two neighbours in time."""
    held = torch.cat([clips[:, :, :1], clips, clips[:, :, -1:]], 2)
    return (held[:, :, :-2] + held[:, :, 1:-1] + held[:, :, 2:]) / 3
