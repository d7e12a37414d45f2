"""What a film shows, read from its pixels: colours, how much of a disc there is, where, and how it moves.

The background of a frame is the median of its pixels in each channel, since a disc covers a small part. A
pixel is as much disc as its colour is on the way from the background to the disc's.
"""

from dataclasses import dataclass

import torch
from benchmarks.trained.discs import KINDS
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["State", "colour_drift", "flicker", "kind_of", "measured", "speed_change"]

Film = Float[Tensor, "b 3 f h w"]


@dataclass(frozen=True, eq=False)
class State:
    """Of every frame: ground and disc colours "b f 3", amount of disc in pixels "b f", place "b f 2"."""

    ground: Float[Tensor, "b f 3"]
    disc: Float[Tensor, "b f 3"]
    amount: Float[Tensor, "b f"]
    place: Float[Tensor, "b f 2"]


def measured(video: Film) -> State:
    """The state of every frame; of a frame without a disc, something finite."""
    pixels = rearrange(video.float(), "b c f h w -> b f (h w) c")
    ground = pixels.median(dim=2).values
    away = pixels - ground[:, :, None]
    far = away.norm(dim=-1)
    # What stands out most is the disc's inside; the square keeps noise in the background from counting.
    weight = (far / far.amax(dim=-1, keepdim=True).clamp(min=1e-6)) ** 4
    weight = weight / weight.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    disc = torch.einsum("b f n, b f n c -> b f c", weight, pixels)
    direction = disc - ground
    share = torch.einsum("b f n c, b f c -> b f n", away, direction)
    share = (share / direction.square().sum(dim=-1, keepdim=True).clamp(min=1e-6)).clamp(min=0)
    amount = share.sum(dim=-1)
    return State(ground, disc, amount, _middle(share, video.shape[-1]))


def _middle(share: Float[Tensor, "b f n"], width: int) -> Float[Tensor, "b f 2"]:
    sure = torch.where(share > 0.3, share, 0.0)
    sure = sure / sure.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    number = torch.arange(share.shape[-1], device=share.device)
    pixel = torch.stack([number % width, number // width], dim=-1) + 0.5
    return sure @ pixel.float()


def colour_drift(state: State) -> Float[Tensor, " b"]:
    """How far the two colours move from frame to frame, root mean square over channels and frames."""
    steps = torch.cat([state.ground, state.disc], dim=-1).diff(dim=1)
    return reduce(steps.square(), "b f c -> b", "mean").sqrt()


def speed_change(state: State) -> Float[Tensor, " b"]:
    """Mean length of the second difference of the place, in pixels: 0 for straight flight, more at walls."""
    return state.place.diff(n=2, dim=1).norm(dim=-1).mean(dim=1)


def flicker(video: Film) -> Float[Tensor, " b"]:
    """The median over pixels and channels of their change from frame to frame; most are background."""
    return video.float().diff(dim=2).abs().flatten(1).median(dim=1).values


def kind_of(state: State) -> Int[Tensor, " b"]:
    """The kind whose hue is nearest to that of the disc, mean over frames."""
    red, green, blue = state.disc.mean(dim=1).unbind(dim=-1)
    turn = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue) / (2 * torch.pi)
    return (turn * KINDS).round().long() % KINDS
