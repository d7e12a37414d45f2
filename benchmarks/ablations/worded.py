"""U-Nets that read words: captions of the discs, and what they make of them."""

from dataclasses import replace
from typing import Any

import torch
from benchmarks.ablations.learner import denoiser_of, new_unet, shape_of
from benchmarks.ablations.scale import Scale
from benchmarks.trained.discs import Discs
from torch import Tensor

from mutoscope.data.examples import Clips, Examples
from mutoscope.diffusion.denoiser import NetworkDenoiser
from mutoscope.diffusion.known import Condition, channels_of
from mutoscope.diffusion.noise import stream
from mutoscope.models.text import Text, TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.unet import UNet
from mutoscope.models.words import Words
from mutoscope.training.video_unet import UNetSettings

__all__ = ["COLOURS", "Kinds", "coloured", "new_words", "text_of", "worded_unet"]

COLOURS = ("red", "green", "cyan", "violet")
"""What kinds of discs are called."""
WIDTH, TOKENS, LENGTH = 32, 260, 8


def new_words(captions: list[str], *, seed: int, device: str) -> Words:
    """A tokenizer of these captions and a small encoder whose first weights are a function of the seed."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.train(captions, TOKENS)
    config = TextEncoderConfig(
        vocabulary=tokenizer.vocabulary_size, width=WIDTH, layers=1, heads=1, head_dim=32, ffn_dim=64
    )
    return Words(tokenizer, TextEncoder(config), padded_to=LENGTH).to(device)


def worded_unet(
    scale: Scale, *, seed: int, known: bool = False, guessed: bool = False, **changes: Any
) -> UNet:
    """A U-Net that reads them; `known`: with channels and a label for what is known of a film. guessed: with
    channels for a first guess. changes: of the row's shape."""
    seen = {"in_channels": channels_of(3, guessed=guessed, known=known), "labels": int(known)}
    config = shape_of(scale, text_dim=WIDTH, **seen, **changes)
    return new_unet(config, seed=seed, device=scale.device)


def coloured(discs: Discs, seed: int, *, purpose: str = "clips") -> Clips:
    """Films without end, of which the kind of the disc is said."""

    def examples(step: int, count: int) -> Examples:
        sample = discs.draw(stream(seed, f"{purpose} {step}"), count)
        return Examples(sample.video, [COLOURS[kind] for kind in sample.kind.tolist()])

    return examples


@torch.no_grad()
def text_of(words: Words, captions: list[str]) -> Text:
    return words.say(captions, length=LENGTH)


class Kinds:
    """A network with words as one whose condition is the kinds of the films, or None for anything."""

    def __init__(self, unet: UNet, words: Words, asked: UNetSettings) -> None:
        self.denoiser, self.words = denoiser_of(unet, asked), words

    def __call__(self, noisy: Tensor, t: Tensor, kinds: Tensor | None) -> Tensor:
        said = [""] * len(noisy) if kinds is None else [COLOURS[kind] for kind in kinds.tolist()]
        return self.denoiser.network(noisy, t, Condition(text_of(self.words, said)))

    def as_denoiser(self) -> NetworkDenoiser:
        return replace(self.denoiser, network=self)
