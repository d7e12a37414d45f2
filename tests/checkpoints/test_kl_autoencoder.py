"""Image autoencoders against diffusers: same folder, same numbers, both directions, old files too."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from safetensors.torch import load_file, save_file
from torch import Tensor

from mutoscope.checkpoints import kl_autoencoder
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig
from mutoscope.video import Refusal
from tiny import stirred

LAYOUTS = {
    "SD": ImageAutoencoderConfig(widths=(32, 64), blocks=1, scaling=0.18215),
    "SD 3": ImageAutoencoderConfig(
        widths=(16, 16, 32), blocks=1, z_dim=6, groups=8, scaling=1.5305, shift=0.0609,
        after_encoder=False, before_decoder=False,
    ),
    "no attention": ImageAutoencoderConfig(
        widths=(8, 16), blocks=1, groups=4, attention=False,
        latents_mean=(0.0, 1.0, 2.0, 3.0), latents_std=(1.0, 2.0, 3.0, 4.0),
    ),
    "SVD": ImageAutoencoderConfig(widths=(32, 32), before_decoder=False, scaling=0.18215, temporal=True),
}  # fmt: skip
layouts = pytest.mark.parametrize("config", LAYOUTS.values(), ids=LAYOUTS.keys())
SD, SVD = LAYOUTS["SD"], LAYOUTS["SVD"]
FRAMES = 3


def public(config: ImageAutoencoderConfig) -> type:
    return AutoencoderKLTemporalDecoder if config.temporal else AutoencoderKL


def made(config: ImageAutoencoderConfig) -> ImageAutoencoder:
    ours = ImageAutoencoder(config)
    stirred(ours)
    return ours


def film(dtype: torch.dtype) -> Tensor:
    """Two wide films of noise: height and width differ, so that swapping them shows."""
    x = torch.rand(2, 3, FRAMES, 8, 16, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return 2 * x - 1


def row(x: Tensor) -> Tensor:
    """Frames one behind the other, as the public classes take them."""
    return x.movedim(2, 1).flatten(0, 1)


def decoded(theirs, z: Tensor) -> Tensor:
    told = {"num_frames": FRAMES} if isinstance(theirs, AutoencoderKLTemporalDecoder) else {}
    return theirs.decode(row(z), **told).sample


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


def rewrite(folder: Path, change) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: x for n, w in load_file(path).items() for name, x in [change(n, w)]}, path)


@pytest.mark.oracle
@layouts
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@torch.no_grad()
def test_diffusers_reads_what_we_write_and_computes_the_same(config, dtype, tolerance, tmp_path):
    ours = made(config)
    kl_autoencoder.save(ours, tmp_path)
    theirs, facts = public(config).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(facts.values()), facts
    ours, theirs, x = ours.to(dtype), theirs.to(dtype), film(dtype)
    wanted, found = theirs.encode(row(x)).latent_dist, ours.encode(x)
    assert difference(row(found.mean), wanted.mean) < tolerance
    assert difference(row(found.logvar), wanted.logvar) < tolerance
    assert difference(row(ours.decode(found.mean)), decoded(theirs, found.mean)) < tolerance
    assert theirs.config.scaling_factor == config.scaling


@pytest.mark.oracle
@layouts
@torch.no_grad()
def test_reads_what_diffusers_writes(config, tmp_path):
    kl_autoencoder.save(made(config), tmp_path / "ours")
    values = json.loads((tmp_path / "ours" / "config.json").read_text())
    theirs = public(config)(**{name: value for name, value in values.items() if not name.startswith("_")})
    stirred(theirs, seed=2)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, x = kl_autoencoder.load(tmp_path / "theirs"), film(torch.float32)
    z = ours.encode(x).mean
    assert difference(row(z), theirs.encode(row(x)).latent_dist.mean) < 1e-5
    assert difference(row(ours.decode(z)), decoded(theirs, z)) < 1e-5
    assert ours.config == config


@layouts
def test_names_settings_and_weights_come_back(config, tmp_path):
    ours = made(config)
    own = ours.state_dict()
    assert all(kl_autoencoder.to_ours(kl_autoencoder.to_public(name)) == name for name in own)
    kl_autoencoder.save(ours, tmp_path)
    again = kl_autoencoder.load(tmp_path)
    assert again.config == config
    assert all(torch.equal(again.state_dict()[name], x) for name, x in own.items())


@pytest.mark.oracle
@pytest.mark.parametrize("as_convolutions", [False, True])
@torch.no_grad()
def test_the_names_and_shapes_of_2022_are_read(as_convolutions, tmp_path):
    ours = made(SD)
    kl_autoencoder.save(ours, tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def aged(name: str, weight: Tensor) -> tuple[str, Tensor]:
        if ".attentions.0.to_" not in name:
            return name, weight
        for new, was in old.items():
            name = name.replace(new, was)
        return name, weight[..., None, None] if as_convolutions and weight.ndim == 2 else weight

    rewrite(tmp_path, aged)
    names = load_file(tmp_path / "diffusion_pytorch_model.safetensors").keys()
    assert any("proj_attn" in name for name in names) and not any("to_q" in name for name in names)
    again = kl_autoencoder.load(tmp_path).state_dict()
    assert all(torch.equal(again[name], x) for name, x in ours.state_dict().items())
    if not as_convolutions:  # which diffusers reads too, so the test ages files as time did
        x = film(torch.float32)
        theirs = AutoencoderKL.from_pretrained(tmp_path)
        assert difference(row(ours.encode(x).mean), theirs.encode(row(x)).latent_dist.mean) < 1e-5


def test_only_the_attention_may_come_as_a_convolution(tmp_path):
    kl_autoencoder.save(made(SD), tmp_path)
    rewrite(tmp_path, lambda n, w: (n, w[..., None] if n == "quant_conv.weight" else w))
    with pytest.raises(Refusal, match=r"quant_conv.*\(8, 8, 1, 1, 1\)"):
        kl_autoencoder.load(tmp_path)


def test_the_public_settings_stand_in_where_the_file_says_nothing():
    silent = kl_autoencoder.read_config({"_class_name": "AutoencoderKL", "shift_factor": None})
    theirs = AutoencoderKL().config
    assert silent.scaling == theirs.scaling_factor and silent.blocks == theirs.layers_per_block
    assert list(silent.widths) == list(theirs.block_out_channels) and silent.z_dim == theirs.latent_channels
    assert silent.shift == 0 and silent.attention and silent.after_encoder and silent.before_decoder


def test_statistics_of_a_temporal_decoder_travel_beside_the_public_settings(tmp_path):
    config = SVD.model_copy(update={"latents_mean": (1.0, 2.0, 3.0, 4.0), "shift": 0.5})
    kl_autoencoder.save(made(config), tmp_path)
    assert kl_autoencoder.load(tmp_path).config == config
    kl_autoencoder.save(made(SVD), tmp_path)
    theirs = set(AutoencoderKLTemporalDecoder().config)
    assert set(json.loads((tmp_path / "config.json").read_text())) - {"_class_name"} <= theirs


@pytest.mark.parametrize(
    "change, words",
    [
        ({"before_decoder": True}, "before_decoder = False.*absorb_before_decoder"),
        ({"blocks": 1}, "blocks = 2"),
        ({"groups": 16}, "groups = 32"),
        ({"attention": False}, "attention = True"),
    ],
)
def test_temporal_decoders_without_a_public_form_are_refused(change, words, tmp_path):
    with pytest.raises(Refusal, match=words):
        kl_autoencoder.save(ImageAutoencoder(SVD.model_copy(update=change)), tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"in_channels": 4}, "in_channels is 4"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, "AttnDownEncoderBlock2D"),
        ({"norm_num_groups": 24}, "24 groups"),
        ({"_class_name": "AutoencoderTiny"}, "AutoencoderTiny"),
        ({"_class_name": "AutoencoderKLTemporalDecoder", "layers_per_block": 3}, "layers_per_block is 3"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(change, words, tmp_path):
    kl_autoencoder.save(made(SD), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Refusal, match=words):
        kl_autoencoder.load(tmp_path)
