"""What a network is told beside the noisy film, and the one place where that is put together.

    network(noisy | value * mask | mask, clock(t), text, images, labels = clock(of the value's noise))

Where the process says that what is known gives a first guess of the film (`Known.guess`), the network sees
and says what the guess lacks. Where the noisy film itself gives one (`Linear`), the network sees what is new
in each frame and the guess beside the noisy film, and says what the guess lacks.

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

from mutoscope.diffusion.linear import Linear
from mutoscope.diffusion.prediction import convert
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.schedule import Schedule, precise, spread

__all__ = ["Condition", "Conditioned", "Known", "channels_of", "enlarged", "shrunk"]

Film = Float[Tensor, "b c f h w"]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of films.

    value: "b c f h w", of any content where nothing is known. mask: "b 1 f h w", 1 where the value is known,
    0 elsewhere. t: "b", how noisy the value is, as a time in [0, 1] of the film's own schedule; 0 is clean.
    stands: the value is what the film itself is there, and not a version of it. clear: the value before it
    was made noisy; None: it was not.
    """

    value: Film
    mask: Float[Tensor, "b 1 f h w"]
    t: Float[Tensor, " b"]
    stands: bool = True
    clear: Film | None = None

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
        return replace(self, value=value.to(self.value), t=t.to(self.t), clear=self._clear)

    def of(self, samples: Bool[Tensor, " b"]) -> "Known":
        """The same of these samples; nothing is known of the others."""
        return replace(self, mask=self.mask * rearrange(samples.to(self.mask), "b -> b 1 1 1 1"))

    def window(self, top: int, left: int, *, height: int, width: int) -> "Known":
        """The part in a rectangle of every frame, counted in the film's own pixels."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        value, mask = self.value[..., rows, columns], self.mask[..., rows, columns]
        clear = None if self.clear is None else self.clear[..., rows, columns]
        return replace(self, value=value, mask=mask, clear=clear)

    def placed(self, noisy: Film) -> Film:
        """The noisy film, known frames in their places."""
        return torch.where(self.mask.to(noisy) > 0, self.value.to(noisy), noisy) if self.stands else noisy

    def told(self, noisy: Film) -> list[Tensor]:
        """What is known, and where, as further channels of the noisy film."""
        mask = self.mask.to(noisy)
        return [self.value.to(noisy) * mask, mask]

    def guess(self) -> Film:
        """The film as far as can be told without a network: its small version enlarged, or known frames that
        fade into each other; zeros where nothing is known."""
        return _between(self._clear, self.which) if self.stands else self._clear * self.mask

    @property
    def _clear(self) -> Film:
        return self.value if self.clear is None else self.clear

    def times(self, t: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        """Of every frame of `placed`: of known ones that of their value."""
        return torch.where(self.which, self.t.to(t).unsqueeze(1), t) if self.stands else t


def enlarged(film: Film, *, height: int, width: int) -> Float[Tensor, "b c f height width"]:
    """Bilinear, frame by frame."""
    frames = rearrange(film, "b c f h w -> (b f) c h w")
    larger = functional.interpolate(frames, (height, width), mode="bilinear", align_corners=False)
    return rearrange(larger, "(b f) c h w -> b c f h w", f=film.shape[2])


def shrunk(film: Film, factor: int) -> Float[Tensor, "b c f height width"]:
    """The mean of every factor x factor square; sides that are no multiple lose their last pixels."""
    return functional.avg_pool3d(film, (1, factor, factor))


def _between(film: Film, which: Bool[Tensor, "b f"]) -> Film:
    """These frames of a film, and others faded between the nearest on both sides, or equal to the nearest
    where there are some on one side alone; zeros if there are none."""
    count = which.shape[1]
    place = torch.arange(count, device=which.device).expand_as(which)
    before = torch.where(which, place, -1).cummax(dim=1).values
    after = torch.where(which, place, count).flip(1).cummin(dim=1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after == count, before, after)
    share = (place - before) / (after - before).clamp(min=1)
    left, right = (
        torch.take_along_dim(precise(film), rearrange(end.clamp(0, count - 1), "b f -> b 1 f 1 1"), dim=2)
        for end in (before, after)
    )
    some = which.any(dim=1, keepdim=True).expand_as(which)
    return (torch.lerp(left, right, spread(share, film)) * spread(some.to(share), film)).to(film)


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


def channels_of(own: int, *, guessed: bool, known: bool) -> int:
    """Of what `Conditioned` shows a network of films of so many channels: with a linear guess, with what is
    known."""
    return own * (1 + 2 * guessed) + (own + 1) * known


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A network that takes channels, a clock and labels, as one that takes a film, a time and a `Condition`.

    This is the network of a `NetworkDenoiser`, and what training calls: both put the input together here.
    """

    network: Callable[..., Tensor]
    process: Process
    linear: Linear | None = None

    def __call__(self, noisy: Film, t: Float[Tensor, "b f"], condition: Condition) -> Film:
        known, process = condition.known, self.process
        film, beside, labels, guess = noisy, [], None, None
        if known is not None:
            film, t = known.placed(noisy), known.times(t)
            beside = known.told(noisy)
            labels = process.clock(known.t).to(t).unsqueeze(1)
            guess = known.guess() if process.guesses else None
        shown, level, first = [process.shown(film, t, guess=guess)], process.noising().level(t), None
        if self.linear is not None:
            first = self.linear.guess(film, level, images=condition.images)
            shown += [first.new.to(film), first.film.to(film)]
        said = self.network(
            torch.cat([*shown, *beside], dim=1), process.clock(t),
            text=condition.text, images=condition.images, labels=labels,
        )  # fmt: skip
        if self.linear is not None and first is not None:
            clean = self.linear.completed(first, said)
            return convert(clean, precise(film), source="clean", to=process.prediction, level=level)
        return said if guess is None else precise(said) + process.perfect(guess, t)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, frames

    draw(frames.known)
