"""Drawings of denoisers and of those made of them: `denoiser`, `linear`, `guidance`, `contrast`,
`reconstruction`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mutoscope.diffusion.contrast import Autoguidance, Framewise, HistoryGuidance, TemporalGuidance, View
from mutoscope.diffusion.denoiser import Denoiser, GaussianDenoiser, Preconditioning
from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure
from mutoscope.diffusion.drawings.gaussian import Affine, Alike, Stationary, affine, ar1, w2
from mutoscope.diffusion.guidance import ClassifierFree, Projected, band_of
from mutoscope.diffusion.linear import Linear
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.reconstruction import Conditioning, Reconstruction, Replacement, frames_of
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Level, Schedule

FRAMES, MIDDLE, RHO = 17, 8, 0.9
TIMES = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
# Of `reconstruction`: films of LONG frames, the first KNOWN of which are SEEN.
LONG, KNOWN, SLOW = 16, 4, 0.97
EXACT = Alike(torch.zeros(LONG), ar1(SLOW, LONG))
SEEN = torch.full((1, 1, KNOWN, 1, 1), 2.0, dtype=torch.float64)
PLACES = torch.arange(FRAMES, dtype=torch.float64)


def denoiser() -> Figure:
    """where an exact denoiser looks, what it cannot know, and EDM's coefficients around a network."""
    looks = [
        Curve(f"t = {t:g}", PLACES, _gains(torch.full((FRAMES,), t).double())[MIDDLE])
        for t in (0.1, 0.5, 0.8, 0.95)
    ]
    sigma = torch.logspace(-2.7, 1.9, 80, dtype=torch.float64)[None]
    made = Preconditioning(Level(alpha=torch.ones_like(sigma), sigma=sigma))
    parts = {"skip": made.skip, "out": made.out, "into": made.into}
    unknown = {"alone": 1.0, "all at the same t": None, "all others clean": 1e-6}
    return Figure(
        "Denoisers: the exact one of AR(1) films (0.9 from frame to frame), and EDM's preconditioning",
        [
            Curves("weights of frames in the guess of frame 8", "frame", "weight", looks),
            Curves(
                "what stays unknown of frame 8",
                "t",
                "variance",
                [Curve(n, TIMES, _unknown(others)) for n, others in unknown.items()],
            ),
            Curves(
                "EDM's factors around a network",
                "sigma",
                "factor",
                [Curve(name, sigma[0], part[0]) for name, part in parts.items()],
                log_x=True,
            ),
        ],
    )


def _gains(t: Tensor) -> Tensor:
    """d guess / d noisy "f f" at these times, read off the denoiser."""
    exact = GaussianDenoiser(torch.zeros(FRAMES), ar1(RHO, FRAMES))
    return affine(lambda noisy: exact(noisy, t.expand(len(noisy), -1), None), FRAMES).matrix


def _unknown(others: float | None) -> Tensor:
    """(sigma^2 / alpha) d guess / d noisy of the middle frame, with others at this time, or the same."""
    left = []
    for t in TIMES:
        times = torch.full((FRAMES,), float(t) if others is None else others, dtype=torch.float64)
        times[MIDDLE] = t
        left.append(STRAIGHT.sigma(t) ** 2 / STRAIGHT.alpha(t) * _gains(times)[MIDDLE, MIDDLE])
    return torch.stack(left)


def linear() -> Figure:
    """what the linear guess lacks of films, where it looks, and what is left for a network to know."""
    still, change = 0.8, 0.05
    known = {"a picture": 1, "4 frames": 4, "16 frames": 16}
    lengths = [Curve(name, TIMES, _lacking(still, change, frames)) for name, frames in known.items()]
    own, other = _looks(still, change, 16)
    looks = [Curve("at itself", TIMES, own), Curve("at each other frame", TIMES, other)]
    sizes = torch.logspace(-4, 0.5, 60, dtype=torch.float64)
    left = [
        Curve(f"t = {t:g}", sizes, torch.stack([_lacking(0.9 * v, 0.1 * v, 16, t=t) / v for v in sizes]))
        for t in (0.05, 0.2, 0.5, 0.9)
    ]
    return Figure(
        "The linear guess: of a direction in which patches stand still (0.8) and change (0.05)",
        [
            Curves("what stays unknown of a frame", "t", "variance", lengths),
            Curves("weights in the guess of a frame, 16 frames", "t", "weight", looks, log_y=True),
            Curves("what is left to know", "variance of a direction", "share", left, log_x=True),
        ],
    )


def _along(still: float | Tensor, change: float | Tensor) -> Linear:
    """Of films of one number a frame."""
    mean, one, s, c = (torch.as_tensor(x, dtype=torch.float64).view(1) for x in (0.0, 1.0, still, change))
    return Linear(1, mean, one.unsqueeze(0), s, c)


def _lacking(still: float | Tensor, change: float | Tensor, frames: int, *, t: float | None = None) -> Tensor:
    """The variance at these times, or at one."""
    times = (TIMES if t is None else torch.tensor([t], dtype=torch.float64)).unsqueeze(1).expand(-1, frames)
    guess = _along(still, change).guess(torch.zeros(len(times), 1, frames, 1, 1), Cosine().level(times))
    return guess.lacks[:, 0, 0].double().square().squeeze()


def _looks(still: float, change: float, frames: int) -> tuple[Tensor, Tensor]:
    """Of the first frame's guess: d guess / d noisy of itself and of another."""
    guess = _along(still, change).guess
    times = TIMES.unsqueeze(1).expand(-1, frames)
    noisy = torch.zeros(len(times), 1, frames, 1, 1, dtype=torch.float64, requires_grad=True)
    film = guess(noisy, Cosine().level(times)).film
    (gradient,) = torch.autograd.grad(film[:, :, 0].sum(), noisy)
    return gradient[:, 0, 0, 0, 0], gradient[:, 0, 1, 0, 0]


@dataclass(frozen=True)
class Told:
    """One exact denoiser for a condition, and another for None."""

    asked: GaussianDenoiser
    anything: GaussianDenoiser
    schedule: Schedule = STRAIGHT

    def __call__(self, noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        return (self.anything if condition is None else self.asked)(noisy, t, None)


def _apart(frames: int, *, mean: float = 0.0, std: float = 1.0) -> GaussianDenoiser:
    """Of films whose frames have nothing to do with each other, so that each can stand for a scale."""
    return Alike(torch.full((frames,), mean), std**2 * torch.eye(frames, dtype=torch.float64))


def guidance() -> Figure:
    """what a scale does to the spread of films, where they end, and how far a guess is thrown."""
    scales = torch.linspace(1, 8, 15, dtype=torch.float64)
    few = torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0], dtype=torch.float64)
    band, place = band_of(STRAIGHT, lo=0.3, hi=3.0), torch.linspace(-4, 6, 201, dtype=torch.float64)

    def ended(at: Tensor, **settings: Any) -> Affine:
        told = Told(_apart(len(at), mean=1.0), _apart(len(at), std=2.0))
        return _ends(ClassifierFree(told, at.tolist(), **settings), len(at))

    spreads = [
        Curve("everywhere", scales, ended(scales).matrix.diagonal()),
        Curve("in the band 0.3 to 3", scales, ended(scales, band=band).matrix.diagonal()),
        Curve("2^(1 - scale)", scales, 2 ** (1 - scales), "dashes", 7),
    ]
    ends = ended(few)
    bells = [
        Curve(f"scale {scale:g}", place, torch.distributions.Normal(mean, std).log_prob(place).exp())
        for scale, mean, std in zip(few, ends.offset, ends.matrix.diagonal(), strict=True)
    ]
    return Figure(
        "Guidance from N(0, 2^2) to N(1, 1): spread and densities; and the largest value of a guess",
        [
            Curves("deviation of films", "scale", "deviation", spreads, log_y=True),
            Curves("where films end", "film", "density", bells),
            Curves("a film of values up to 1", "scale", "largest value guessed", _thrown(scales)),
        ],
    )


def _ends(guided: Denoiser, frames: int) -> Affine:
    """Where films end, as a map of their noise."""
    return affine(lambda noise: _sampled(guided, noise, condition="asked"), frames)


def _sampled(each: Denoiser, noise: Tensor, *, condition: Any = None, steps: int = 100) -> Tensor:
    plan = full_sequence(steps, noise.shape[2])
    *_, last = sample(each, noise, plan=plan, condition=condition, sampler=Heun())
    return last.clean


def _thrown(scales: Tensor) -> list[Curve]:
    """The largest value in guesses from pure noise; the film asked for has twice the usual contrast."""
    place = torch.linspace(0, 2 * torch.pi, 33, dtype=torch.float64)[:-1]
    asked, usual = place.sin(), (place.sin() + 0.4 * place.cos()) / 2
    tight = 0.01 * torch.eye(len(place), dtype=torch.float64)
    told = Told(GaussianDenoiser(asked, tight), GaussianDenoiser(usual, tight))
    noisy, t = torch.zeros(1, 1, len(place), 1, 1, dtype=torch.float64), torch.ones(1, len(place)).double()
    ways: dict[str, Callable[[float], Denoiser]] = {
        "classifier-free": lambda scale: ClassifierFree(told, scale),
        "rescale 0.7": lambda scale: ClassifierFree(told, scale, rescale=0.7),
        "projected": lambda scale: Projected(told, scale),
    }
    return [
        Curve(name, scales, torch.stack([way(float(s))(noisy, t, "asked").max() for s in scales]))
        for name, way in ways.items()
    ]


def contrast() -> Figure:
    """a weaker model, single frames, and films without their past, as what guidance leads away from."""
    scales, motions = (
        torch.linspace(1, 4, 13, dtype=torch.float64),
        torch.linspace(0, 2, 9, dtype=torch.float64),
    )
    count = len(scales)

    def sharper(weak: float) -> Tensor:
        guided = Autoguidance(_apart(count), _apart(count, std=weak), scales.tolist())
        return _ends(guided, count).matrix.diagonal()

    weaker = [Curve(f"weak model of {weak:g}", scales, sharper(weak)) for weak in (1.25, 1.5, 2.0)]
    smooth = torch.tensor([_change(float(motion)) for motion in motions]).double()
    led = [Curve(f"weight {weight:g}", PLACES[:12], _led(weight)) for weight in (0.0, 1.0, 2.0, 4.0)]
    return Figure(
        "Guidance between models: autoguidance, temporal guidance, history guidance",
        [
            Curves("autoguidance: films of deviation 1", "scale", "deviation", weaker),
            Curves(
                "temporal: change between frames",
                "motion",
                "energy over the truth's",
                [Curve("", motions, smooth)],
                log_y=True,
            ),
            Curves("history: mean after 3 frames at 2", "frame", "mean", led),
        ],
    )


def _change(motion: float, *, frames: int = 8) -> float:
    """The mean square of one frame less the next, over the truth's; scale = motion leaves only that term."""
    video = Stationary(RHO)
    guided = TemporalGuidance(video, Framewise(video), motion=motion, scale=motion)
    made = affine(lambda noise: _sampled(guided, noise, steps=24), frames)
    return float(made.matrix.diff(dim=0).square().sum() / (frames - 1) / (2 - 2 * RHO))


def _led(weight: float, *, frames: int = 12, known: int = 3) -> Tensor:
    """The mean film, of which the first frames are known to be 2, by the weight of its history."""
    held = tuple(range(known))
    fresh = torch.zeros(1, 1, frames, 1, 1, dtype=torch.float64)
    guided = HistoryGuidance(Stationary(RHO), held, [View(weight, held)], lambda *_: fresh)
    start = fresh.clone()
    start[:, :, list(held)] = 2.0
    plan = full_sequence(64, frames).knowing(held)
    *_, last = sample(guided, start, plan=plan, sampler=Heun())
    return last.clean.flatten()


def reconstruction() -> Figure:
    """films that go on from four known frames, by every way there is, beside the truth."""
    place = torch.arange(LONG, dtype=torch.float64)
    later = (place - KNOWN + 1).clamp(min=0)
    mean, spread = 2 * SLOW**later, (1 - SLOW ** (2 * later)).sqrt()
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0, 5.0, 8.0], dtype=torch.float64)
    guided = {float(weight): _reconstructed(float(weight)) for weight in weights}
    seen = Conditioning(EXACT, frames_of(range(KNOWN)), SEEN, latest=1 - 1e-6)
    made = {"replacement": guided[0.0], "reconstruction, 2": guided[2.0], "conditioning": _continued(seen)}
    means = [Curve(name, place, each.offset) for name, each in made.items()]
    spreads = [Curve(name, place, each.covariance().diagonal().sqrt()) for name, each in made.items()]
    far = [
        Curve(
            "reconstruction",
            weights,
            torch.tensor([_far(each) for each in guided.values()]).double(),
            "marked",
            1,
        )
    ]
    return Figure(
        "Known frames: AR(1) films (0.97), of which frames 0 to 3 are known to be 2",
        [
            Curves("mean of the films", "frame", "mean", [*means, Curve("truth", place, mean, "dashes", 7)]),
            Curves(
                "deviation around it",
                "frame",
                "deviation",
                [*spreads, Curve("truth", place, spread, "dashes", 7)],
            ),
            Curves(
                "distance from the truth",
                "weight",
                "W2^2",
                [
                    *far,
                    Curve(
                        "conditioning",
                        weights,
                        torch.full_like(weights, _far(made["conditioning"])),
                        "dashes",
                        2,
                    ),
                ],
                log_y=True,
            ),
        ],
    )


def _reconstructed(weight: float) -> Affine:
    """Reconstruction guidance inside a replacement, or that alone for weight 0."""
    held = range(KNOWN)
    moved = Reconstruction(EXACT, frames_of(held), SEEN, weight=weight) if weight else EXACT
    return _continued(Replacement(moved, held, SEEN))


def _continued(each: Denoiser) -> Affine:
    return affine(lambda noise: _sampled(each, noise, steps=48), LONG)


def _far(made: Affine) -> float:
    """W2^2 of the frames that are not known."""
    new, held = slice(KNOWN, None), slice(KNOWN)
    film = EXACT.covariance
    gain = torch.linalg.solve(film[held, held], film[held, new]).T
    rest = film[new, new] - gain @ film[held, new]
    return w2(
        made.offset[new], made.covariance()[new, new], to_mean=gain @ SEEN.flatten(), to_covariance=rest
    )
