"""One network of a hierarchy: it makes films of which something is known.

    seen = the network, told what is known          unseen = the same, told that nothing is known
    guess = unseen + context (seen - unseen)        each of them guided by the words

The second line is context guidance (Align Your Latents, 2304.08818; LVDM, 2211.13221, calls the guess without
context unconditional): above 1 a film follows what came before more closely than it was trained to, which
slows the drift of long roll-outs. What is known may be shown a little noisy, so that a network does not take
its own mistakes for truth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion import noise
from mutoscope.diffusion.contrast import Autoguidance
from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.guidance import ClassifierFree, Film, Guided, Times
from mutoscope.diffusion.known import Condition, Conditioned, Known
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.reconstruction import Replacement
from mutoscope.diffusion.sampler import State, sample
from mutoscope.models.precision import prepared
from mutoscope.models.unet import UNet
from mutoscope.models.words import Words
from mutoscope.pipelines.request import Request
from mutoscope.pipelines.sampling import SAMPLERS

__all__ = ["Knowing", "Rung", "Telling"]


@dataclass(frozen=True, eq=False)
class Knowing(Guided):
    """The denoiser, told what is known; frames that are known stand in its guess as they are.

    shown: what it is told, perhaps noisy. clean: the same films without that noise.
    """

    shown: Known
    clean: Film

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        guess = self.denoiser(noisy, t, replace(condition, known=self.shown))
        return _in_place(replace(self.shown, value=self.clean.to(guess)), guess)


@dataclass(frozen=True)
class Telling:
    """How films are asked for: words, the scale of their guidance, and of the context's; how noisy what is
    known is shown, as a time in [0, 1]; steps of sampling."""

    request: Request
    steps: int
    guidance: float = 1.0
    context: float = 1.0
    noise: float = 0.0


class Rung:
    """A U-Net on a device and in a dtype, and the words it reads, if any."""

    def __init__(
        self, unet: UNet, words: Words | None, process: Process, *, dtype: torch.dtype, device: torch.device,
        in_place: bool = False,
    ) -> None:  # fmt: skip
        self.unet = prepared(unet, dtype, device=device, in_place=in_place)
        self.words, self.process, self.device = words, process, device
        self.schedule = process.noising()
        self.denoiser = process.denoiser(Conditioned(self.unet, process))

    @property
    def told(self) -> bool:
        """Whether it has channels for what is known."""
        return self.unet.config.in_channels > self.unet.config.out_channels

    def films(
        self, white: Film, known: Known | None, telling: Telling, *, seeds: Sequence[int],
        held: tuple[Sequence[int], Float[Tensor, "b c k h w"]] | None = None,
    ) -> Iterator[State]:  # fmt: skip
        """Samples films from noise `white`, one a seed; the seeds are for all further noise.

        known: what is known of them; None for a network that cannot be told. held: frames, and what they are:
        they are put in their places at every step, for a network that was not trained to be told them.
        """
        request, shape = telling.request, tuple(white.shape[1:])
        fresh = Fresh(seeds, shape, request.method.noise.prior(), device=self.device)  # type: ignore[arg-type]
        denoiser = self._guided(known, telling, seeds=seeds, like=white)
        if held is not None:
            denoiser = Replacement(denoiser, *held, fresh)
        states = sample(
            denoiser, white,
            plan=full_sequence(telling.steps, white.shape[2]),
            condition=self._condition(request.prompt, count=len(white)),
            sampler=SAMPLERS[request.sampler], fresh=fresh,
        )  # fmt: skip
        return (replace(state, clean=_in_place(known, state.clean)) for state in states)

    def _guided(self, known: Known | None, telling: Telling, *, seeds: Sequence[int], like: Film) -> Denoiser:
        """The denoiser of these films, guided by words and by what is known."""
        negative = self._condition(telling.request.negative, count=len(like))
        scale = telling.guidance if self.words is not None else 1.0
        if known is None:
            return ClassifierFree(self.denoiser, scale, negative=negative)
        shown = self._shown(known, telling.noise, seeds)
        seen = ClassifierFree(Knowing(self.denoiser, shown, known.value), scale, negative=negative)
        if telling.context == 1 or not bool(known.mask.any()):
            return seen
        nothing = Known.nothing(known.value)
        unseen = ClassifierFree(Knowing(self.denoiser, nothing, known.value), scale, negative=negative)
        return Autoguidance(seen, unseen, telling.context)

    def _shown(self, known: Known, t: float, seeds: Sequence[int]) -> Known:
        """What is known, as noisy as at time t; nothing stays nothing."""
        if not t or not bool(known.mask.any()):
            return known
        shape = tuple(known.value.shape[1:])
        own = noise.draw([noise.stream(seed, "known") for seed in seeds], shape, device=self.device)  # type: ignore[arg-type]
        return known.noised(torch.full((len(seeds),), t, device=self.device), own, schedule=self.schedule)

    def _condition(self, text: str, *, count: int) -> Condition:
        if self.words is None:
            return Condition()
        said = self.words.say([text] * count)
        return Condition(replace(said, rows=said.rows.to(self.device), mask=said.mask.to(self.device)))


def _in_place(known: Known | None, film: Film) -> Film:
    """The film with known frames as they are: a schedule may end a little above no noise."""
    return film if known is None or not known.stands else torch.where(known.mask > 0, known.value, film)


def framewise_noise(
    seed: int, shape: tuple[int, int, int], *, first: int, count: int, device: torch.device
) -> Float[Tensor, "1 c count h w"]:
    """Noise of frames `first` and on, each a function of the seed and its number alone: wherever a frame is
    made, its noise is the same. shape: c, h, w."""
    c, h, w = shape
    seeds = [noise.stream(seed, f"frame {first + number}") for number in range(count)]
    frames: Tensor = noise.draw(seeds, (c, 1, h, w), device=device)
    return frames.transpose(0, 2)
