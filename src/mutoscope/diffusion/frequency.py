"""Slow and fast noise apart (FreeInit, Wu et al. 2023, 2312.07537).

FreeInit samples a film, puts the noise back (`schedule.level(t).mix(film, noise)`), keeps the low frequencies
of that beside the high ones of fresh noise, and samples again from there:

    L * noisy + sqrt(1 - L^2) * fresh,    L in [0, 1] for every frequency over time, height and width

The published code takes 1 - L, which loses variance (a gaussian L leaves 0.960), and centres L at half the
size, which is no frequency of an odd size. Here unit variance stays, and the film stays real.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.schedule import precise
from mutoscope.video import Refusal

Film = Float[Tensor, "b c f h w"]
Shape = Literal["butterworth", "gaussian", "ideal"]


@dataclass(frozen=True)
class LowPass:
    """Cuts off at these shares of the highest frequency (math.inf: nowhere). order: of the butterworth."""

    shape: Shape = "butterworth"
    space: float = 0.25
    time: float = 0.25
    order: int = 4

    def __post_init__(self):
        if self.shape not in get_args(Shape):
            raise Refusal(f"low-pass {self.shape!r}: it must be one of {', '.join(get_args(Shape))}")
        if not (self.space > 0 and self.time > 0 and self.order >= 1):
            raise Refusal(f"{self}: space and time must be above 0, and order at least 1")

    def __call__(self, size: torch.Size | tuple[int, int, int]) -> Float[Tensor, "f h w"]:
        """L for films of (f, h, w), float64, in the order of torch.fft.fftn."""
        # 2 fftfreq ends at 1, the highest frequency. Only squares are taken: L is the same for k and -k.
        time, height, width = ((2 * torch.fft.fftfreq(n, dtype=torch.float64)) ** 2 for n in size)
        square = time[:, None, None] / self.time**2 + (height[:, None] + width) / self.space**2
        match self.shape:
            case "butterworth":
                return 1 / (1 + square**self.order)
            case "gaussian":
                return torch.exp(-square / 2)
        return (square <= 1).double()


def reinitialised(noisy: Film, fresh: Film, *, keep: LowPass | None = None) -> Film:
    """The start of the next round: `noisy`, the last film with its noise back, as far as `keep` passes it.

    fresh: of the same prior, whose covariance stays if it is Independent or Mixed, but not if Progressive.
    """
    return blended(noisy, fresh, low=(keep or LowPass())(noisy.shape[-3:]))


def blended(noisy: Film, fresh: Film, *, low: Float[Tensor, "f h w"]) -> Film:
    """L * noisy + sqrt(1 - L^2) * fresh in the frequencies over f, h and w. low: L, the same for k and -k."""
    # A real film's spectrum is half a spectrum, so that nothing imaginary is left to throw away.
    low = low[..., : low.shape[-1] // 2 + 1].to(noisy.device)
    films = [_blended(*pair, low=low, size=noisy.shape[-3:]) for pair in zip(noisy, fresh, strict=True)]
    return torch.stack(films).to(precise(noisy).dtype)


def _blended(noisy: Tensor, fresh: Tensor, *, low: Tensor, size: torch.Size) -> Tensor:
    axes = (-3, -2, -1)
    slow, fast = (torch.fft.rfftn(film.double(), dim=axes) for film in (noisy, fresh))
    return torch.fft.irfftn(low * slow + (1 - low**2).sqrt() * fast, s=size, dim=axes)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, frames

    draw(frames.frequency)
