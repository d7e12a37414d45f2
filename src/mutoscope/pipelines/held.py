"""Known frames for a network that knows one time for all frames.

A task holds what is known at time 0 while the rest is noise. A network that never saw such films is shown all
frames at one time, the known ones under that much noise, and its guess of them is compared with what they
are: the others move to where the known ones are better explained (reconstruction guidance, Ho et al. 2022,
2204.03458, equation 7).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.guidance import Film, Guided, Times
from mutoscope.diffusion.reconstruction import Reconstruction, Replacement, frames_of

__all__ = ["Held"]


@dataclass(frozen=True, eq=False)
class Held(Guided):
    """The denoiser, for films of which the frames at time 0 are known.

    fresh(step, purpose): standard noise of the whole film's shape. weight: of reconstruction guidance (w_r);
    0 only puts known frames in their place. Films of one batch hold the same frames.
    """

    denoiser: Denoiser
    fresh: Callable[[int, str], Film]
    weight: float = 3.0

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        held = [frame for frame, time in enumerate(t[0].tolist()) if time == 0]
        if not held or len(held) == t.shape[1]:
            return self.denoiser(noisy, t, condition)
        seen, together = noisy[:, :, held], t.amax(dim=1, keepdim=True).expand_as(t)
        guess = self.denoiser
        if self.weight:
            guess = Reconstruction(guess, frames_of(held), seen, self.weight)
        return Replacement(guess, held, seen, self.fresh)(noisy, together, condition)
