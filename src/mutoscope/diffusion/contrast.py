"""Guidance between two models, or two views of one film.

A better guess minus a worse one points to what the better one knows: a trained model against a weaker one, a
video model against itself on single frames, a film with its past against the film without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.guidance import Band, Film, Guided, Scale, Times, check_band, scales
from mutoscope.diffusion.schedule import Schedule, precise, spread
from mutoscope.video import Refusal


@dataclass(frozen=True, eq=False)
class Autoguidance(Guided):
    """weak + scale (denoiser - weak), both under the same condition (Karras et al. 2024, 2406.02507).

    weak: a smaller or less trained model with the other's faults, only more so, on the same schedule.
    scale, band: as in ClassifierFree.
    """

    weak: Denoiser
    scale: Scale
    band: Band = (0.0, 1.0)

    def __post_init__(self):
        check_band(self.band)
        if self.schedule != self.weak.schedule:
            raise Refusal(f"guidance of {self.schedule} by {self.weak.schedule}: schedules must agree")

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        main = self.denoiser(noisy, t, condition)
        scale = scales(self.scale, t=t, band=self.band)
        if bool((scale == 1).all()):
            return main
        return torch.lerp(self.weak(noisy, t, condition), main, spread(scale, main).to(main))


@dataclass(frozen=True, eq=False)
class Framewise(Guided):
    """A video denoiser's image mode: every frame is a film of one frame.

    One call a frame, each with the whole batch, because a condition may hold a row for every sample.
    """

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        frames = zip(noisy.split(1, dim=2), t.split(1, dim=1), strict=True)
        return torch.cat([self.denoiser(frame, time, condition) for frame, time in frames], dim=2)


@dataclass(frozen=True, eq=False)
class TemporalGuidance(Guided):
    """Smoother or looser motion, with text guidance (Gen-1, Esser et al. 2023, 2302.03011, section 3.4).

        still(negative) + motion (video(negative) - still(negative)) + scale (video(asked) - video(negative))

    video: the denoiser. still: its image mode, such as Framewise(video). motion: 1 is the video model, more
    is smoother. At motion 1 scale is ClassifierFree's; motion 0 with scale 0 is the image model. Weights of 0
    cost no call.
    """

    still: Denoiser
    motion: float
    scale: float = 1.0
    negative: Any = None

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        return _weighted(
            (1 - self.motion, partial(self.still, noisy, t, self.negative)),
            (self.motion - self.scale, partial(self.denoiser, noisy, t, self.negative)),
            (self.scale, partial(self.denoiser, noisy, t, condition)),
        )


@dataclass(frozen=True)
class View:
    """Shows some of the known frames at a noise level (0: as they are) and hides the others (pure noise)."""

    weight: float
    frames: tuple[int, ...]
    level: float = 0.0


@dataclass(frozen=True, eq=False)
class HistoryGuidance(Guided):
    """Towards what follows from known frames (history guidance; Song et al. 2025, 2502.06764).

        guess(all hidden) + sum_i weight_i (guess(view_i) - guess(all hidden))

    known: the given frames, from 0. One view of all at level 0 is the vanilla form; a level above 0 guides by
    what is coarse; several segments compose. Views alike are one call. fresh(step, purpose): standard noise.
    """

    known: tuple[int, ...]
    views: Sequence[View]
    fresh: Callable[[int, str], Film]

    def __post_init__(self):
        for view in self.views:
            if not set(view.frames) <= set(self.known) or not 0 <= view.level <= 1:
                raise Refusal(f"{view}: its frames must be among the known {self.known}, its level in [0, 1]")

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        weights: dict[tuple[float, ...], float] = {}
        for view in (View(1 - sum(view.weight for view in self.views), ()), *self.views):
            levels = tuple(float(view.level) if frame in view.frames else 1.0 for frame in self.known)
            weights[levels] = weights.get(levels, 0.0) + view.weight
        look = partial(self._look, noisy, t, condition)
        return _weighted(*((weight, partial(look, levels)) for levels, weight in weights.items()))

    def _look(self, noisy: Film, t: Times, condition: Any, levels: tuple[float, ...]) -> Film:
        s, known = t.clone(), list(self.known)
        s[:, known] = torch.maximum(t[:, known], t.new_tensor(levels))
        if bool((s > t).any()):
            noisy = noised(noisy, self.fresh(0, "history").to(noisy), t=t, s=s, schedule=self.schedule)
        return self.denoiser(noisy, s, condition)


def noised(noisy: Film, noise: Film, *, t: Times, s: Times, schedule: Schedule) -> Film:
    """Films at time t taken on to s >= t by the forward process; frames with s = t stay bit for bit."""
    keep = torch.where(s > t, schedule.alpha(s) / schedule.alpha(t), 1.0)
    variance = schedule.sigma(s) ** 2 - (keep * schedule.sigma(t)) ** 2
    added = torch.where(s > t, variance.clamp(min=0).sqrt(), 0.0)
    return spread(keep, noisy) * precise(noisy) + spread(added, noisy) * noise


def _weighted(*terms: tuple[float, Callable[[], Tensor]]) -> Tensor:
    """The sum of weight * guess(), without asking for guesses of weight 0."""
    first, *others = (weight * guess() for weight, guess in terms if abs(weight) > 1e-12)
    return sum(others, start=first)


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import denoisers, draw

    draw(denoisers.contrast)
