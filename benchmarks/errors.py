"""How wrong a U-Net's guesses are at each level of noise, and what its words and other frames are worth.

    python benchmarks/errors.py RUN/model [OTHER/model ...] --clips 8

Of models that make films of pixels, and of stages of a cascade. True clips of the made world that no training
drew, at the model's size, length and rate, are made noisy, and the network guesses them:

    error(t) = mean (guess - clean)^2 / sigma(t)^2

That is the squared error of a velocity (where alpha^2 + sigma^2 is 1), whatever the network predicts, so
models of different predictions compare. It is 1 at low noise for a network that leaves the noise as it is.
Films are in the colours of the model's process; models of other colours know other noise, and do not compare.
Clips and noise are the same for every model of one size and at every level.

    its words    each clip with its own caption (of a stage: with what it is shown)
    others'      with the caption of the next clip
    none         with no caption
    apart        its words, each frame as a picture that sees no other
    linear       no network: the best linear guess of a patch from that patch (`diffusion.linear`), fitted to
                 96 other clips; patches are those of the model's first guess, or of its network
    with film    from that patch and from what all frames share of it
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mutoscope.checkpoints.unet_folder import UNetModel, load_unet_model
from mutoscope.data.captions import full_caption
from mutoscope.data.loader import WorldSource
from mutoscope.data.world import VOCABULARIES
from mutoscope.diffusion.known import Condition, Conditioned, Known
from mutoscope.diffusion.linear import Linear
from mutoscope.diffusion.process import Process
from mutoscope.models.memory import keep_memory
from mutoscope.training.known import KnownSettings

UNSEEN, FITTED = 5000, 6000  # the seeds of the clips, and of those that linear guesses are fitted to
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.999)


@dataclass(frozen=True)
class Measured:
    """A model and the clips that it is measured on."""

    model: UNetModel
    clean: Float[Tensor, "b c f h w"]
    captions: Sequence[str]

    @classmethod
    def on(cls, model: UNetModel, clips: int, *, seed: int = UNSEEN) -> "Measured":
        facts = model.facts
        words = VOCABULARIES[facts.vocabulary]
        source = WorldSource(words, frames=facts.frames, size=facts.size, fps=facts.fps, seed=seed)
        batch = source.batch(0, clips)
        return cls(model, facts.process.coded(batch.video), [full_caption(scene) for scene in batch.scenes])

    def ways(self) -> Iterator[tuple[str, list[str], bool]]:
        """Names of rows, with the captions and whether frames are apart."""
        own = list(self.captions)
        yield ("its words" if self.model.words else "as it is"), own, False
        if self.model.words:
            if len(own) > 1:
                yield "others'", own[1:] + own[:1], False
            yield "none", [""] * len(own), False
        if self.model.stage is None and self.clean.shape[2] > 1:
            yield "apart", own, True

    def errors(self, captions: list[str], *, apart: bool) -> list[float]:
        """One a level."""
        return [self._error(captions, apart=apart, t=t) for t in LEVELS]

    @torch.no_grad()
    def _error(self, captions: list[str], *, apart: bool, t: float) -> float:
        process, frames = self.model.facts.process, self.clean.shape[2]
        denoiser = process.denoiser(Conditioned(self.model.unet, process, self.model.linear))
        squares, count = 0.0, 0
        for sample, clean in enumerate(self.clean.split(1)):
            generator = torch.Generator().manual_seed(sample)
            noise = torch.randn(clean.shape, generator=generator)
            times = torch.full((1, frames), t)
            level = denoiser.schedule.level(times)
            known = self._known(clean, generator)
            text = self.model.words.say(captions[sample : sample + 1]) if self.model.words else None
            images = torch.ones(1, frames, dtype=torch.bool) if apart else None
            guess = denoiser(level.mix(clean, noise), times, Condition(text, known, images))
            asked = ~known.which[0] if known is not None and known.stands else slice(None)
            wrong = ((guess - clean)[:, :, asked] / level.sigma[0, 0]).square()
            squares, count = squares + float(wrong.double().sum()), count + wrong.numel()
        return squares / count

    def _known(self, clean: Tensor, generator: torch.Generator) -> Known | None:
        stage = self.model.stage
        if stage is None:
            return None
        asked = (
            KnownSettings(kind="small", factor=stage.factor)
            if stage.kind == "larger"
            else KnownSettings(kind="interpolation", every=stage.factor)
        )
        schedule = self.model.facts.process.noising()
        known = asked.draw(clean, pictures=0, generator=generator, schedule=schedule)
        if not stage.noise:
            return known
        noise = torch.randn(clean.shape, generator=generator)
        return known.noised(torch.full((1,), stage.noise), noise, schedule=schedule)


def linear(measured: Measured, clips: int = 96) -> Iterator[tuple[str, list[float]]]:
    """What needs no network, of models that make films of nothing: a row each."""
    model, clean = measured.model, measured.clean
    if model.stage is not None:
        return
    others = Measured.on(model, clips, seed=FITTED).clean
    best = Linear.fitted(others, patch=model.linear.patch if model.linear else model.unet.config.patch_size)
    apart = torch.ones(len(clean), clean.shape[2], dtype=torch.bool)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for name, images in (("linear", apart), ("with film", None))[: 1 + (clean.shape[2] > 1)]:
        yield name, [_linear_error(best, clean, noise, t, model.facts.process, images) for t in LEVELS]


def _linear_error(
    best: Linear, clean: Tensor, noise: Tensor, t: float, process: Process, images: Tensor | None
) -> float:
    level = process.noising().level(torch.full((len(clean), clean.shape[2]), t, dtype=torch.float64))
    guess = best.guess(level.mix(clean, noise), level, images=images).film
    return float((guess - clean).double().square().mean() / level.sigma[0, 0] ** 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+", help="folders")
    parser.add_argument("--clips", type=int, default=8)
    options = parser.parse_args()
    keep_memory()
    for folder in options.models:
        measured = Measured.on(load_unet_model(folder), options.clips)
        measured.model.unet.eval()
        print(f"{folder}, {options.clips} clips")
        print(f"{'t':12}" + "".join(f"{t:>8}" for t in LEVELS))
        for name, captions, apart in measured.ways():
            print(row(name, measured.errors(captions, apart=apart)), flush=True)
        for name, cells in linear(measured):
            print(row(name, cells), flush=True)


def row(name: str, cells: Sequence[float]) -> str:
    return f"{name:12}" + "".join(f"{value:8.4f}" for value in cells)


if __name__ == "__main__":
    main()
