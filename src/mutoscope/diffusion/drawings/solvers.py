"""Drawings of steps: `sampler`, `multistep`, `stochastic` and `inversion`."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure
from mutoscope.diffusion.drawings.gaussian import Affine, Alike, affine, ar1
from mutoscope.diffusion.inversion import invert
from mutoscope.diffusion.multistep import Multistep2, Multistep2Sde, Multistep3Sde, UniPc
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.sampler import Euler, Heun, Sampler, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Edm, Schedule
from mutoscope.diffusion.stochastic import Ancestral, Ddim, HeunChurn, Lcm

MEAN, STD = 0.7, 0.5
STEPS = (4, 8, 16, 32, 64, 128)


def sampler() -> Figure:
    """how fast the samplers without noise get to where the flow ends, by steps and by calls; and the way."""
    known = {"Euler": Euler(), "Heun": Heun(), "Multistep2": Multistep2()}
    errors = _errors(known)
    calls = [
        Curve(each.name, each.x * 2 - 1 if each.name == "Heun" else each.x, each.y, "marked", n)
        for n, each in enumerate(errors)
    ]
    ways = [Curve("the flow", *_way(Heun(), 200), colour=7)]
    ways += [Curve(name, *_way(each, 4), "marked", n) for n, (name, each) in enumerate(known.items())]
    return Figure(
        "Samplers: distance from the end of the flow of N(0.7, 0.5^2) on EDM's levels, and 4 steps of it",
        [
            Curves(
                "error against steps", "steps", "error", [*errors, *_slopes(1, 2)], log_x=True, log_y=True
            ),
            Curves("error against calls", "calls", "error", calls, log_x=True, log_y=True),
            Curves("4 steps, straight schedule", "t", "film", ways),
        ],
    )


def error(each: Sampler, steps: int) -> float:
    """How far a film that starts one deviation out, at 80, ends from where the flow takes it, at 0.002."""
    schedule = Edm()
    top, end = math.hypot(STD, schedule.sigma_max), math.hypot(STD, schedule.sigma_min)
    start = torch.full((1, 1, 1, 1, 1), MEAN + top, dtype=torch.float64)
    *_, last = sample(normal(schedule), start, plan=full_sequence(steps, 1), sampler=each)
    return abs(last.noisy.item() - MEAN - end)


def normal(schedule: Schedule = STRAIGHT, *, mean: float = MEAN, std: float = STD) -> GaussianDenoiser:
    """Exact for films of one frame, N(mean, std^2)."""
    return Alike(torch.full((1,), mean), torch.full((1, 1), std**2), schedule)


def _errors(known: Mapping[str, Sampler]) -> list[Curve]:
    steps = torch.tensor(STEPS, dtype=torch.float64)
    return [
        Curve(n, steps, torch.tensor([error(s, k) for k in STEPS]).double(), "marked")
        for n, s in known.items()
    ]


def _slopes(*orders: int) -> list[Curve]:
    """What an error of these orders would fall like."""
    steps = torch.tensor(STEPS, dtype=torch.float64)
    return [Curve(f"order {n}", steps, (steps[0] / steps) ** n * 4.0**-n, "dashes", 6) for n in orders]


def _way(each: Sampler, steps: int) -> tuple[Tensor, Tensor]:
    """Times and films from pure noise, a deviation and a half out, to clean."""
    plan, start = full_sequence(steps, 1), torch.full((1, 1, 1, 1, 1), -1.5, dtype=torch.float64)
    films = [start, *(state.noisy for state in sample(normal(), start, plan=plan, sampler=each))]
    return plan.times[:, 0], torch.cat(films).flatten()


def multistep() -> Figure:
    """how much looks further back are worth, on the flow and with noise on the way."""
    flows = {
        "Multistep2": Multistep2(),
        "Multistep3Sde(eta=0)": Multistep3Sde(eta=0.0),
        **{f"UniPc({order})": UniPc(order) for order in (1, 2, 3)},
    }
    noisy = {"Ddim(1)": Ddim(1.0), "Multistep2Sde": Multistep2Sde(), "Multistep3Sde": Multistep3Sde()}
    return Figure(
        "Multistep samplers: N(0.7, 0.5^2), error without noise on EDM's levels, deviation with noise",
        [
            Curves(
                "error against steps",
                "steps",
                "error",
                [*_errors(flows), *_slopes(2, 3)],
                log_x=True,
                log_y=True,
            ),
            Curves(
                "with noise: deviation made", "steps", "over the true one", _deviations(noisy), log_x=True
            ),
        ],
    )


def stochastic() -> Figure:
    """what noise on the way does: deviations made, how much the start still decides, and single ways."""
    known = {
        "Euler": Ddim(0.0),
        "Ddim(0.5)": Ddim(0.5),
        "Ddim(1)": Ddim(1.0),
        "Lcm": Lcm(),
        "Ancestral, corrected": Ancestral(corrector=0.1),
        "HeunChurn(0.4)": HeunChurn(0.4),
    }
    etas = torch.linspace(0, 1, 11, dtype=torch.float64)
    decided = [
        Curve(f"{n} steps", etas, torch.tensor([_decided(float(eta), n) for eta in etas]).double())
        for n in (4, 16, 64)
    ]
    return Figure(
        "Noise on the way: N(0.7, 0.5^2), cosine schedule",
        [
            Curves("deviation made", "steps", "over the true one", _deviations(known), log_x=True),
            Curves("variance that the start decides", "eta of Ddim", "share", decided),
            Curves("five ways from one start, Ddim(1)", "t", "film", [*_ways()]),
        ],
    )


def _deviations(known: Mapping[str, Sampler], steps: Sequence[int] = STEPS[:-1]) -> list[Curve]:
    x = torch.tensor(steps, dtype=torch.float64)
    made = [[_map(each, n).covariance().item() ** 0.5 / STD for n in steps] for each in known.values()]
    return [Curve(name, x, torch.tensor(y).double(), "marked") for name, y in zip(known, made, strict=True)]


def _decided(eta: float, steps: int) -> float:
    made = _map(Ddim(eta), steps)
    return float(made.matrix[0, 0] ** 2 / made.covariance().item())


def _map(each: Sampler, steps: int) -> Affine:
    """The film as a map of its start and of every noise that may be asked for on the way."""

    def run(noise: Tensor) -> Tensor:
        later = iter(noise.split(1, dim=2))
        start = next(later)
        walk = sample(
            normal(Cosine()), start, plan=full_sequence(steps, 1), sampler=each, fresh=lambda *_: next(later)
        )
        *_, last = walk
        return last.clean

    return affine(run, 1 + 2 * steps)


def _ways(steps: int = 48) -> Iterator[Curve]:
    plan = full_sequence(steps, 1)
    start = torch.full((5, 1, 1, 1, 1), 1.0, dtype=torch.float64)
    fresh = Fresh(range(5), (1, 1, 1, 1), dtype=torch.float64)
    states = sample(normal(Cosine()), start, plan=plan, sampler=Ddim(1.0), fresh=fresh)
    films = torch.stack([start, *(state.noisy for state in states)])
    for way in rearrange(films, "rows b 1 1 1 1 -> b rows"):
        yield Curve("", plan.times[:, 0], way)


def inversion() -> Figure:
    """how well a film survives the way up to its noise and down again, by steps and by looks a step."""
    there = {looks: [_there_and_back(n, looks) for n in STEPS[:-1]] for looks in (1, 2, 3, 5)}
    steps = torch.tensor(STEPS[:-1], dtype=torch.float64)
    names = {looks: f"{looks} look{'s' * (looks > 1)}" for looks in there}
    errors = [
        Curve(names[k], steps, torch.tensor([e for e, _ in v]).double(), "marked") for k, v in there.items()
    ]
    sizes = [
        Curve(names[k], steps, torch.tensor([d for _, d in v]).double(), "marked") for k, v in there.items()
    ]
    return Figure(
        "Inversion: AR(1) films up to their noise and down again, with Euler",
        [
            Curves("error of the film that comes back", "steps", "rms", errors, log_x=True, log_y=True),
            Curves("deviation of the noise found", "steps", "1 is standard", sizes, log_x=True),
        ],
    )


def _there_and_back(steps: int, looks: int) -> tuple[float, float]:
    """The error of the film that comes back, and the deviation of the noise between."""
    likeness = ar1(0.9, 8)
    root = torch.linalg.cholesky(likeness)
    white = draw([1], (16, 8, 8, 8), dtype=torch.float64)
    film = torch.einsum("f g, b c g h w -> b c f h w", root, white)
    denoiser, plan = Alike(torch.zeros(8), likeness), full_sequence(steps, 8)
    *_, up = invert(denoiser, film, plan=plan, looks=looks)
    *_, down = sample(denoiser, up.noisy, plan=plan)
    return float((down.clean - film).square().mean().sqrt()), float(up.noisy.std())
