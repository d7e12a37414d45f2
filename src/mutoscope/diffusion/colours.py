"""Films of pixels in opponent colours, each of variance 1: brightness, red against blue, green against both.

In films of almost anything the three are uncorrelated, and brightness has most of the variance (Ruderman et
al. 1998, Statistics of cone responses to natural images); the deviations below are the made world's, in
[-1, 1]. A diffusion model of RGB has the same noise and the same error in all three: what a coat adds to the
error is little beside a roof that is a little too dark, and its colour is decided when almost all noise is
gone. Here the three are told apart at the same times, and count alike, as latents of variance 1 do.

    opponent(rgb) = (basis rgb) / deviations,        rgb(opponent) = basisᵀ (deviations opponent)
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["opponent", "rgb"]

BASIS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
"""Rows are orthogonal."""
DEVIATIONS = (0.7, 0.2, 0.12)

Film = Float[Tensor, "*b 3 f h w"]


def opponent(film: Film) -> Film:
    """Opponent colours of RGB in [-1, 1]."""
    basis, deviations = _basis(film)
    return torch.einsum("k c, ... c f h w -> ... k f h w", basis / deviations, film).contiguous()


def rgb(film: Film) -> Film:
    """The way back; nothing is cut off at -1 and 1."""
    basis, deviations = _basis(film)
    return torch.einsum("k c, ... k f h w -> ... c f h w", basis * deviations, film).contiguous()


def _basis(like: Tensor) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3 1"]]:
    rows = torch.tensor(BASIS, dtype=torch.float64)
    basis = rows / rows.norm(dim=1, keepdim=True)
    return basis.to(like), torch.tensor(DEVIATIONS, dtype=torch.float64).unsqueeze(1).to(like)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, levels

    draw(levels.colours)
