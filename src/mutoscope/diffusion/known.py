"""What a network is told beside the noisy film, and the one place where that is put together.

    network(noisy | value * mask | mask, clock(t), text, images, labels = clock(of the value's noise))

(noisy and value divided by their deviations, if the process says that of clean films.)

Some of a film may be known: frames at their place (prediction, interpolation, filling in) or all of it, but
small (upsampling). Either is a `Known`, and enters as further channels; known frames also stand in the noisy
film itself, at their own time (LVDM, 2211.13221). What is known may itself be noisy, which keeps a network
from trusting its own mistakes (LVDM's conditional latent perturbation; noise conditioning augmentation,
2106.15282); how noisy it is goes into the labels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mutoscope.diffusion.process import Process
from mutoscope.diffusion.schedule import Schedule, precise, spread

__all__ = ["Condition", "Conditioned", "Known", "enlarged", "shrunk"]

Film = Float[Tensor, "b c f h w"]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of films.

    value: "b c f h w", of any content where nothing is known. mask: "b 1 f h w", 1 where the value is known,
    0 elsewhere. t: "b", how noisy the value is, as a time in [0, 1] of the film's own schedule; 0 is clean.
    stands: the value is what the film itself is there, and not a version of it.
    """

    value: Film
    mask: Float[Tensor, "b 1 f h w"]
    t: Float[Tensor, " b"]
    stands: bool = True

    @classmethod
    def nothing(cls, like: Film) -> "Known":
        """Nothing is known of films of this shape."""
        return cls(torch.zeros_like(like), torch.zeros_like(like[:, :1]), like.new_zeros(len(like)))

    @classmethod
    def frames(cls, film: Film, which: Bool[Tensor, "b f"]) -> "Known":
        """These frames of the film are known, at their place."""
        height, width = film.shape[-2:]
        mask = repeat(which.to(film), "b f -> b 1 f h w", h=height, w=width)
        return cls(film, mask, film.new_zeros(len(film)))

    @classmethod
    def small(cls, film: Film, *, height: int, width: int) -> "Known":
        """A smaller version of the films is known: enlarged, it stands beside every frame."""
        value = enlarged(film, height=height, width=width)
        return cls(value, torch.ones_like(value[:, :1]), film.new_zeros(len(film)), stands=False)

    @property
    def which(self) -> Bool[Tensor, "b f"]:
        """The frames that are known."""
        return self.mask[:, 0, :, 0, 0] > 0

    def noised(self, t: Float[Tensor, " b"], noise: Film, *, schedule: Schedule) -> "Known":
        """The same, as noisy as a film is at time t."""
        level = schedule.level(repeat(precise(t), "b -> b f", f=noise.shape[2]))
        value = level.mix(precise(self.value), precise(noise))
        return replace(self, value=value.to(self.value), t=t.to(self.t))

    def of(self, samples: Bool[Tensor, " b"]) -> "Known":
        """The same of these samples; nothing is known of the others."""
        return replace(self, mask=self.mask * rearrange(samples.to(self.mask), "b -> b 1 1 1 1"))

    def window(self, top: int, left: int, *, height: int, width: int) -> "Known":
        """The part in a rectangle of every frame, counted in the film's own pixels."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        return replace(self, value=self.value[..., rows, columns], mask=self.mask[..., rows, columns])

    def beside(self, noisy: Film) -> Float[Tensor, "b d f h w"]:
        """The noisy film, known frames in place, with what is known as further channels, d = 2 c + 1."""
        mask, value = self.mask.to(noisy), self.value.to(noisy)
        film = torch.where(mask > 0, value, noisy) if self.stands else noisy
        return torch.cat([film, value * mask, mask], dim=1)

    def times(self, t: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        """Of every frame of `beside`: of known ones that of their value."""
        return torch.where(self.which, self.t.to(t).unsqueeze(1), t) if self.stands else t


def enlarged(film: Film, *, height: int, width: int) -> Float[Tensor, "b c f height width"]:
    """Bilinear, frame by frame."""
    frames = rearrange(film, "b c f h w -> (b f) c h w")
    larger = functional.interpolate(frames, (height, width), mode="bilinear", align_corners=False)
    return rearrange(larger, "(b f) c h w -> b c f h w", f=film.shape[2])


def shrunk(film: Film, factor: int) -> Float[Tensor, "b c f height width"]:
    """The mean of every factor x factor square; sides that are no multiple lose their last pixels."""
    return functional.avg_pool3d(film, (1, factor, factor))


@dataclass(frozen=True, eq=False)
class Condition:
    """All that a network is told beside a noisy film and the time.

    text: rows of text, whatever the network reads; None for a network without words. known: None for a
    network that has no channels for it. images: "b f", True for frames that are pictures of their own; None
    is none.
    """

    text: Any = None
    known: Known | None = None
    images: Bool[Tensor, "b f"] | None = None


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A network that takes channels, a clock and labels, as one that takes a film, a time and a `Condition`.

    This is the network of a `NetworkDenoiser`, and what training calls: both put the input together here.
    """

    network: Callable[..., Tensor]
    process: Process

    def __call__(self, noisy: Film, t: Float[Tensor, "b f"], condition: Condition) -> Film:
        known, labels = condition.known, None
        film = noisy
        if known is not None:
            film, t = known.beside(noisy), known.times(t)
            labels = self.process.clock(known.t).to(t).unsqueeze(1)
        if self.process.deviation is not None:
            film = self._normed(film, t, known, deviation=self.process.deviation)
        clock = self.process.clock(t)
        return self.network(film, clock, text=condition.text, images=condition.images, labels=labels)

    def _normed(
        self, film: Film, t: Float[Tensor, "b f"], known: Known | None, *, deviation: float
    ) -> Float[Tensor, "b d f h w"]:
        """The noisy film at variance 1, and so what is known of it; the mask as it is."""
        schedule = self.process.noising()

        def size(t: Float[Tensor, "b f"]) -> Float[Tensor, "b 1 f 1 1"]:
            return spread(schedule.level(t).size(deviation), film).to(film)

        if known is None:
            return film / size(t)
        channels = known.value.shape[1]
        noisy, value, mask = film.tensor_split((channels, 2 * channels), dim=1)
        shown = known.t.to(t).unsqueeze(1).expand_as(t)
        return torch.cat([noisy / size(t), value / size(shown), mask], dim=1)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, frames

    draw(frames.known)
