"""The autoencoder against `AutoencoderKLWan` of diffusers: same folder, same numbers, both directions."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from mutoscope.checkpoints import wan_autoencoder
from mutoscope.models.autoencoder import Autoencoder, AutoencoderConfig
from mutoscope.video import Refusal
from tiny import stirred

PLAIN = AutoencoderConfig(base_dim=4, z_dim=2, num_res_blocks=1)
LAYOUTS = {
    "Wan 2.1": PLAIN,
    "Wan 2.1, two blocks": AutoencoderConfig(
        base_dim=4, z_dim=3, dim_mult=(1, 2, 4), temporal_downsample=(True, False)
    ),
    "Wan 2.2": AutoencoderConfig(base_dim=4, decoder_base_dim=8, z_dim=2, patch_size=2, residual=True),
    "ours": AutoencoderConfig(
        base_dim=4, z_dim=4, dim_mult=(1, 2, 2), temporal_downsample=(True, True), patch_size=4, residual=True
    ),
}
layouts = pytest.mark.parametrize("config", LAYOUTS.values(), ids=LAYOUTS.keys())


def pair(
    config: AutoencoderConfig, folder: Path, *, dtype: torch.dtype
) -> tuple[Autoencoder, AutoencoderKLWan]:
    """Ours with random weights, and what diffusers makes of the folder we write."""
    ours = Autoencoder(config)
    stirred(ours)
    with torch.no_grad():  # theirs clamps to [-1, 1], and clamped pixels would compare nothing
        for parameter in ours.decoder.last.parameters():
            parameter.mul_(0.2)
    wan_autoencoder.save(ours, folder)
    theirs, facts = AutoencoderKLWan.from_pretrained(folder, output_loading_info=True)
    assert not any(facts.values()), facts
    return ours.to(dtype), in_true_precision(theirs.to(dtype))


def in_true_precision(theirs: AutoencoderKLWan) -> AutoencoderKLWan:
    """Theirs without the step through float32 in its upsampling: to copy pixels is exact in any dtype."""
    for module in theirs.modules():
        if isinstance(module, nn.Upsample):
            module.forward = lambda x, module=module: nn.Upsample.forward(module, x)
    return theirs


def film(config: AutoencoderConfig, *, frames: int, dtype: torch.dtype) -> torch.Tensor:
    """Two wide videos of noise: height and width differ, so that swapping them shows."""
    stride = config.space_stride
    x = torch.rand(2, 3, frames, stride, 2 * stride, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return 2 * x - 1


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.oracle
@layouts
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@torch.no_grad()
def test_encodes_and_decodes_as_diffusers_does(config, dtype, tolerance, tmp_path):
    ours, theirs = pair(config, tmp_path, dtype=dtype)
    for frames in (1, 5, 9):
        x = film(config, frames=frames, dtype=dtype)
        wanted, found = theirs.encode(x).latent_dist, ours.encode(x)
        assert difference(found.mean, wanted.mean) < tolerance
        assert difference(found.logvar, wanted.logvar) < tolerance
        z = torch.randn_like(found.mean)
        pixels = ours.decode(z)
        assert 0.1 < pixels.abs().max() < 1, "the comparison must happen before the clamp"
        assert difference(pixels, theirs.decode(z).sample) < tolerance


@pytest.mark.oracle
@layouts
@torch.no_grad()
def test_reads_what_diffusers_writes(config, tmp_path):
    values = wan_autoencoder.write_config(config)
    theirs = AutoencoderKLWan(**{name: value for name, value in values.items() if not name.startswith("_")})
    stirred(theirs)
    theirs.save_pretrained(tmp_path)
    ours = wan_autoencoder.load(tmp_path)
    x = film(config, frames=5, dtype=torch.float32)
    assert difference(ours.encode(x).mean, theirs.encode(x).latent_dist.mean) < 1e-5
    assert ours.config.model_dump(
        exclude={"latents_mean", "latents_std", "decoder_base_dim"}
    ) == config.model_dump(exclude={"latents_mean", "latents_std", "decoder_base_dim"})


@pytest.mark.oracle
@torch.no_grad()
def test_reads_shards_of_diffusers(tmp_path):
    ours, theirs = pair(PLAIN, tmp_path / "one", dtype=torch.float32)
    theirs.save_pretrained(tmp_path / "many", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    again = wan_autoencoder.load(tmp_path / "many").state_dict()
    assert all(torch.equal(again[name], x) for name, x in ours.state_dict().items())


@pytest.mark.oracle
def test_attention_in_the_encoder_has_the_public_names():
    # Theirs has the weights and cannot run them (its attention takes no cache): names are all to compare.
    config = PLAIN.model_copy(update={"attn_scales": (0.5, 0.25)})
    values = wan_autoencoder.write_config(config)
    theirs = AutoencoderKLWan(**{name: value for name, value in values.items() if not name.startswith("_")})
    card = wan_autoencoder.CARDS[False]
    own = Autoencoder(config).state_dict()
    public = {card.to_public(n): card.public_shape(n, tuple(x.shape)) for n, x in own.items()}
    assert public == {name: tuple(x.shape) for name, x in theirs.state_dict().items()}


@layouts
def test_names_and_weights_come_back(config, tmp_path):
    ours = Autoencoder(config)
    stirred(ours)
    card = wan_autoencoder.CARDS[config.residual]
    own = ours.state_dict()
    assert {card.to_ours(card.to_public(name)) for name in own} == set(own)
    wan_autoencoder.save(ours.to(memory_format=torch.channels_last_3d), tmp_path)
    again = wan_autoencoder.load(tmp_path).state_dict()
    assert all(torch.equal(again[name], x) for name, x in own.items())


def test_statistics_travel(tmp_path):
    config = PLAIN.model_copy(update={"latents_mean": (0.5, -1.0), "latents_std": (2.0, 0.25)})
    wan_autoencoder.save(Autoencoder(config), tmp_path, dtype=torch.bfloat16)
    again = wan_autoencoder.load(tmp_path)
    assert again.config == config
    assert next(again.parameters()).dtype == torch.float32


def test_the_statistics_of_wan_stand_in_where_the_file_says_nothing():
    silent = wan_autoencoder.read_config({"_class_name": "AutoencoderKLWan", "z_dim": 16})
    assert silent.latents_mean == wan_autoencoder.WAN_MEAN and silent.latents_std == wan_autoencoder.WAN_STD
    theirs = AutoencoderKLWan(base_dim=4, num_res_blocks=1).config
    assert list(silent.latents_mean) == theirs.latents_mean and list(silent.latents_std) == theirs.latents_std


def test_settings_from_elsewhere_are_named_not_obeyed():
    with pytest.warns(UserWarning, match="clip_output"):
        wan_autoencoder.read_config({"z_dim": 2, "clip_output": False})


def test_channels_that_contradict_the_patch_are_refused(tmp_path):
    wan_autoencoder.save(Autoencoder(PLAIN), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 12}))
    with pytest.raises(Refusal, match="in_channels is 12"):
        wan_autoencoder.load(tmp_path)
