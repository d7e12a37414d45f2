"""A6: convolutions and attention over frames, against attention alone.

Both are put into the same image model (A4's), whose own weights stay as they are, and both have as many
weights to train: where there are no convolutions, a feed-forward network follows the attention.
"""

from benchmarks.ablations.image_first import TIME, grown, image_model, on_films
from benchmarks.ablations.learner import ATTENDS, made, noise_of, shape_of, unseen
from benchmarks.ablations.riders import film_numbers
from benchmarks.ablations.scale import Scale
from benchmarks.trained.experiment import Comparison, Experiment, Outcome, ratio
from benchmarks.trained.learner import clock

from mutoscope.models.unet_config import TimeConfig

__all__ = ["EXPERIMENT", "LAYERS"]

BOTH, ATTENTION = "convolutions and attention", "attention alone"
LAYERS = {BOTH: TIME, ATTENTION: TimeConfig(merge="alpha", positions="sinusoid", levels=ATTENDS, feed=True)}
NAMES = {BOTH: "frozen", ATTENTION: "frozen-attention"}


def run(unit: str, scale: Scale, seed: int) -> Outcome:
    image, _ = image_model(scale, seed)
    unet = grown(image, shape_of(scale, time=LAYERS[unit]), seed=seed, device=scale.device)
    weights = sum(weight.numel() for weight in unet.temporal_parameters())
    denoiser, seconds = on_films(NAMES[unit], unet, scale, seed, alone=True)
    began = clock(scale)
    true = unseen(scale.discs, seed, 4 * scale.films, device=scale.device)
    numbers = film_numbers(made(denoiser, noise_of(scale, seed), scale), true)
    return Outcome(seconds, clock(scale) - began, {unit: numbers | {"weights over frames": float(weights)}})


EXPERIMENT = Experiment(
    name="A6",
    title="A6: convolutions and attention over frames, against attention alone",
    published="FVD 1.32 times lower with both (2304.08818); wanted is the direction, at as many weights.",
    units=tuple(LAYERS),
    run=run,
    comparisons=(
        Comparison(f"FD: {ATTENTION} over {BOTH}", "above 1", ratio("FD", ATTENTION, BOTH), 1.0 + 1e-9),
        Comparison(
            f"turns: {ATTENTION} over {BOTH}",
            "above 1",
            ratio("turns, pixels", ATTENTION, BOTH),
            1.0 + 1e-9,
        ),
        Comparison(
            f"weights over frames: {ATTENTION} over {BOTH}",
            "0.98 to 1.02",
            ratio("weights over frames", ATTENTION, BOTH),
            0.98,
            1.02,
        ),
    ),
)
