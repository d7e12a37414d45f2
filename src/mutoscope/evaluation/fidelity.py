"""How near one clip is to another: PSNR, SSIM, and what PSNR hides, the motion.

Rain is a few pale streaks: an autoencoder that drops them loses a fraction of a decibel. Its frame
differences x[t+1] - x[t] however are almost all rain, so two numbers on them tell the truth:

    correlation   of the differences of both clips: 1 when every streak is where it was, 0 when gone
    energy        of the differences, as a share: below 1 motion was lost, above 1 it was invented

All functions take clips "b 3 f h w" in [-1, 1] and give one number a clip, "b"; arithmetic is float32 at
least.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mutoscope.video import Refusal

__all__ = [
    "difference_correlation", "difference_energy", "flicker", "flicker_at_rest", "psnr", "ssim",
]  # fmt: skip

RANGE = 2.0  # from -1 to 1
LUMA = (0.299, 0.587, 0.114)
TINY = 1e-12


def psnr(
    one: Float[Tensor, "b 3 f h w"],
    other: Float[Tensor, "..."],
    *,
    weight: Float[Tensor, "b f h w"] | None = None,
) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio of each clip in dB; infinite for equal clips.

    `weight` (a figure's mask, say) says which pixels count; where it is zero all over, the answer is NaN.
    """
    _check(one, other)
    error = (_wide(one) - _wide(other)).square()
    if weight is None:
        mean = error.flatten(1).mean(1)
    else:
        share = weight.to(error)[:, None].expand_as(error)
        mean = (error * share).flatten(1).sum(1) / share.flatten(1).sum(1)
    return 10 * torch.log10(RANGE**2 / mean)


def ssim(
    one: Float[Tensor, "b 3 f h w"],
    other: Float[Tensor, "..."],
    *,
    window: int = 11,
    sigma: float = 1.5,
) -> Float[Tensor, "b"]:
    """Structural similarity of the luminance, mean over frames and places (Wang et al. 2004), in [-1, 1].

    Raises:
        Refusal: pictures smaller than the window.
    """
    _check(one, other)
    if min(one.shape[-2:]) < window:
        raise Refusal(
            f"{one.shape[-1]}x{one.shape[-2]} pictures are smaller than SSIM's window of {window} pixels"
        )
    x, y = _luma(one), _luma(other)
    kernel = _gaussian(window, sigma).to(x)
    mean_x, mean_y = _blur(x, kernel), _blur(y, kernel)
    variance_x, variance_y = _blur(x * x, kernel) - mean_x**2, _blur(y * y, kernel) - mean_y**2
    covariance = _blur(x * y, kernel) - mean_x * mean_y
    small, large = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    brightness = (2 * mean_x * mean_y + small) / (mean_x**2 + mean_y**2 + small)
    structure = (2 * covariance + large) / (variance_x + variance_y + large)
    return rearrange(brightness * structure, "(b f) 1 h w -> b (f h w)", b=len(one)).mean(1)


def difference_correlation(
    one: Float[Tensor, "b 3 f h w"], other: Float[Tensor, "..."]
) -> Float[Tensor, "b"]:
    """Pearson correlation of the frame differences of each pair; NaN where one of them never moves."""
    x, y = (_differences(clip).flatten(1) for clip in _moving(one, other))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    size = (x.square().sum(1) * y.square().sum(1)).sqrt()
    return torch.where(size > TINY, (x * y).sum(1) / size, torch.nan)


def difference_energy(clip: Float[Tensor, "b 3 f h w"], truth: Float[Tensor, "..."]) -> Float[Tensor, "b"]:
    """Energy of the clip's frame differences over that of the truth's; NaN where the truth never moves."""
    made, real = (_differences(each).square().flatten(1).sum(1) for each in _moving(clip, truth))
    return torch.where(real > TINY, made / real, torch.nan)


def flicker(clip: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b"]:
    """Mean size of the second difference in time, |x[t+1] - 2 x[t] + x[t-1]|; 0 for a still clip and for a
    steady fade.

    Raises:
        Refusal: fewer than three frames.
    """
    if clip.shape[2] < 3:
        raise Refusal(f"{clip.shape[2]} frames; flicker needs at least 3")
    return _differences(_differences(_wide(clip))).abs().flatten(1).mean(1)


def flicker_at_rest(
    clip: Float[Tensor, "b 3 f h w"], truth: Float[Tensor, "..."], *, rest: float = 0.01
) -> Float[Tensor, "b"]:
    """Mean size of the clip's frame differences where the truth stands still: all of it was invented.

    rest: by how much no channel of a pixel of the truth may change to count as still. NaN where none is.

    Raises:
        Refusal: fewer than two frames, or clips that are not alike.
    """
    made, real = (_differences(each).abs() for each in _moving(clip, truth))
    still = (real <= rest).all(dim=1, keepdim=True).expand_as(made).to(made)
    return (made * still).flatten(1).sum(1) / still.flatten(1).sum(1)


def _check(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape or one.ndim != 5:
        shapes = f"{tuple(one.shape)} and {tuple(other.shape)}"
        raise Refusal(f"clips of shapes {shapes}; both must be (b, 3, f, h, w) and alike")


def _moving(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    _check(one, other)
    if one.shape[2] < 2:
        raise Refusal("a single frame has no frame differences; give clips of at least 2 frames")
    return _wide(one), _wide(other)


def _wide(x: Tensor) -> Tensor:
    """At least float32: bf16 squares lose what is measured."""
    return x if x.dtype == torch.float64 else x.float()


def _differences(x: Tensor) -> Tensor:
    return x[:, :, 1:] - x[:, :, :-1]


def _luma(x: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, device=x.device, dtype=_wide(x).dtype)
    return rearrange(torch.einsum("bcfhw,c->bfhw", _wide(x), weights), "b f h w -> (b f) 1 h w")


def _gaussian(size: int, sigma: float) -> Tensor:
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    bell = torch.exp(-(place**2) / (2 * sigma**2))
    return bell / bell.sum()


def _blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Valid Gaussian blur of "n 1 h w", columns then rows."""
    return F.conv2d(F.conv2d(x, kernel[None, None, :, None]), kernel[None, None, None, :])
