"""A small film becomes a larger one.

Roughly, it is the small one enlarged (bicubic). The model sharpens that, and every guess is held to what is
known: shrunk again, it must be the small film.

    agree(pictures) = pictures + enlarge(small - shrink(pictures))

This is back-projection (Irani and Peleg 1991). Films larger than those of the model are seen in overlapping
tiles, whose guesses are fused at every step (`windows.Windowed`).
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.windows import Windowed
from mutoscope.pipelines.condition import Maker, Pictures
from mutoscope.pipelines.request import Request
from mutoscope.pipelines.tasks import Rework, Span, Task, levels
from mutoscope.video import Refusal, Video

__all__ = ["Upscale", "scaled", "times_larger"]

Levels = Float[Tensor, "f h w 3"]


class Upscale(Rework):
    """A film of `size` (width, height) out of a smaller one; (0, 0) is as large as the model makes it."""

    kind: Literal["upscale"] = "upscale"
    size: tuple[int, int] = (0, 0)
    strength: float = Field(default=0.2, gt=0, le=1)

    @classmethod
    def of(cls, task: Task, maker: Any, films: Sequence[Video]) -> Self:
        made = super().of(task, maker, films)
        if made.size == (0, 0):
            width, height = times_larger(made, films, 2)
            raise Refusal(f"this model makes any size; say which with --size, like {width}x{height}")
        return made

    @property
    def ending(self) -> str:
        return f"{self.size[0]}x{self.size[1]}"

    def shape(self, films: Sequence[Video]) -> dict[str, Any]:
        [film] = films
        if self.size == film.size or any(new < old for new, old in zip(self.size, film.size, strict=True)):
            have, want = (f"{width}x{height}" for width, height in (film.size, self.size))
            raise Refusal(f"size is {want}, and the film is {have}; a larger one can be made")
        return {"frames": len(film), "size": self.size, "fps": film.fps}

    def said(self, names: Sequence[str]) -> str:
        return f"{names[0]} at {self.size[0]}x{self.size[1]}"

    def rough(self, film: Video, span: Span, request: Request) -> Pictures:
        return levels(scaled(_part(film, span).float(), self.size))

    def agree(self, pictures: Levels, film: Video, *, span: Span) -> Pictures:
        small = _part(film, span).float()
        return levels(pictures + scaled(small - scaled(pictures, film.size), self.size))

    def denoiser(self, maker: Maker, request: Request) -> Denoiser:
        """The model's own, or in tiles of its own size where the film is larger."""
        tile = request.model_copy(update={"size": maker.facts.size, "frames": maker.facts.frames})
        *_, height, width = maker.latent_shape(tile)
        rows = Windowed(maker.denoiser(request), width, max(width // 2, 1), axis="w")
        return Windowed(rows, height, max(height // 2, 1), axis="h")


def scaled(pictures: Levels, size: tuple[int, int]) -> Float[Tensor, "f height width 3"]:
    """Pictures at another size (width, height), bicubic, anti-aliased where they shrink; not clamped."""
    channels = rearrange(pictures, "f h w c -> f c h w")
    made = functional.interpolate(channels, (size[1], size[0]), mode="bicubic", antialias=True)
    return rearrange(made, "f c h w -> f h w c")


def times_larger(task: Any, films: Sequence[Video], factor: int) -> tuple[int, int]:
    """The size of the film, so many times as wide and high. Raises Refusal if another was asked for."""
    width, height = films[0].size
    size = (width * factor, height * factor)
    if task.size not in ((0, 0), size):
        asked, own, able = (f"{w}x{h}" for w, h in (task.size, (width, height), size))
        raise Refusal(
            f"size is {asked}, and the film is {own}; this model makes it {factor} times as wide and high: "
            f"{able}, or leave it out"
        )
    return size


def _part(film: Video, span: Span) -> Pictures:
    return film.frames[span.first : span.last + 1]
