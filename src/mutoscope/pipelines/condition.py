"""A task is what is known of a film before it is made.

    some frames, and where they stand     their levels are 0 from the first row: held, seen, never changed
    all of it, roughly                    the plan begins at `strength`, with it under that much noise
    what its pictures must show           every guess is moved until it shows that (`Agreeing`)

The first two lower the plan of noise levels and say what stands where it begins (SDEdit, Meng et al. 2022,
2108.01073, is the second alone); the third is a denoiser made of a denoiser. No network takes part, so any
denoiser of any latents will do, if it takes a time for every frame. `Maker` is all a task asks of a model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.checkpoints.folder import ModelFacts
from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.guidance import Guided, Times
from mutoscope.diffusion.noise import stream
from mutoscope.diffusion.plan import Plan, staggered
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.sampler import State, sample
from mutoscope.diffusion.schedule import Schedule
from mutoscope.pipelines.generate import SAMPLERS
from mutoscope.pipelines.request import Request
from mutoscope.video import Refusal

__all__ = ["Agreeing", "Given", "Maker", "take"]

Film = Float[Tensor, "b c f h w"]
Pictures = UInt8[Tensor, "f h w 3"]
Latents = Float[Tensor, "c _ h2 w2"]


class Maker(Protocol):
    """A model as a task sees it: latents, a denoiser of them, and the way from pictures and back.

    The first latent frame is one picture, every other holds `time_stride` of them.
    """

    facts: ModelFacts
    device: torch.device

    @property
    def time_stride(self) -> int: ...

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]: ...

    def grid(self, request: Request) -> Float[Tensor, " levels"]: ...

    def denoiser(self, request: Request) -> Denoiser: ...

    def words(self, request: Request) -> Any: ...

    def encode(self, pictures: Pictures) -> Latents: ...

    def decode(self, latents: Latents, request: Request) -> Iterator[Pictures]: ...


@dataclass(frozen=True, eq=False)
class Given:
    """What is known of films.

    places: which frames are known, from 0, or from the end below 0; frames: "b c k h w", those frames. rough:
    "b c f h w", films that are nearly right; strength: the level they are brought to, in (0, 1]: how much may
    become of another. Raises Refusal for a strength outside, or below 1 without a rough film, and for places
    without their frames.
    """

    places: Sequence[int] = ()
    frames: Float[Tensor, "b c k h w"] | None = None
    rough: Film | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise Refusal(f"strength is {self.strength}; it must be above 0 and at most 1")
        if self.strength < 1 and self.rough is None:
            raise Refusal(f"strength is {self.strength}, and there is no rough film to begin from")
        if len(self.places) != (0 if self.frames is None else self.frames.shape[2]):
            raise Refusal(f"{len(self.places)} places are known; as many frames are needed")

    def plan(self, plan: Plan) -> Plan:
        """The plan, begun at the strength, with the known frames held. Steps that move nothing go."""
        times = plan.times.clamp(max=self.strength)
        moved = (times.diff(dim=0) != 0).any(dim=1)
        begun = Plan(times[torch.cat([torch.tensor([True]), moved])])
        return begun.knowing(self.places) if self.places else begun

    def start(self, noise: Film, *, plan: Plan, schedule: Schedule) -> Film:
        """The films at the first row of `plan`, as `sample` takes them."""
        film = noise.clone()
        if self.rough is not None:
            film = schedule.level(plan.times[:1]).mix(self.rough.to(noise), noise)
        if self.frames is not None:
            film[:, :, list(self.places)] = self.frames.to(film)
        return film


@dataclass(frozen=True, eq=False)
class Agreeing(Guided):
    """The guess, moved by what its own pictures lack: decode, correct, encode (ReSample's hard consistency in
    pixels, Song et al. 2023, 2307.08123, by the encoder in place of an optimisation).

        pictures = decode(guess),        guess + encode(agree(pictures)) - encode(pictures)

    The difference of two encodings, so that what the autoencoder loses is not lost again at every step. One
    film at a time; each call costs a decoding and two encodings.
    """

    encode: Callable[[Pictures], Latents]
    decode: Callable[[Latents], Pictures]
    agree: Callable[[Pictures], Pictures]

    def __call__(self, noisy: Film, t: Times, condition: Any) -> Film:
        guess = self.denoiser(noisy, t, condition)
        pictures = self.decode(guess[0])
        return guess + (self.encode(self.agree(pictures)) - self.encode(pictures))[None].to(guess)


def take(
    maker: Maker,
    request: Request,
    given: Given,
    *,
    frames: int,
    number: int,
    denoiser: Denoiser | None = None,
) -> Iterator[State]:
    """Samples one film of `frames` pictures that agrees with what is given.

    number: of the take; each has noise of its own, from the request's seed. denoiser: the maker's, or one
    made of it.
    """
    shape = maker.latent_shape(request.model_copy(update={"frames": frames}))
    seeds = [stream(request.seed, f"take {number}")]
    denoiser = denoiser or maker.denoiser(request)
    plan = given.plan(staggered(maker.grid(request), shape[1], lag=0))
    prior = request.method.noise.prior()
    noise = prior.draw(seeds, shape, device=maker.device)
    return sample(
        denoiser, given.start(noise, plan=plan, schedule=denoiser.schedule), plan=plan,
        condition=maker.words(request), sampler=SAMPLERS[request.sampler],
        fresh=Fresh(seeds, shape, prior, device=maker.device),
    )  # fmt: skip
