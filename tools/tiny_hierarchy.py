"""A whole hierarchy of random numbers, for tests: key frames, two rounds between, four times as large."""

from dataclasses import replace

import torch

from mutoscope.checkpoints.hierarchy_folder import HierarchyFacts, HierarchyModel
from mutoscope.diffusion.process import Process
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import UNetConfig, align
from mutoscope.models.words import Words
from tiny import CAPTIONS, FACTS, scramble

CHAIN = HierarchyFacts(
    keys=4, context=2, context_guidance=1.5, context_noise=0.05, every=2, rounds=2, span=3, scale=2,
    chunk=4, overlap=2, steps_between=2, steps_larger=2,
)  # fmt: skip


def tiny_hierarchy(
    seed: int = 0, *, chain: HierarchyFacts = CHAIN, parts: tuple[str, ...] = ("interpolation", "upscaler")
) -> HierarchyModel:
    """The same model for the same seed: 13 frames of 16x16 pixels, decoded at 8x8 from latents of 4x4."""
    generator = torch.Generator().manual_seed(seed)
    config = ImageAutoencoderConfig(
        widths=(32, 32), z_dim=4, before_decoder=False, temporal=True, latents_mean=(0.1, -0.2, 0.0, 0.3),
        latents_std=(1.1, 0.9, 1.3, 0.7),
    )  # fmt: skip
    key = UNetConfig(
        in_channels=9, out_channels=4, channels=(8, 16), layers=1, attention=(False, True), heads=(2, 2),
        groups=4, time=align(), text_dim=16, labels=1, label_dim=8,
    )  # fmt: skip
    large = key.model_copy(update={"in_channels": 7, "out_channels": 3, "text_dim": None})
    text = TextEncoderConfig(vocabulary=280, width=16, layers=1, heads=2, head_dim=8, ffn_dim=16)
    words = Words(Tokenizer.train(CAPTIONS, 280), TextEncoder(text), padded_to=24)
    facts = FACTS.model_copy(update={"size": (16, 16), "frames": 13, "process": Process(), "name": "tiny"})
    unets = UNet(key), UNet(key), UNet(large)
    model = HierarchyModel(
        unets[0], ImageAutoencoder(config), words, interpolation=unets[1], upscaler=unets[2], facts=facts,
        hierarchy=chain,
    )  # fmt: skip
    for module in (model.autoencoder, words.encoder, *unets):
        scramble(module, generator)
    left = {name: None for name in ("interpolation", "upscaler") if name not in parts}
    return replace(model, **left)
