"""A3: how strongly a caption should guide.

Video Diffusion Models (2204.03458, table 5): FVD is best at scale 2 and 4 times worse at 6, while single
frames look surer all the way. Kinds of discs are hues that overlap. Beside classifier-free guidance stand
guidance in a band of times only and autoguidance, by half the channels and a quarter of the steps.
"""

from dataclasses import replace

from benchmarks.ablations.learner import trained
from benchmarks.ablations.scale import Scale, narrower
from benchmarks.ablations.worded import COLOURS, Kinds, coloured, new_words, worded_unet
from benchmarks.trained.experiment import Arms, Comparison, Experiment, Outcome
from benchmarks.trained.guidance import WAYS, compared
from benchmarks.trained.learner import clock

from mutoscope.diffusion.denoiser import NetworkDenoiser
from mutoscope.training.video_unet import UNetSettings, UNetTask

__all__ = ["EXPERIMENT", "STRENGTHS"]

STRENGTHS = (1.5, 2.0, 3.0, 6.0)


def run(unit: str, scale: Scale, seed: int) -> Outcome:
    main, seconds = _learned("kinds", scale, seed, scale.steps)
    weak, more = _learned("kinds-weak", narrower(scale), seed, max(1, scale.steps // 4))
    began, scale = clock(scale), replace(scale, films=2 * scale.films // 3)
    arms = compared(main, weak, scale=scale, seed=seed, strengths=STRENGTHS)
    return Outcome(seconds + more, clock(scale) - began, arms)


def _learned(name: str, scale: Scale, seed: int, steps: int) -> tuple[NetworkDenoiser, float]:
    words = new_words(list(COLOURS), seed=seed, device=scale.device)
    unet = worded_unet(scale, seed=seed)
    asked = UNetSettings(
        clips=scale.clips, frames=scale.frames, pictures=4, unconditional=0.15, text_length=8
    )
    task = UNetTask(
        unet, words, settings=asked, clips=coloured(scale.discs, seed),
        pictures=coloured(replace(scale.discs, frames=1), seed, purpose="pictures"), seed=seed,
    )  # fmt: skip
    seconds = trained(task, name, scale, seed=seed, steps=steps)
    return Kinds(unet, words, asked).as_denoiser(), seconds


def _best(arms: Arms, way: str) -> float:
    return min(arms[f"{way} {strength:g}"]["FD"] for strength in STRENGTHS)


def _sure(arms: Arms, arm: str) -> float:
    return arms[arm]["right kind"]


def _above_one(label: str, value) -> Comparison:
    return Comparison(label, "above 1", value, 1.0 + 1e-9)


CFG, INTERVAL, AUTO = WAYS
FIRST, LAST = (f"{CFG} {strength:g}" for strength in (STRENGTHS[0], STRENGTHS[-1]))

EXPERIMENT = Experiment(
    name="A3",
    title="A3: the scale of guidance",
    published="FVD is a U, best at scale 2 and 4 times worse at 6, per-frame sureness rises all the way "
    "(2204.03458, table 5); autoguidance <= interval <= classifier-free <= none (2406.02507, 2404.07724).",
    units=("both networks",),
    run=run,
    comparisons=(
        _above_one("FD: none over the best classifier-free", lambda a: a["none"]["FD"] / _best(a, CFG)),
        _above_one(f"FD: {LAST} over the best classifier-free", lambda a: a[LAST]["FD"] / _best(a, CFG)),
        Comparison(
            f"right kind: {LAST} less none",
            "above 0",
            lambda a: _sure(a, LAST) - _sure(a, "none"),
            1e-9,
        ),
        Comparison(
            f"right kind: {LAST} less {FIRST}", "at least 0", lambda a: _sure(a, LAST) - _sure(a, FIRST), 0.0
        ),
        _above_one(
            "FD: best classifier-free over the best interval", lambda a: _best(a, CFG) / _best(a, INTERVAL)
        ),
        _above_one(
            "FD: best interval over the best autoguidance", lambda a: _best(a, INTERVAL) / _best(a, AUTO)
        ),
    ),
)
