"""Every sample has its own seed.

The noise of a sample is a function of its seed alone: it is drawn by a generator of its own, on the host and
in float32, whatever the batch, the device or the dtype of the networks, and moved afterwards. So sample 7 of
a hundred is the same film as that seed alone. Further noise for the same sample comes from derived seeds:
`stream(seed, purpose)`; so do the frames of a film without end.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.video import Refusal

SEEDS = 2**63


def draw(
    seeds: Sequence[int],
    shape: tuple[int, int, int, int],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b c f h w"]:
    """Standard normal noise, one sample a seed. `shape` is (c, f, h, w); seeds are in [0, 2^63).

    Float32 values whatever the dtype asked for, so that a wider dtype holds the same film. Raises Refusal for
    other seeds, or for none.
    """
    if not seeds:
        raise Refusal("no seeds: give one for every sample")
    return torch.stack([_one(seed, shape) for seed in seeds]).to(device, dtype, non_blocking=True)


def _one(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(_checked(seed)), dtype=torch.float32)


def endless(seeds: Sequence[int], shape: tuple[int, int, int]) -> Iterator[Float[Tensor, "b c h w"]]:
    """Standard normal frames, one after another: frame n of a seed is the same however many are taken.

    `shape` is (c, h, w). Not the frames of `draw`, whose film is drawn as a whole.
    """
    c, h, w = shape
    for number in count():
        yield draw([stream(seed, f"frame {number}") for seed in seeds], (c, 1, h, w))[:, :, 0]


def stream(seed: int, purpose: str) -> int:
    """A seed for further noise of the same sample: unrelated to `seed`, and the same for the same purpose."""
    digest = hashlib.sha256(f"{_checked(seed)} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEEDS


def _checked(seed: int) -> int:
    if not 0 <= seed < SEEDS:
        raise Refusal(f"seed {seed}: it must be a whole number from 0 to {SEEDS - 1}")
    return seed


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw as show  # `draw` is the noise's own here
    from mutoscope.diffusion.drawings import frames

    show(frames.noise)
