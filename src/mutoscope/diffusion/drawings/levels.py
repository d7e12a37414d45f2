"""Drawings of noise levels: `schedule`, `betas`, `process`, `colours`, `prediction` and `objective`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mutoscope.diffusion.betas import Betas, linear_betas, scaled_linear_betas, spaced, zero_terminal
from mutoscope.diffusion.colours import rgb
from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure
from mutoscope.diffusion.objective import TrainingTimes, Weighting, fused
from mutoscope.diffusion.plan import staggered, uniform
from mutoscope.diffusion.prediction import Prediction, target, to_clean, to_noise
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Edm, Sigmoid, shift

TIMES = torch.linspace(0, 1, 201, dtype=torch.float64)
INNER = TIMES[1:-1]


def schedule() -> Figure:
    """how much of the film is left at time t, on every schedule, and what a shift does to time."""
    known = {"straight": STRAIGHT, "cosine": Cosine(), "sigmoid": Sigmoid()}
    shares = [Curve(name, TIMES, each.alpha(TIMES), colour=n) for n, (name, each) in enumerate(known.items())]
    shares += [Curve("", TIMES, each.sigma(TIMES), "dashes", n) for n, each in enumerate(known.values())]
    ratios = [Curve(name, INNER, each.log_snr(INNER)) for name, each in known.items()]
    ratios.append(Curve("EDM, rho 7", TIMES, Edm().log_snr(TIMES)))
    shifts = [Curve(f"a = {a}", TIMES, shift(TIMES, a)) for a in (1, 2, 3, 5, 8)]
    return Figure(
        "Schedules: what is left of the film, as log-SNR, and shifted towards noise",
        [
            Curves("alpha (lines) and sigma (dashes)", "t", "factor", shares),
            Curves("log-SNR = 2 ln(alpha / sigma)", "t", "log-SNR", ratios),
            Curves("shift(t, a) = a t / (1 + (a - 1) t)", "t", "shifted t", shifts),
        ],
    )


def betas() -> Figure:
    """tables of betas: where they end, which steps are taken of them, and the brightness that it costs."""
    stable = scaled_linear_betas()
    known = {
        "DDPM": linear_betas(),
        "Stable Diffusion": stable,
        "LVDM": scaled_linear_betas(start=0.0015, end=0.0155),
    }
    known |= {"SD, zero terminal": zero_terminal(stable)}
    late = TIMES[-61:]
    taken = [
        Curve("", spaced(10, spacing=spacing), torch.full((11,), row, dtype=torch.float64), "dots")
        for row, spacing in enumerate(("trailing", "leading", "linspace"))
    ]
    sizes = torch.logspace(3, 6, 10, dtype=torch.float64)
    bright = [Curve(name, sizes, _brightness(table, sizes)) for name, table in known.items()]
    return Figure(
        "Tables of betas: signal left at their end, 10 steps of 1,000, and the brightness that is lost",
        [
            Curves(
                "alpha near the end of the table",
                "t",
                "alpha",
                [Curve(n, late, b.alpha(late)) for n, b in known.items()],
            ),
            Curves(
                "brightness that comes out of pure noise",
                "values in a film",
                "generated / true deviation",
                bright,
                log_x=True,
            ),
            Curves("levels of 10 steps", "t", "", taken, rows=("trailing", "leading", "linspace")),
        ],
    )


def _brightness(table: Betas, sizes: Tensor, *, deviation: float = 0.3) -> Tensor:
    """By sampling films of one brightness from pure noise, every size as a frame of its own: their mean times
    sqrt(N) is one number, of variance (N + 1) deviation^2."""
    variance = (sizes + 1) * deviation**2
    denoiser = GaussianDenoiser(torch.zeros_like(variance), torch.diag(variance), table)
    one = torch.ones(1, 1, len(sizes), 1, 1, dtype=torch.float64)
    plan = staggered(uniform(50, shift=10.0), len(sizes), lag=0)
    *_, last = sample(denoiser, one, plan=plan, sampler=Heun())
    return last.clean.flatten() / variance.sqrt()


def process() -> Figure:
    """the processes that models are trained in: their log-SNR, and the number that tells them the time."""
    known = {
        "cosine, limit 20": Process(),
        "straight": Process(schedule="straight", prediction="flow"),
        "scaled linear": Process(schedule="scaled_linear", prediction="noise"),
        "the same, zero terminal": Process(schedule="scaled_linear", zero_terminal=True),
        "100 steps": Process(schedule="linear", steps=100, betas=(1e-3, 0.2)),
    }
    ratios = [Curve(name, INNER, each.noising().log_snr(INNER)) for name, each in known.items()]
    clocks = [Curve(name, TIMES, each.clock(TIMES)) for name, each in known.items()]
    return Figure(
        "Processes: how noisy their films are, and their clocks",
        [
            Curves("log-SNR = 2 ln(alpha / sigma)", "t", "log-SNR", ratios),
            Curves("what the network is told", "t", "clock", clocks),
        ],
        across=2,
    )


def colours() -> Figure:
    """how far brightness and two colours of films stand out of the noise, in RGB and in opponent colours."""
    names, level = ("brightness", "red against blue", "green against both"), Cosine().log_snr(INNER)
    coded = torch.eye(3, dtype=torch.float64)  # one deviation of each
    films = rgb(coded[..., None, None, None])

    def each(films: Tensor) -> list[Curve]:
        sizes = zip(names, films.flatten(1).norm(dim=1), strict=True)
        return [Curve(name, INNER, level + 2 * size.log()) for name, size in sizes]

    return Figure(
        "Colours: films of the made world and noise, in RGB and in opponent colours",
        [
            Curves("log-SNR in RGB", "t", "log-SNR", each(films)),
            Curves("log-SNR in opponent colours", "t", "log-SNR", each(coded)),
        ],
        across=2,
    )


def prediction() -> Figure:
    """what an error of a network is in the film and in the noise, and how large what it is asked for is."""
    kinds: Sequence[Prediction] = ("clean", "noise", "flow", "velocity", "score")
    level = Cosine().level(INNER[None])
    zero, one = (torch.full((1, 1, len(INNER), 1, 1), v, dtype=torch.float64) for v in (0.0, 1.0))

    def said(into, kind: Prediction) -> Tensor:
        change = into(kind, one, noisy=zero, level=level) - into(kind, zero, noisy=zero, level=level)
        return change.flatten().abs()

    def asked(kind: Prediction) -> Tensor:
        film = target(kind, clean=one * 0.5, noise=zero, level=level)
        return torch.hypot(film, target(kind, clean=zero, noise=one, level=level)).flatten()

    return Figure(
        "Predictions on the cosine schedule: what an error of 1 costs, and what is asked for",
        [
            Curves(
                "error in the clean film",
                "t",
                "for an error of 1",
                _named(kinds, lambda k: said(to_clean, k)),
                log_y=True,
            ),
            Curves(
                "error in the noise",
                "t",
                "for an error of 1",
                _named(kinds, lambda k: said(to_noise, k)),
                log_y=True,
            ),
            Curves("size of the target, films of 0.5", "t", "deviation", _named(kinds, asked), log_y=True),
        ],
    )


def _named(kinds: Sequence[Prediction], value) -> list[Curve]:
    return [Curve(kind, INNER, value(kind)) for kind in kinds]


def objective() -> Figure:
    """at which times a network is trained, how much its errors count there, and what a past changes."""
    times = {
        "uniform": TrainingTimes(distribution="uniform"),
        "logit-normal": TrainingTimes(),
        "the same, shift 3": TrainingTimes(shift=3.0),
        "EDM's log-normal": TrainingTimes(distribution="log_normal", mean=-1.2, std=1.2),
    }
    weights = {
        "none": Weighting(),
        "min-SNR, gamma 5": Weighting(name="min_snr"),
        "sigmoid, gamma 5": Weighting(name="sigmoid"),
        "EDM, std 0.5": Weighting(name="edm"),
    }
    level = STRAIGHT.level(INNER[None])
    return Figure(
        "Training: at which times, with which weight, and how easy a past makes a frame",
        [
            Curves("times drawn", "t", "density", [_density(name, drawn) for name, drawn in times.items()]),
            Curves(
                "weight of the flow's squared error",
                "t",
                "weight",
                [Curve(name, INNER, weight("flow", level)[0]) for name, weight in weights.items()],
            ),
            Curves(
                "fused SNR: the last of 16 frames",
                "its t",
                "t of a frame alone, as easy",
                [_eased(past) for past in (1.0, 0.8, 0.6, 0.3)],
            ),
        ],
    )


def _density(name: str, times: TrainingTimes, *, bins: int = 30) -> Curve:
    drawn = times.draw(200_000, 1, generator=torch.Generator().manual_seed(0)).flatten()
    share = torch.histc(drawn, bins, 0, 1) / len(drawn) * bins
    return Curve(name, (torch.arange(bins, dtype=torch.float64) + 0.5) / bins, share.double())


def _eased(past: float) -> Curve:
    """For every time of the last frame, with all frames before it at the time `past`."""
    t = torch.full((len(INNER), 16), past, dtype=torch.float64)
    t[:, -1] = INNER
    alone = fused(STRAIGHT.level(t))
    return Curve(
        f"frames before at t = {past:g}", INNER, STRAIGHT.time(2 * (alone.alpha / alone.sigma).log())[:, -1]
    )
