"""Films without end, in memory that does not grow.

A window slides over the film. Its first frame is nearly clean and its last is noise; when the first is done
it is handed out, and a frame of noise comes in at the far end.

    window 4      |  .+#@|   every frame a quarter of the way down
    after a slide   | .+#@|  and the next one is nearly done

These are the local times of Rolling Diffusion (Ruhe et al. 2024, 2402.09470), with its start-up from a window
of noise, and they are the same as a pyramid plan of the endless film, of which only the frames that move are
held. FIFO-Diffusion (Kim et al. 2024, 2405.11473) is a window longer than the model's, seen in `Partitioned`
parts.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.plan import uniform
from mutoscope.diffusion.sampler import Euler, Move, Sampler, Step, bound
from mutoscope.diffusion.schedule import Schedule, precise, spread
from mutoscope.video import Refusal

Film = Float[Tensor, "b c f h w"]
Frame = Float[Tensor, "b c h w"]
Times = Float[Tensor, "b f"]
Row = Float[Tensor, "1 f"]


@dataclass(frozen=True)
class Window:
    """What is held, and how fast it slides.

    frames: on their way at a time. steps: moves a slide; a frame takes frames * steps of them in all, and
    that is also how long the first one takes. context: finished frames that are still shown. shift: of the
    grid that every frame walks down. Raises Refusal for fewer than 1 frame or step, or less than no context.
    """

    frames: int
    steps: int = 1
    context: int = 0
    shift: float = 1.0

    def __post_init__(self):
        if min(self.frames, self.steps) < 1 or self.context < 0:
            raise Refusal(f"{self}: it needs a frame and a step or more, and no less than no context")

    @property
    def total(self) -> int:
        """How many moves a frame takes."""
        return self.frames * self.steps

    def times(self, left: int, *, held: int, past: int = 0) -> Row:
        """The levels of `past` finished frames and of the `held` after them, `left` moves before a slide."""
        grid = uniform(self.total, shift=self.shift).flip(0)
        still = (torch.arange(held) * self.steps + left).clamp(max=self.total)
        return torch.cat([torch.zeros(past, dtype=grid.dtype), grid[still]])[None]


def rolling(
    denoiser: Denoiser,
    noise: Iterable[Frame],
    *,
    window: Window,
    condition: Any = None,
    sampler: Sampler | None = None,
) -> Iterator[Frame]:
    """Yields finished frames "b c h w", as many as the noise has; stop whenever you like.

    noise: a frame after another, as from `noise.endless` or `Prior.endless`: frame i a function of seed and i
    alone, and so is the film then, wherever it is stopped. A noise that ends empties the window: its last
    frames see less ahead. sampler: Euler by default; one that adds no noise, and looks back no further than
    one guess past a slide (UniPC of order 3 forgets the others there, and does not correct across it).
    """
    source, sampler = iter(map(precise, noise)), sampler or Euler()
    held, past = list(islice(source, window.frames)), deque(maxlen=window.context)
    guess, left, step = bound(denoiser, condition), window.total, None
    while held:
        film, seen = torch.stack([*past, *held], dim=2), len(past)
        rows = [window.times(still, held=len(held), past=seen) for still in range(left, -1, -1)]
        for t, s in pairwise(rows):
            with torch.no_grad():
                back = step.move.behind if step else ()
                move = Move(t=t, s=s, schedule=denoiser.schedule, back=back)
                step = sampler(guess, film, move=move, past=step)
                film = step.noisy
        done, *held = film.unbind(2)[seen:]
        past.append(done.clone())  # or whoever keeps a frame would keep its window
        yield done.clone()
        held, left = [*held, *islice(source, 1)], window.steps
        step = _slid(step, gone=seen + 1 - len(past), frames=len(past) + len(held)) if step else None


def _slid(step: Step, *, gone: int, frames: int) -> Step:
    """The last step as the slid window sees it: frames that came in rested at noise, and so have no past."""
    new = max(frames + gone - step.clean.shape[2], 0)
    t, s = (F.pad(row[:, gone:], (0, new), value=1.0) for row in (step.move.t, step.move.s))
    clean = F.pad(step.clean[:, :, gone:], (0, 0, 0, 0, 0, new))
    return Step(move=Move(t=t, s=s, schedule=step.move.schedule), noisy=clean, clean=clean)


@dataclass(frozen=True, eq=False)
class Partitioned:
    """A denoiser of up to `frames` frames for longer windows: FIFO-Diffusion's diagonal (2405.11473).

    Parts are counted from the noisy end and seen alone, a call each. With lookahead each part is seen
    together with the half part before it, of which nothing is kept: twice the calls, and no frame is guessed
    without cleaner ones in sight, if the window has a context of frames / 2.
    """

    denoiser: Denoiser
    frames: int
    lookahead: bool = False

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        kept = self.frames // 2 if self.lookahead else self.frames
        guesses = []
        for end in range(noisy.shape[2], 0, -kept):
            seen = slice(max(end - self.frames, 0), end)
            guess = self.denoiser(noisy[:, :, seen], t[:, seen], condition)
            guesses.append(guess[:, :, -min(kept, end) :])
        return torch.cat(guesses[::-1], dim=2)


@dataclass(frozen=True, eq=False)
class Stabilised:
    """Shows finished and known frames as if a little noise, of time `level`, were left in them.

    A model that sees its own frames as slightly noisy forgives their mistakes (Diffusion Forcing's
    stabilisation, 2407.01392, 0.015 there). They are scaled and no noise is added, as for DDIM there; what is
    shown changes, and the frames do not. Raises Refusal for a level outside [0, 1).
    """

    denoiser: Denoiser
    level: float = 0.015

    def __post_init__(self):
        if not 0 <= self.level < 1:
            raise Refusal(f"a stabilisation level of {self.level}: it must be from 0 to below 1")

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        shown = torch.where(t > 0, t, self.level)
        scale = torch.where(t > 0, 1.0, self.schedule.alpha(shown))
        guess = self.denoiser(spread(scale, noisy) * noisy, shown, condition)
        return torch.where(spread(t, noisy) > 0, guess, precise(noisy))


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, plans

    draw(plans.rolling)
