"""What a denoiser is shown: clips of a source as they are, or windows of clips that were encoded once.

Either is a function of the step and of how many are wanted, as sources are, so that nothing has to be
remembered to go on where a run stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.data.latents import LatentCache
from mutoscope.data.loader import Source
from mutoscope.video import Refusal

__all__ = ["Clips", "Examples", "clips_of", "windows_of"]


@dataclass(frozen=True)
class Examples:
    """Films "n c f h w", pixels in [-1, 1] or normalised latents, what is said of each, and where the subject
    is, in [0, 1] (None: nobody knows)."""

    clean: Float[Tensor, "n c f h w"]
    captions: list[str]
    figure: Float[Tensor, "n f h w"] | None = None


Clips = Callable[[int, int], Examples]
"""Examples of a step, so many."""


def clips_of(source: Source) -> Clips:
    """The clips of a source, as pixels."""

    def examples(step: int, count: int) -> Examples:
        batch = source.batch(step, count)
        return Examples(batch.video, batch.captions, batch.figure)

    return examples


def windows_of(cache: LatentCache, *, frames: int, every: int = 1, seed: int = 0) -> Clips:
    """Windows of random clips at random places: `frames` frames, every so many of the clip's.

    One frame is a picture; `every` above 1 makes the key frames of a slower film. Raises Refusal if the clips
    are shorter.
    """
    length, reach = cache.clean.shape[2], (frames - 1) * every + 1
    if not 1 <= reach <= length:
        raise Refusal(f"{frames} frames, every {every}: that needs clips of {reach}, and these have {length}")

    def examples(step: int, count: int) -> Examples:
        random = np.random.default_rng([seed, step, frames])
        chosen = random.integers(len(cache), size=count)
        starts = random.integers(length - reach + 1, size=count)
        places = [
            (clip, slice(start, start + reach, every))
            for clip, start in zip(chosen.tolist(), starts.tolist(), strict=True)
        ]
        captions = [cache.caption(clip, random) for clip, _ in places]
        clean = torch.stack([cache.clean[clip, :, window] for clip, window in places])
        figure = torch.stack([cache.figure[clip, window] for clip, window in places])
        return Examples(clean.float(), captions, figure.float())

    return examples
