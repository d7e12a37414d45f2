"""A9: noise on what is known, so that a network does not trust its own mistakes.

LVDM (2211.13221, section 3.3) trains prediction with the known frames as noisy as at a time s in [0, smax]
and tells the network s; a roll-out shows what it made as if it were noisy at some s. All arms cost the same.
What should never change, the disc's colours and size, is compared with the first frame's over eight lengths.
"""

from dataclasses import replace

import torch
from benchmarks.ablations.learner import (
    denoiser_of,
    films,
    made,
    new_unet,
    noise_of,
    shape_of,
    trained,
    unseen,
)
from benchmarks.ablations.scale import Scale
from benchmarks.ablations.windows import long_numbers, rolled
from benchmarks.trained.experiment import Arms, Comparison, Experiment, Outcome
from benchmarks.trained.learner import clock
from benchmarks.trained.rollout import drift
from benchmarks.trained.state import measured
from torch import Tensor

from mutoscope.diffusion.denoiser import NetworkDenoiser
from mutoscope.diffusion.known import Condition, Known
from mutoscope.training.known import KnownSettings
from mutoscope.training.video_unet import UNetSettings, UNetTask

__all__ = ["EXPERIMENT", "rolled_out", "settings_of"]

CLEAN, NOISY = "known frames clean", "known frames noisy to 0.25"
MOST = {CLEAN: 0.0, NOISY: 0.25}
SHOWN = (0.0, 0.05, 0.1)
LENGTH = 8
DRIFT = "drift a clip's length"


def run(unit: str, scale: Scale, seed: int) -> Outcome:
    unet = new_unet(shape_of(scale, in_channels=7, labels=1), seed=seed, device=scale.device)
    asked = settings_of(unit, scale)
    task = UNetTask(unet, None, settings=asked, clips=films(scale.discs, seed), seed=seed)
    seconds = trained(task, f"known-{MOST[unit]:g}", scale, seed=seed)
    began, scale = clock(scale), replace(scale, films=max(2, scale.films // 3))
    discs = replace(scale.discs, frames=LENGTH * scale.frames)
    true = unseen(discs, seed, scale.films, device=scale.device)
    arms: Arms = {}
    for shown in SHOWN if MOST[unit] else SHOWN[:1]:
        film = rolled_out(denoiser_of(unet, asked), true, shown=shown, scale=scale, seed=seed)
        arms[_arm(unit, shown)] = _numbers(film, true, scale)
    return Outcome(seconds, clock(scale) - began, arms)


def settings_of(unit: str, scale: Scale) -> UNetSettings:
    """Half of a clip is known, as noisy as at a time up to the unit's."""
    known = KnownSettings(kind="prediction", context=(scale.frames // 2,), noise=MOST[unit])
    return UNetSettings(clips=scale.clips, frames=scale.frames, unconditional=0, known=known)


def rolled_out(denoiser: NetworkDenoiser, true: Tensor, *, shown: float, scale: Scale, seed: int) -> Tensor:
    """A film as long as the true ones that begins as they do; what is known is shown as at time `shown`."""
    past = scale.frames // 2
    which = torch.arange(scale.frames, device=true.device) < past

    def fill(known: Tensor, number: int) -> Tensor:
        noise = noise_of(scale, seed, purpose=f"window {number}")
        clip = torch.cat([known, torch.zeros_like(noise[:, :, past:])], dim=2)
        told = Known.frames(clip, which.expand(len(clip), -1))
        if shown:
            own = noise_of(scale, seed, purpose=f"known {number}")
            level = torch.full((len(clip),), shown, device=clip.device)
            told = told.noised(level, own, schedule=denoiser.schedule)
        new = made(denoiser, noise, scale, condition=Condition(known=told))
        return torch.cat([known, new[:, :, past:]], dim=2)

    return rolled(fill, true[:, :, :past], past=past, length=true.shape[2])


def _arm(unit: str, shown: float) -> str:
    return unit if not MOST[unit] else f"{unit}, shown at {shown:g}"


def _numbers(film: Tensor, true: Tensor, scale: Scale) -> dict[str, float]:
    state, first, frames = measured(film), measured(film[:, :, :1]), scale.frames
    near = drift(state, first, frames=slice(frames, 2 * frames))
    far = drift(state, first, frames=slice(-frames, None))
    slope = {DRIFT: (far - near) / (LENGTH - 2)}
    return slope | long_numbers(film, true, frames=frames)


def _best(arms: Arms) -> str:
    """The level shown that loses least of the disc's size, which is not what is compared."""
    shown = [_arm(NOISY, level) for level in SHOWN]
    return min(shown, key=lambda arm: arms[arm]["disc's size off at the end"])


def _over(quantity: str) -> Comparison:
    return Comparison(
        f"{quantity}: {CLEAN} over {NOISY}, shown as loses least of the disc's size",
        "above 1",
        lambda arms: arms[CLEAN][quantity] / arms[_best(arms)][quantity],
        1.0 + 1e-9,
    )


EXPERIMENT = Experiment(
    name="A9",
    title="A9: noise on the known frames, in roll-outs of eight lengths",
    published="longer films stay good (LVDM, 2211.13221, qualitative); wanted is an error that grows more "
    "slowly.",
    units=tuple(MOST),
    run=run,
    comparisons=(_over(DRIFT), _over("colour drift at the end"), _over("FD of the end")),
)
