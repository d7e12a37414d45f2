"""A request in the words of `diffusion`: its sampler, plan, guidance and noise.

    network -> seen in windows -> guided -> walked down the plan, once or (FreeInit) several times

No network is known here: everything is made of a denoiser and of the request. Lengths are in latent frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion import noise
from mutoscope.diffusion.contrast import Autoguidance, Framewise, TemporalGuidance
from mutoscope.diffusion.denoiser import Denoiser
from mutoscope.diffusion.frequency import reinitialised
from mutoscope.diffusion.guidance import ClassifierFree, Projected, ZeroStar, band_of
from mutoscope.diffusion.multistep import Multistep2, Multistep2Sde, Multistep3Sde, UniPc
from mutoscope.diffusion.plan import Plan, planned, pyramid
from mutoscope.diffusion.prior import Fresh, Prior
from mutoscope.diffusion.rolling import Partitioned, Stabilised, Window, rolling
from mutoscope.diffusion.sampler import Euler, Heun, Sampler, State, sample
from mutoscope.diffusion.schedule import STRAIGHT, Schedule
from mutoscope.diffusion.stochastic import Ancestral, Ddim, HeunChurn, Lcm
from mutoscope.diffusion.windows import Windowed
from mutoscope.pipelines.request import Request

__all__ = ["SAMPLERS", "Lengths", "guided", "needs_negative", "plan_of", "rolled", "seen", "walked"]

Film = Float[Tensor, "b c f h w"]

SAMPLERS: dict[str, Sampler] = {
    "euler": Euler(), "heun": Heun(), "multistep": Multistep2(), "unipc": UniPc(),
    "ddpm": Ddim(eta=1.0), "ancestral": Ancestral(corrector=0.1), "sde": Multistep2Sde(),
    "sde3": Multistep3Sde(), "lcm": Lcm(),
    # EDM's for ImageNet (2206.00364, table 5): S_churn 40 of 256 steps, S_noise, S_tmin and S_tmax.
    "churn": HeunChurn(churn=40 / 256, noise=1.003, band=band_of(STRAIGHT, lo=0.05, hi=50.0)),
}  # fmt: skip
GUIDANCES: dict[str, type[ClassifierFree] | type[ZeroStar] | type[Projected]] = {
    "plain": ClassifierFree, "zero-star": ZeroStar, "projected": Projected,
}  # fmt: skip
LEAK = 0.0047
"""alpha^2 of Stable Diffusion's last step: what FreeInit's pure noise still tells of the film before."""


@dataclass(frozen=True)
class Lengths:
    """Latent frames: of the film, of the model's own films, and those seen at a time, if that is said."""

    film: int
    own: int
    window: int | None = None

    @property
    def sight(self) -> int:
        return min(self.own if self.window is None else self.window, self.film)

    def at_once(self, request: Request) -> int:
        """How many the network is shown together."""
        if request.plan == "rolling":
            return min(self.sight, self.own)
        return self.film if self.window is None else min(self.window, self.film)

    def rolling(self, request: Request, *, shift: float) -> Window:
        """The window of plan rolling.

        A quarter of what the model sees is finished frames. A window longer than the model's own films has
        all of its frames on their way and is seen in parts (FIFO-Diffusion).
        """
        context = self.own // 2 if self.sight > self.own else self.sight // 4
        frames = self.sight - (0 if self.sight > self.own else context)
        return Window(frames, steps=max(1, round(request.steps / frames)), context=context, shift=shift)


def plan_of(
    request: Request, grid: Float[Tensor, " levels"], *, lengths: Lengths, shift: float = 1.0
) -> Plan:
    """The levels of every frame after every step. That of rolling is a pyramid, of which a window is held."""
    if request.plan != "rolling":
        return planned(request.plan, grid, lengths.film)
    window = lengths.rolling(request, shift=shift)
    return pyramid(window.total, lengths.film, lag=window.steps, shift=shift)


def seen(denoiser: Denoiser, request: Request, *, lengths: Lengths) -> Denoiser:
    """The denoiser, looking at as many frames at a time as the request allows."""
    if request.plan == "rolling":
        if lengths.sight > lengths.own:
            denoiser = Partitioned(denoiser, max(lengths.own, 2), lookahead=True)
    elif lengths.window is not None and lengths.window < lengths.film:
        denoiser = Windowed(denoiser, lengths.window, stride=max(1, lengths.window // 2))
    level = request.method.stabilise
    return Stabilised(denoiser, level) if level else denoiser


def guided(
    denoiser: Denoiser, request: Request, *, frames: int, negative: Any = None, weak: Denoiser | None = None
) -> Denoiser:
    """The denoiser, guided as the request says; negative: its condition for that, if `needs_negative`."""
    method, scale = request.method, request.guidance
    if weak is not None:
        return Autoguidance(denoiser, weak, _by_frame(request, frames), band=method.guidance_band)
    if method.smoothness != 1:
        still = Framewise(denoiser)
        return TemporalGuidance(denoiser, still, motion=method.smoothness, scale=scale, negative=negative)
    return GUIDANCES[method.guidance_kind](
        denoiser, _by_frame(request, frames), negative=negative, band=method.guidance_band,
        rescale=method.guidance_rescale,
    )  # fmt: skip


def needs_negative(request: Request) -> bool:
    """Whether guidance ever asks for the negative words."""
    method = request.method
    told = request.guidance != 1 or method.guidance_last not in (None, 1) or method.smoothness != 1
    return told and not method.weak


def _by_frame(request: Request, frames: int) -> float | list[float]:
    last = request.method.guidance_last
    return request.guidance if last is None else torch.linspace(request.guidance, last, frames).tolist()


def walked(
    denoiser: Denoiser, request: Request, *, plan: Plan, condition: Any, fresh: Fresh
) -> Iterator[State]:
    """Samples films from the noise of their seeds, `fresh.seeds`; `passes` times over, each from the last."""
    start = begun = fresh.prior.draw(fresh.seeds, fresh.shape, device=fresh.device)
    sampler, passes, own = SAMPLERS[request.sampler], request.method.passes, fresh
    for number in range(1, passes + 1):
        film = begun
        for state in sample(denoiser, begun, plan=plan, condition=condition, sampler=sampler, fresh=own):
            film, done = state.clean, state.step + (number - 1) * plan.steps
            yield replace(state, step=done, steps=passes * plan.steps)
        if number < passes:
            own = replace(fresh, seeds=[noise.stream(seed, f"pass {number}") for seed in fresh.seeds])
            begun = _again(film, start, own, schedule=denoiser.schedule)


def _again(film: Film, start: Film, fresh: Fresh, *, schedule: Schedule) -> Film:
    """Noise to begin from that knows the slow part of the film: FreeInit's (2312.07537), of variance 1."""
    snr = torch.full((1, film.shape[2]), LEAK / (1 - LEAK), dtype=torch.float64)
    level = schedule.level(schedule.time(snr.log()))
    size = torch.hypot(level.alpha, level.sigma)
    noisy = replace(level, alpha=level.alpha / size, sigma=level.sigma / size).mix(film, start)
    new = fresh.prior.draw(fresh.seeds, fresh.shape, device=fresh.device)
    return reinitialised(noisy, new)


def rolled(
    denoiser: Denoiser, request: Request, *, window: Window, condition: Any, fresh: Fresh
) -> Iterator[State]:
    """Films whose frames are finished one after another: a state a frame, its `clean` all that are done.

    The noise has no end, so a longer film begins with the shorter one.
    """
    prior: Prior = fresh.prior
    c, f, h, w = fresh.shape
    frames = (frame.to(fresh.device) for frame in prior.endless(fresh.seeds, (c, h, w)))
    coming = rolling(denoiser, frames, window=window, condition=condition, sampler=SAMPLERS[request.sampler])
    made = torch.zeros(len(fresh.seeds), *fresh.shape, device=fresh.device)
    for number, frame in zip(range(f), coming, strict=False):
        made[:, :, number] = frame
        done = made[:, :, : number + 1]
        yield State(step=number + 1, steps=f, t=torch.zeros(number + 1), noisy=done, clean=done)
