"""A whole model of sixty thousand random numbers, for tests: it makes films of nothing in a tenth of a
second.

Every weight is random, those included that begin at zero, so that prompt, noise and every layer change the
film.
"""

import torch
from torch import nn

from mutoscope.checkpoints.folder import Model, ModelFacts
from mutoscope.checkpoints.unet_folder import UNetModel
from mutoscope.diffusion.known import channels_of
from mutoscope.diffusion.linear import Linear
from mutoscope.diffusion.process import Process
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.coders import AutoencoderConfig
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.models.unet import UNet, UNetConfig
from mutoscope.models.unet_config import vdm
from mutoscope.models.words import Words

CAPTIONS = ["a man walking in the rain", "a woman in a red coat running in the snow", "a child at night"]
FACTS = ModelFacts(
    name="tiny",
    fps=12,
    size=(32, 32),
    frames=9,
    steps=3,
    guidance=3.0,
    padded_to=24,
    vocabulary="three captions",
)


def tiny_model(seed: int = 0, *, facts: ModelFacts = FACTS) -> Model:
    """The same model for the same seed: 32x32 pixels, 9 frames, space stride 8, patches of 2 latents."""
    generator = torch.Generator().manual_seed(seed)
    tokenizer = Tokenizer.train(CAPTIONS, 280)
    autoencoder = Autoencoder(
        AutoencoderConfig(
            base_dim=4,
            z_dim=4,
            dim_mult=(1, 1, 1, 2),
            num_res_blocks=1,
            latents_mean=(0.1, -0.2, 0.0, 0.3),
            latents_std=(1.1, 0.9, 1.3, 0.7),
        )
    )
    transformer = Transformer(
        TransformerConfig(
            heads=2, head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32,
            layers=2, patch_size=(1, 2, 2),
        )
    )  # fmt: skip
    encoder = TextEncoder(
        TextEncoderConfig(vocabulary=280, width=16, layers=1, heads=2, head_dim=8, ffn_dim=16)
    )
    for module in (autoencoder, transformer, encoder):
        scramble(module, generator)
    words = Words(tokenizer, encoder, padded_to=facts.padded_to)
    return Model(transformer, words, autoencoder, shift=3.0, facts=facts)


def tiny_unet_model(
    seed: int = 0, *, known: bool = False, words: bool = True, linear: bool = False
) -> UNetModel:
    """A U-Net on pixels: 16x16, 8 frames. known: with channels for known frames. linear: with a first guess,
    of patches of 4 pixels."""
    generator = torch.Generator().manual_seed(seed)
    config = UNetConfig(
        in_channels=channels_of(3, guessed=linear, known=known), out_channels=3, channels=(8, 16), layers=1,
        attention=(False, True), heads=(2, 2), groups=4, time=vdm(), text_dim=16 if words else None,
        labels=int(known), label_dim=8,
    )  # fmt: skip
    encoder = TextEncoder(
        TextEncoderConfig(vocabulary=280, width=16, layers=1, heads=2, head_dim=8, ffn_dim=16)
    )
    unet = UNet(config)
    for module in (unet, encoder):
        scramble(module, generator)
    facts = FACTS.model_copy(update={"size": (16, 16), "frames": 8, "process": Process()})
    told = Words(Tokenizer.train(CAPTIONS, 280), encoder, padded_to=24) if words else None
    films = torch.rand(8, 3, 4, 16, 16, generator=generator) - 0.5
    return UNetModel(unet, told, facts, linear=Linear.fitted(films, patch=4) if linear else None)


@torch.no_grad()
def scramble(module: nn.Module, generator: torch.Generator) -> None:
    """Matrices that keep the size of what they see; gains near one, all else near zero."""
    for name, weight in module.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim >= 2 and "modulation" not in name:
            weight.copy_(noise * weight[0].numel() ** -0.5)
        elif "norm" in name or "gain" in name:
            weight.copy_(1 + 0.1 * noise)
        else:
            weight.copy_(0.1 * noise)
    module.eval()


def stirred(module: nn.Module, *, seed: int = 0) -> None:
    """Noise on all weights, so that gains of 1 and zero initialisations cannot hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
