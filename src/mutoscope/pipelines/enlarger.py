"""A network that sees a small film beside the noise and makes a larger one: a stage of a cascade.

    chunk of the small film, a little noisy -> network -> the chunk, `scale` times as wide and high

Chunk after chunk of frames, each fading into the next, so a film may be as long as one likes. A network
without a sense of place takes any size. Cascades: Ho et al. 2021, 2106.15282; video-aware upsampling: Align
Your Latents, 2304.08818, section 3.3. Pictures that are known at full size (`Kept`) stand where they belong
while their neighbours are made.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from mutoscope.diffusion.known import Known, shrunk
from mutoscope.diffusion.noise import stream
from mutoscope.pipelines.rung import Rung, Telling, framewise_noise
from mutoscope.video import Video

__all__ = ["Enlarger", "Kept", "faded", "padded", "pieces"]

Pixels = Float[Tensor, "1 3 f h w"]
Larger = Float[Tensor, "1 3 f2 h2 w2"]


@dataclass(frozen=True, eq=False)
class Kept:
    """Pictures that stay what they are: number n of them is frame `every * n` of the film that is made."""

    pictures: UInt8[Tensor, "n h w 3"]
    every: int = 1

    def places(self, first: int, count: int) -> range:
        """Which of frames `first` and on are known, counted from `first`."""
        end = (len(self.pictures) - 1) * self.every + 1
        return range(-first % self.every, min(count, end - first), self.every)

    def pixels(self, first: int, count: int) -> Float[Tensor, "1 3 k h w"]:
        """Those of frames `first` and on, in [-1, 1]."""
        return Video(self.within(first, count), 1.0).tensor()[None]

    def placed(self, pictures: UInt8[Tensor, "f h w 3"], first: int) -> UInt8[Tensor, "f h w 3"]:
        """Frames `first` and on, with the known ones as they are."""
        pictures = pictures.clone()
        places = self.places(first, len(pictures))
        pictures[list(places)] = self.within(first, len(pictures))
        return pictures

    def within(self, first: int, count: int) -> UInt8[Tensor, "k h w 3"]:
        """Those of frames `first` and on."""
        return self.pictures[[(first + place) // self.every for place in self.places(first, count)]]


@dataclass(frozen=True, eq=False)
class Enlarger:
    """The network, and how it is used.

    scale: how much larger it makes a film. noise: how noisy the small film is shown, as a time in [0, 1].
    chunk: frames made at a time; neighbours share `overlap` of them. steps: of sampling, if not told.
    """

    rung: Rung
    scale: int
    noise: float
    chunk: int
    overlap: int
    steps: int

    def film(self, pixels: Pixels, telling: Telling) -> Iterator[Larger]:
        """A film of any size, larger: a few frames at a time, which joined are as many as there were."""
        h, w = pixels.shape[3:]
        pixels = padded(pixels, self.rung.unet.config.factor)
        large = (
            self(piece, telling, first=number * (self.chunk - self.overlap))
            for number, piece in enumerate(pieces(pixels, self.chunk, self.overlap))
        )
        return (made[..., : h * self.scale, : w * self.scale] for made in faded(large, self.overlap))

    def __call__(self, small: Pixels, telling: Telling, *, first: int, kept: Kept | None = None) -> Larger:
        """Frames `first` and on, larger. Their noise is that of their numbers, so that what two chunks say
        of a frame they share can be faded."""
        small, count, device = small.to(self.rung.device), small.shape[2], self.rung.device
        height, width = (side * self.scale for side in small.shape[3:])
        held = None
        if kept is not None and (places := kept.places(first, count)):
            large = filled(kept.pixels(first, count), height, width).to(small)
            small, held = small.clone(), (places, large)
            small[:, :, list(places)] = shrunk(large, self.scale)
        seed = stream(telling.request.seed, "larger")
        white, own = (
            framewise_noise(s, (3, height, width), first=first, count=count, device=device)
            for s in (seed, stream(seed, "known"))
        )
        known = Known.small(small, height=height, width=width)
        level = torch.full((1,), self.noise, device=device)
        known = known.noised(level, own, schedule=self.rung.schedule)
        seeds = [stream(seed, f"chunk {first}")]
        *_, last = self.rung.films(white, known, telling, seeds=seeds, held=held)
        return last.clean.clamp(-1, 1)


def pieces(film: Tensor, chunk: int, overlap: int) -> Iterator[Tensor]:
    """Chunks of frames of "1 c f h w", of which neighbours share some."""
    for first in range(0, max(1, film.shape[2] - overlap), chunk - overlap):
        yield film[:, :, first : first + chunk]


def faded(chunks: Iterator[Float[Tensor, "1 c f h w"]], overlap: int) -> Iterator[Float[Tensor, "1 c f h w"]]:
    """Chunks that share `overlap` frames with the next, joined: shared frames fade from one to the other."""
    tail = None
    for chunk in chunks:
        if tail is not None and overlap:
            share = rearrange(torch.arange(1, overlap + 1).to(chunk) / (overlap + 1), "f -> f 1 1")
            chunk = torch.cat([torch.lerp(tail, chunk[:, :, :overlap], share), chunk[:, :, overlap:]], dim=2)
        keep = chunk.shape[2] - overlap
        if keep > 0:
            yield chunk[:, :, :keep]
        tail = chunk[:, :, max(keep, 0) :]
    if tail is not None and tail.shape[2]:
        yield tail


def padded(film: Pixels, step: int) -> Float[Tensor, "1 3 f h2 w2"]:
    """Height and width to whole steps."""
    return filled(film, *(-(-side // step) * step for side in film.shape[3:]))


def filled(film: Pixels, height: int, width: int) -> Float[Tensor, "1 3 f height width"]:
    """Height and width to so many pixels, by repeating the last row and column."""
    h, w = film.shape[3:]
    return functional.pad(film, (0, width - w, 0, height - h, 0, 0), mode="replicate")
