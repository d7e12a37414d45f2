"""A1: pictures that ride with the clips.

Video Diffusion Models (2204.03458, section 2.2) adds 4 or 8 independent frames to every clip of a step: the
gradient of what a frame looks like then comes from more scenes. A step with 4 or 8 pictures costs more
frames; the arms that the paper left out spend these frames on more clips instead.
"""

from benchmarks.ablations.extension import settings_of
from benchmarks.ablations.learner import drawn, made, noise_of, unseen
from benchmarks.ablations.scale import Scale
from benchmarks.trained.experiment import Arms, Comparison, Experiment, Outcome, ratio
from benchmarks.trained.features import distance
from benchmarks.trained.learner import clock
from benchmarks.trained.state import colour_drift, measured, speed_change
from einops import rearrange
from torch import Tensor

__all__ = ["EXPERIMENT", "film_numbers", "matched"]

RIDERS = (0, 4, 8)


def _pictures(count: int) -> str:
    return f"{count} pictures"


def _clips(count: int) -> str:
    return f"as many frames as with {count}, all in clips"


UNITS = {**{_pictures(n): (n, False) for n in RIDERS}, **{_clips(n): (n, True) for n in RIDERS if n}}


def matched(scale: Scale, pictures: int) -> int:
    """How many clips a step has as many frames as one with so many pictures."""
    return round(scale.clips * (scale.frames + pictures) / scale.frames)


def run(unit: str, scale: Scale, seed: int) -> Outcome:
    pictures, instead = UNITS[unit]
    asked = settings_of(scale, pictures=pictures)
    name = f"pictures-{pictures}"
    if instead:
        asked, name = settings_of(scale, pictures=0, clips=matched(scale, pictures)), f"clips-for-{pictures}"
    denoiser, seconds = drawn(name, scale, seed=seed, asked=asked)
    began = clock(scale)
    true = unseen(scale.discs, seed, 4 * scale.films, device=scale.device)
    arms: Arms = {unit: film_numbers(made(denoiser, noise_of(scale, seed), scale), true)}
    if unit == _pictures(0):
        other = unseen(scale.discs, seed, scale.films, device=scale.device, purpose="other")
        arms["true films"] = film_numbers(other, true)
    return Outcome(seconds, clock(scale) - began, arms)


def film_numbers(film: Tensor, true: Tensor) -> dict[str, float]:
    """FD of films and of their frames, and what should not change or turn within a film."""
    state = measured(film)
    single, real = (rearrange(video, "b c f h w -> (b f) c 1 h w") for video in (film, true))
    return {
        "FD": distance(film, true),
        "FD of single frames": distance(single, real),
        "colour drift a frame": float(colour_drift(state).mean()),
        "turns, pixels": float(speed_change(state).mean()),
    }


def _falls(quantity: str, above: str, below: str, least: float) -> Comparison:
    return Comparison(
        f"{quantity}: {above} over {below}", f"at least {least:g}", ratio(quantity, above, below), least
    )


NONE, SOME, MANY = map(_pictures, RIDERS)

EXPERIMENT = Experiment(
    name="A1",
    title="A1: independent pictures beside the clips, 0, 4 and 8",
    published="FVD falls to 0.34 of its value with 4 and to 0.85 of that with 8 (2204.03458, table 4); "
    "wanted is FD(8) < FD(4) < FD(0), 1.3 times in all. More clips for the same frames: never published.",
    units=tuple(UNITS),
    run=run,
    comparisons=(
        _falls("FD", NONE, SOME, 1.0),
        _falls("FD", SOME, MANY, 1.0),
        _falls("FD", NONE, MANY, 1.3),
        _falls("FD of single frames", NONE, MANY, 1.0),
        _falls("FD", _clips(4), SOME, 1.0),
        _falls("FD", _clips(8), MANY, 1.0),
        _falls("FD of single frames", _clips(8), MANY, 1.0),
    ),
)
