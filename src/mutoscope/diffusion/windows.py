"""Long films by a denoiser of short ones: it looks at windows of frames, and the guesses are fused.

Large films too: a window may be of rows or of columns, and one in the other is a tile.

Windows overlap, and each is weighted by a triangle 1, 2, .. 2, 1 (FreeNoise, Qiu et al. 2023, 2310.15169, for
its attention; MultiDiffusion, 2302.08113, for whole guesses, of which the weighted mean is the least-squares
answer). With the noise of `prior.Reuse` the far ends of a film are also alike.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.schedule import Schedule, precise
from mutoscope.video import Refusal


def fusion(frames: int, *, window: int, stride: int) -> Float[Tensor, "windows f"]:
    """How much of every frame is each window's guess, float64; a frame's shares sum to 1.

    Windows start every `stride` frames, the last where it ends with the film. A film of no more frames than
    the window is one window. Raises Refusal unless 1 <= stride <= window: every frame must be seen.
    """
    if not 1 <= stride <= window:
        raise Refusal(f"window {window}, stride {stride}: the stride must be from 1 to the window's frames")
    window = min(window, frames)
    starts = [*range(0, frames - window, stride), frames - window]
    place = torch.arange(frames) - torch.tensor(starts)[:, None]
    weight = torch.minimum(place + 1, window - place).clamp(min=0).double()
    return weight / weight.sum(dim=0)


Axis = Literal["f", "h", "w"]


@dataclass(frozen=True, eq=False)
class Windowed:
    """denoiser: of films of up to `window` frames; this one is of films of any length, a call a window.

    axis: along which windows lie: frames, height or width. A film of one window comes out bit for bit as from
    the denoiser alone, and so do guesses that agree.
    """

    denoiser: Denoiser
    window: int
    stride: int
    axis: Axis = "f"

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(
        self, noisy: Float[Tensor, "b c f h w"], t: Float[Tensor, "b f"], condition: Any
    ) -> Float[Tensor, "b c f h w"]:
        axis = "bcfhw".index(self.axis)
        shares = fusion(noisy.shape[axis], window=self.window, stride=self.stride)
        fused = torch.zeros_like(precise(noisy))
        # A running mean, which stays bit for bit where what comes is the same.
        for share, own in zip((shares / shares.cumsum(dim=0)).nan_to_num(), shares > 0, strict=True):
            first, many = int(own.nonzero()[0]), int(own.sum())
            seen = noisy.narrow(axis, first, many)
            guess = self.denoiser(seen, t[:, first : first + many] if self.axis == "f" else t, condition)
            weight = share[first : first + many].reshape([-1 if k == axis else 1 for k in range(5)])
            part = fused.narrow(axis, first, many)
            part += weight.to(fused, non_blocking=True) * (guess - part)
        return fused


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, plans

    draw(plans.windows)
