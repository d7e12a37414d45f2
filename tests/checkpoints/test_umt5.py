"""The text encoder against `UMT5EncoderModel` of transformers: same folder, same numbers, both directions."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mutoscope.checkpoints import umt5
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.video import Refusal

transformers = pytest.importorskip("transformers")

SHAPES = {
    "small": TextEncoderConfig(vocabulary=50, width=24, layers=2, heads=3, head_dim=8, ffn_dim=40),
    "few buckets": TextEncoderConfig(
        vocabulary=30, width=16, layers=1, heads=2, head_dim=12, ffn_dim=20, buckets=8, max_distance=16
    ),
    "other eps": TextEncoderConfig(
        vocabulary=30, width=16, layers=3, heads=2, head_dim=8, ffn_dim=20, eps=1e-3
    ),
}
shapes = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())


def ours(config: TextEncoderConfig) -> TextEncoder:
    """Random weights, norms included."""
    torch.manual_seed(0)
    encoder = TextEncoder(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return encoder


def theirs(folder: Path) -> nn.Module:
    encoder, facts = transformers.UMT5EncoderModel.from_pretrained(folder, output_loading_info=True)
    assert not facts["unexpected_keys"] and not facts["mismatched_keys"]
    assert set(facts["missing_keys"]) <= {umt5.TOKENS_TOO}  # which is `shared.weight`, tied
    return encoder.eval()


@pytest.mark.oracle
@shapes
@pytest.mark.parametrize("length", [1, 40])
def test_equals_transformers(config: TextEncoderConfig, length: int, tmp_path: Path) -> None:
    encoder = ours(config)
    umt5.save(encoder, tmp_path)
    ids = torch.randint(0, config.vocabulary, (2, length), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(length) < torch.tensor([[min(5, length)], [length]])
    with torch.no_grad():
        rows = encoder(ids, mask)
        public = theirs(tmp_path)(ids, mask.long()).last_hidden_state
    assert rows.std() > 0.1
    torch.testing.assert_close(rows, public * mask.unsqueeze(-1), rtol=1e-5, atol=1e-5)


@shapes
def test_reads_what_transformers_writes(config: TextEncoderConfig, tmp_path: Path) -> None:
    settings = {
        k: v for k, v in umt5.write_config(config).items() if k not in ("architectures", "model_type")
    }
    public = transformers.UMT5EncoderModel(transformers.UMT5Config(**settings))
    public.save_pretrained(tmp_path)
    encoder = umt5.load(tmp_path)
    assert encoder.config == config
    weights = public.state_dict()
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, weights[umt5.NAMES.to_public(name)]), name


def test_the_folder_it_writes_is_complete(tmp_path: Path) -> None:
    umt5.save(ours(SHAPES["small"]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["UMT5EncoderModel"] and config["model_type"] == "umt5"
    assert "shared.weight" in load_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize("both", [False, True])
def test_the_other_name_of_the_token_table(both: bool, tmp_path: Path) -> None:
    encoder = ours(SHAPES["small"])
    umt5.save(encoder, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights[umt5.TOKENS_TOO] = weights["shared.weight"].clone() if both else weights.pop("shared.weight")
    save_file(weights, tmp_path / "model.safetensors")
    assert torch.equal(umt5.load(tmp_path).tokens.weight, encoder.tokens.weight)


def test_a_decoder_is_passed_over_and_the_rest_is_not(tmp_path: Path) -> None:
    umt5.save(ours(SHAPES["small"]), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        weights | {"decoder.block.0.x": torch.ones(1), "lm_head.weight": torch.ones(1)},
        tmp_path / "model.safetensors",
    )
    umt5.load(tmp_path)
    save_file(weights | {"encoder.block.0.x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(Refusal, match=r"encoder\.block\.0\.x"):
        umt5.load(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("feed_forward_proj", "relu"), ("model_type", "t5")])
def test_other_models_of_the_family_are_refused(name: str, value: str, tmp_path: Path) -> None:
    umt5.save(ours(SHAPES["small"]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(Refusal, match=f"{name} is '{value}'"):
        umt5.load(tmp_path)


def test_missing_settings_are_the_public_ones() -> None:
    public = transformers.UMT5Config()
    written = umt5.write_config(umt5.read_config({}))
    assert {name: written[name] for name in umt5.SETTINGS.values()} == {
        name: getattr(public, name) for name in umt5.SETTINGS.values()
    }
