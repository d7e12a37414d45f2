"""The value every room hands on: frames, and how fast they are shown.

A `Video` holds 8-bit pictures, `frames` of shape `f h w 3`, with a frame rate and notes (prompt, seed,
settings: plain words that travel inside every file it is saved to). It behaves like a list of pictures: it
has a length, an index gives one picture, a slice gives a shorter `Video`. Networks see floats in [-1, 1] with
the channel first, `3 f h w`:

    pixel = round((x + 1) * 127.5)        x = pixel / 127.5 - 1

and the way pixel -> x -> pixel loses nothing. A picture is a video of one frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

__all__ = ["Refusal", "Video", "resize"]


class Refusal(ValueError):
    """Something the user asked for that cannot be done: one clear line with the value, what is allowed and
    the way out.

    The command line prints it without a traceback and leaves with exit code 2.
    """


@dataclass(frozen=True, eq=False, repr=False)
class Video:
    """Frames and their rate.

    Args:
        frames: 8-bit RGB pictures, `f h w 3`, at least one, 0 black to 255 full.
        fps: frames per second, above 0.
        notes: words that travel with the video (`prompt`, `seed`, ...), text to text; other values become
            text.

    Raises:
        Refusal: frames of another shape or type, or a rate that is no positive number.
    """

    frames: UInt8[Tensor, "f h w 3"]
    fps: float
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        if not (isinstance(self.fps, int | float) and math.isfinite(self.fps) and self.fps > 0):
            raise Refusal(f"fps is {self.fps!r}; a video needs a number of frames per second above 0")
        # A copy, so that a dictionary changed later by its owner does not change the video.
        object.__setattr__(self, "notes", {str(name): str(text) for name, text in self.notes.items()})
        object.__setattr__(self, "fps", float(self.fps))

    @classmethod
    def from_tensor(
        cls, pixels: Float[Tensor, "3 f h w"], *, fps: float, notes: Mapping[str, str] | None = None
    ) -> Video:
        """The video of a float tensor `3 f h w` in [-1, 1]; values outside are clamped, NaN is refused."""
        if pixels.ndim != 4 or pixels.shape[0] != 3 or not pixels.is_floating_point():
            raise Refusal(f"{_described(pixels)} is no float tensor of shape (3, frames, height, width)")
        if bool(torch.isnan(pixels).any()):
            raise Refusal("the tensor holds NaN, which is no colour; the network that made it has diverged")
        levels = ((pixels.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
        return cls(rearrange(levels, "c f h w -> f h w c").contiguous(), fps, dict(notes or {}))

    def tensor(self) -> Float[Tensor, "3 f h w"]:
        """The frames as networks see them: float32, `3 f h w`, in [-1, 1]."""
        return rearrange(self.frames, "f h w c -> c f h w").contiguous().float() / 127.5 - 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def seconds(self) -> float:
        """How long it plays: frames divided by rate."""
        return len(self) / self.fps

    def __len__(self) -> int:
        return self.frames.shape[0]

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Video: ...

    def __getitem__(self, index: int | slice) -> Tensor | Video:
        """One picture `h w 3` (int), or a shorter video at the same rate (slice; steps may be negative)."""
        if isinstance(index, slice):
            chosen = range(len(self))[index]
            if not chosen:
                raise Refusal(
                    f"the slice {index.start}:{index.stop}:{index.step} of {len(self)} frames is empty"
                )
            return replace(self, frames=self.frames[torch.tensor(chosen)])
        if not -len(self) <= index < len(self):  # no Refusal: IndexError is what ends a loop
            raise IndexError(f"frame {index} of a video of {len(self)} frames")
        return self.frames[index]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.frames)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Video):
            return NotImplemented
        return self.fps == other.fps and self.notes == other.notes and torch.equal(self.frames, other.frames)

    __hash__ = None  # type: ignore[assignment]  # equal by value and holding a tensor: no key for a dictionary

    def __repr__(self) -> str:
        frames = "1 frame" if len(self) == 1 else f"{len(self)} frames"
        width, height = self.size
        return f"Video({frames}, {width}x{height}, {self.fps:.4g} fps, {self.seconds:.1f} s)"

    def resized(self, width: int, height: int) -> Video:
        """The same video at another size in pixels (bicubic, anti-aliased; the aspect ratio is not kept)."""
        if width < 1 or height < 1:
            raise Refusal(f"{width}x{height} is no size in pixels; width and height start at 1")
        if (width, height) == self.size:
            return self
        return replace(self, frames=resize(self.frames, width=width, height=height))

    def save(self, path: str | Path) -> Path:
        """Writes the video, notes included, in the format of the path's ending, and gives the path back.

        `.mp4`, `.webp` and `.gif` play; `.png` is a contact sheet; a path without an ending is a folder of
        PNG frames.

        Raises:
            Refusal: an unknown ending, or a place that cannot be written.
        """
        # The one import that goes up a floor: a value should be able to save itself, and files are heavy
        # (PyAV, Pillow).
        from mutoscope.media import write_video

        return write_video(self, path)


def resize(frames: UInt8[Tensor, "f h w 3"], *, width: int, height: int) -> UInt8[Tensor, "f height width 3"]:
    """8-bit frames at another size: bicubic, anti-aliased, so that shrinking leaves no moire; one by one."""
    if frames.shape[1:3] == (height, width):
        return frames
    resized = frames.new_empty(frames.shape[0], height, width, 3)
    for index, picture in enumerate(frames):  # one at a time: a float copy of a long video would be large
        channels_first = rearrange(picture, "h w c -> 1 c h w").float()
        smooth = functional.interpolate(channels_first, (height, width), mode="bicubic", antialias=True)
        resized[index] = rearrange(smooth.clamp(0, 255).round().to(torch.uint8), "1 c h w -> h w c")
    return resized


def _check_frames(frames: object) -> None:
    if not isinstance(frames, Tensor) or frames.dtype != torch.uint8:
        raise Refusal(
            f"{_described(frames)} is no picture data; a video holds uint8 (Video.from_tensor takes floats)"
        )
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise Refusal(
            f"{_described(frames)} is no video, whose shape is (frames, height, width, 3), each at least 1"
        )


def _described(thing: object) -> str:
    if isinstance(thing, Tensor):
        return f"a {str(thing.dtype).removeprefix('torch.')} tensor of shape {tuple(thing.shape)}"
    return f"a {type(thing).__name__}"
