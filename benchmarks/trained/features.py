"""The Fréchet distance on features of a fixed random network: no trained eyes, nothing to download.

Three convolutions over frames and pixels whose weights are drawn from a seed; the means and the deviations of
each channel are the features. A distance is the mean over several such networks, and is told beside the
floor: true films against other true films of the same number.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from mutoscope.evaluation.frechet import frechet_distance

__all__ = ["SEEDS", "RandomFeatures", "distance"]

SEEDS = (0, 1, 2)
"""Of the networks of every distance in the tables."""


class RandomFeatures(nn.Module):
    """Films of any length to 40 numbers: 8 channels after the first and 12 after the second convolution, a
    mean and a deviation of each. Films of one frame see it repeated."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.kernels = nn.ParameterList(
            nn.Parameter(
                torch.randn(out, into, 3, 3, 3, generator=generator) / (27 * into) ** 0.5, requires_grad=False
            )
            for into, out in ((3, 8), (8, 12))
        )

    @torch.no_grad()
    def forward(self, video: Float[Tensor, "b 3 f h w"]) -> Float[Tensor, "b 40"]:
        found, x = [], video.float()
        for kernel in self.kernels:
            x = F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate")
            x = F.leaky_relu(F.conv3d(x, kernel, stride=(1, 2, 2)), 0.2) * 1.4
            found += [reduce(x, "b c f h w -> b c", "mean"), x.flatten(2).std(dim=2)]
        return torch.cat(found, dim=1)


def distance(
    made: Float[Tensor, "b 3 f h w"], true: Float[Tensor, "n 3 f h w"], *, seeds: Sequence[int] = SEEDS
) -> float:
    """Squared Fréchet distance, mean over the random networks."""
    networks = [RandomFeatures(seed).to(made.device) for seed in seeds]
    found = [frechet_distance(network(made), network(true)) for network in networks]
    return sum(found) / len(found)
