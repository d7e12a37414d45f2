"""A7: latents that also compress time (4x8x8), against latents frame by frame (1x8x8).

LVDM (2211.13221) puts a 3D autoencoder under the denoiser for its efficiency: a clip of 1 + 4k frames is
1 + k latent frames. Both autoencoders see the same clips for as many steps, the 3D one with four times the
channels, and the same U-Net learns both kinds of latents; with the frames that it saves it is also trained
for as many latent frames as the other, the arm of equal compute.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from benchmarks.ablations.decoder import batches_of
from benchmarks.ablations.learner import denoiser_of, films, made, new_unet, shape_of, trained, unseen
from benchmarks.ablations.scale import Scale
from benchmarks.trained.experiment import Comparison, Experiment, Outcome, ratio
from benchmarks.trained.features import distance
from benchmarks.trained.learner import clock
from torch import Tensor

from mutoscope.data.examples import Clips, Examples
from mutoscope.diffusion.noise import draw, stream
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.coders import AutoencoderConfig
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig
from mutoscope.training.autoencoder import AutoencoderTask, ReconstructionSettings, measure_latents
from mutoscope.training.video_unet import UNetSettings, UNetTask

__all__ = ["EXPERIMENT", "Latents", "new_autoencoder"]

FLAT, DEEP, LONGER = "frame by frame", "time too", "time too, as many latent frames"
CHANNELS, BATCH = 4, 8


@dataclass(frozen=True, eq=False)
class Latents:
    """An autoencoder as two functions, to latents of deviation one and back; cost: its training's seconds."""

    autoencoder: Autoencoder | ImageAutoencoder
    mean: Tensor
    std: Tensor
    cost: float

    @torch.no_grad()
    def of(self, film: Tensor) -> Tensor:
        return (self.autoencoder.encode(film).mode() - self.mean) / self.std

    @torch.no_grad()
    def film(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents * self.std + self.mean).clamp(-1, 1)


def run(unit: str, scale: Scale, seed: int) -> Outcome:
    scale = replace(scale, frames=scale.frames + 1)  # 1 + 4k frames
    deep = unit != FLAT
    latents = _latents(deep, scale, seed)
    true = unseen(scale.discs, seed, scale.films, device=scale.device)
    there = latents.of(true)
    ratio_of_frames = scale.frames / there.shape[2]
    steps = round(scale.steps * (ratio_of_frames if unit == LONGER else 1))
    denoise, seconds = _denoiser(unit, latents, tuple(there.shape[1:]), scale=scale, seed=seed, steps=steps)
    began = clock(scale)
    seeds = [stream(seed, f"films {number}") for number in range(scale.films)]
    film = latents.film(denoise(draw(seeds, tuple(there.shape[1:]), device=scale.device)))
    numbers = {
        "PSNR of reconstructions": _psnr(latents.film(there), true),
        "latent places a film": float(there[0, 0].numel()),
        "numbers a film": float(there[0].numel()),
        "steps a second": steps / seconds,
        "FD": distance(film, true),
    }
    return Outcome(latents.cost + seconds, clock(scale) - began, {unit: numbers})


def new_autoencoder(deep: bool, scale: Scale) -> Autoencoder | ImageAutoencoder:
    """Eight times smaller each way, the deep one four times in time too, with four times the channels."""
    width = scale.coder_width
    if not deep:
        config = ImageAutoencoderConfig(
            widths=(width, 2 * width, 2 * width, 2 * width), blocks=1, z_dim=CHANNELS, groups=8,
            attention=False,
        )  # fmt: skip
        return ImageAutoencoder(config)
    return Autoencoder(
        AutoencoderConfig(base_dim=width, dim_mult=(1, 2, 2, 2), num_res_blocks=1, z_dim=4 * CHANNELS)
    )


def _latents(deep: bool, scale: Scale, seed: int) -> Latents:
    torch.manual_seed(seed)
    autoencoder = new_autoencoder(deep, scale).to(scale.device)
    batches = batches_of(films(scale.discs, seed), BATCH)
    task = AutoencoderTask(autoencoder, batches, settings=ReconstructionSettings(batch=BATCH))
    name = f"latents-{'deep' if deep else 'flat'}"
    cost = trained(task, name, scale, seed=seed, steps=2 * scale.steps)
    told = measure_latents(autoencoder, batches, count=4)
    mean, std = (part.view(1, -1, 1, 1, 1).to(scale.device) for part in (told.mean, told.std))
    return Latents(autoencoder, mean, std, cost)


def _denoiser(
    unit: str, latents: Latents, shape: tuple[int, ...], *, scale: Scale, seed: int, steps: int
) -> tuple[Callable[[Tensor], Tensor], float]:
    unet = new_unet(
        shape_of(scale, in_channels=shape[0], out_channels=shape[0]), seed=seed, device=scale.device
    )
    asked = UNetSettings(clips=scale.clips, frames=shape[1], unconditional=0)
    task = UNetTask(unet, None, settings=asked, clips=_encoded(scale, latents, seed), seed=seed)
    name = {FLAT: "on-flat", DEEP: "on-deep", LONGER: "on-deep-longer"}[unit]
    seconds = trained(task, name, scale, seed=seed, steps=steps)
    return lambda noise: made(denoiser_of(unet, asked), noise, scale), seconds


def _encoded(scale: Scale, latents: Latents, seed: int) -> Clips:
    clips = films(scale.discs, seed)

    def examples(step: int, count: int) -> Examples:
        found = clips(step, count)
        return Examples(latents.of(found.clean.to(scale.device)).cpu(), found.captions)

    return examples


def _psnr(film: Tensor, true: Tensor) -> float:
    """In decibels; pixels are in [-1, 1]."""
    return float(10 * torch.log10(4 / (film - true).square().mean()))


EXPERIMENT = Experiment(
    name="A7",
    title="A7: latents that also compress time, against frame by frame",
    published="the efficiency of LVDM's 3D autoencoder (2211.13221); wanted are four times fewer places at "
    "the same PSNR (fewer by 3 in short clips, whose first frame stands alone), twice the steps a second.",
    units=(FLAT, DEEP, LONGER),
    run=run,
    comparisons=(
        Comparison(
            f"PSNR: {DEEP} less {FLAT}, dB",
            "at least -0.5",
            lambda a: a[DEEP]["PSNR of reconstructions"] - a[FLAT]["PSNR of reconstructions"],
            -0.5,
        ),
        Comparison(
            f"latent places: {FLAT} over {DEEP}", "at least 3", ratio("latent places a film", FLAT, DEEP), 3.0
        ),
        Comparison(
            f"steps a second: {DEEP} over {FLAT}", "at least 2", ratio("steps a second", DEEP, FLAT), 2.0
        ),
        Comparison(f"FD: {FLAT} over {DEEP}", "reported", ratio("FD", FLAT, DEEP)),
        Comparison(f"FD: {FLAT} over {LONGER}", "above 1", ratio("FD", FLAT, LONGER), 1.0 + 1e-9),
    ),
)
