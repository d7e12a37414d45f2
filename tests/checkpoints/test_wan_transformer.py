"""The transformer against `WanTransformer3DModel` of diffusers: same folder and numbers, both directions."""

import json
from inspect import signature, unwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mutoscope.checkpoints import wan_transformer
from mutoscope.models.text import Text
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.video import Refusal
from tiny import stirred

diffusers = pytest.importorskip("diffusers")

SMALL = TransformerConfig(
    heads=2, head_dim=24, in_channels=6, out_channels=6, text_dim=20, freq_dim=32, ffn_dim=40, layers=2
)
SHAPES = {
    "patch 1": SMALL,
    "patch 1x2x2, no cross norm": SMALL.model_copy(
        update={"patch_size": (1, 2, 2), "cross_attn_norm": False}
    ),
    "head 32": SMALL.model_copy(update={"head_dim": 32, "out_channels": 3, "eps": 1e-5}),
    "head 64, patch 1x2x2": SMALL.model_copy(update={"head_dim": 64, "patch_size": (1, 2, 2), "layers": 1}),
}
shapes = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())


def ours(config: TransformerConfig) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(config)
    stirred(model)
    return model.eval()


def theirs(folder: Path, **options: object) -> nn.Module:
    """What diffusers makes of a folder, with nothing missing or left over."""
    model, facts = diffusers.WanTransformer3DModel.from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert not any(facts.values()), facts
    return model.eval()


def their_flow(model: nn.Module, noisy: Tensor, t: Tensor, *, text: Text) -> Tensor:
    """Their call: times up to 1000, one per sample or one per token, and all rows of text."""
    tokens = noisy[0, 0, 0].numel() // (model.config.patch_size[1] * model.config.patch_size[2])
    times = 1000 * (t[:, 0] if t.shape[1] == 1 else t.repeat_interleave(tokens, dim=1))
    with torch.no_grad():
        return model(noisy, times, text.explicit(), return_dict=False)[0]


def words(config: TransformerConfig, *, padded_to: int = 512) -> Text:
    rows = torch.randn(2, 7, config.text_dim, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(7) < torch.tensor([[3], [7]])
    return Text(rows * mask.unsqueeze(-1), mask, padded_to)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.oracle
@shapes
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("per_frame", [False, True], ids=["time per sample", "time per frame"])
def test_equals_diffusers(config: TransformerConfig, frames: int, per_frame: bool, tmp_path: Path) -> None:
    model, text = ours(config), words(config)
    wan_transformer.save(model, tmp_path)
    generator = torch.Generator().manual_seed(2)
    noisy = torch.randn(2, config.in_channels, frames, 4, 6, generator=generator)
    t = torch.rand(2, frames if per_frame else 1, generator=generator)
    with torch.no_grad():
        flow = model(noisy, t, text=text)
    assert flow.shape == (2, config.out_channels, frames, 4, 6) and flow.std() > 0.1
    assert relative(flow, their_flow(theirs(tmp_path), noisy, t, text=text)) < 1e-5


@pytest.mark.oracle
def test_bf16_errs_no_more_than_diffusers_does(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"head_dim": 32})
    model, text = ours(config), words(config)
    wan_transformer.save(model, tmp_path)
    noisy, t = (
        torch.randn(2, 6, 3, 4, 6, generator=torch.Generator().manual_seed(2)),
        torch.tensor([[0.3], [0.9]]),
    )
    with torch.no_grad():
        exact = model(noisy, t, text=text)
        lowered = model.lower_precision()(noisy, t, text=text)
    public = theirs(tmp_path, torch_dtype=torch.bfloat16)
    rounded = Text(text.rows.bfloat16(), text.mask)
    their_error = relative(their_flow(public, noisy.bfloat16(), t, text=rounded).float(), exact)
    our_error = relative(lowered, exact)
    assert 1e-4 < our_error < 1.3 * their_error < 0.05


@shapes
def test_reads_what_diffusers_writes(config: TransformerConfig, tmp_path: Path) -> None:
    torch.manual_seed(1)
    public = diffusers.WanTransformer3DModel(
        **{name: value for name, value in wan_transformer.write_config(config).items() if name[0] != "_"}
    )
    public.save_pretrained(tmp_path)
    model = wan_transformer.load(tmp_path)
    assert model.config == config
    theirs_back = {wan_transformer.to_ours(name): value for name, value in public.state_dict().items()}
    assert all(torch.equal(value, theirs_back[name]) for name, value in model.state_dict().items())


def test_names_go_both_ways() -> None:
    for name in Transformer(SMALL).state_dict():
        public = wan_transformer.NAMES.to_public(name)
        assert public != name or name.startswith("blocks")
        assert wan_transformer.to_ours(public) == name


def test_shards_as_diffusers_writes_them(tmp_path: Path) -> None:
    wan_transformer.save(ours(SMALL), tmp_path / "whole")
    theirs(tmp_path / "whole").save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    read, whole = wan_transformer.load(tmp_path / "shards"), wan_transformer.load(tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), whole.parameters(), strict=True))


def test_half_the_bytes_in_bf16(tmp_path: Path) -> None:
    wan_transformer.save(ours(SMALL), tmp_path, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert {p.dtype for p in wan_transformer.load(tmp_path).parameters()} == {torch.float32}


def test_missing_settings_are_the_public_ones() -> None:
    config = wan_transformer.read_config({"out_channels": None, "in_channels": 48})
    public = diffusers.WanTransformer3DModel.__init__
    assert config.out_channels == 48
    for name, value in wan_transformer.write_config(wan_transformer.read_config({})).items():
        default = None if name == "_class_name" else _default(public, name)
        assert name == "_class_name" or value == (list(default) if isinstance(default, tuple) else default), (
            name
        )


def _default(function: Any, name: str) -> object:
    return signature(unwrap(function)).parameters[name].default


def test_models_that_want_images_are_refused(tmp_path: Path) -> None:
    wan_transformer.save(ours(SMALL), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"image_dim": 1280}))
    with pytest.raises(Refusal, match=r"image_dim is 1280.*text-to-video"):
        wan_transformer.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"qk_norm": None}))
    with pytest.raises(Refusal, match="qk_norm"):
        wan_transformer.load(tmp_path)


def test_unused_and_unknown_weights(tmp_path: Path) -> None:
    wan_transformer.save(ours(SMALL), tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file(weights | {"blocks.0.attn2.norm_added_q.weight": torch.ones(48)}, path)
    wan_transformer.load(tmp_path)
    save_file(weights | {"blocks.0.attn2.add_k_proj.weight": torch.ones(48)}, path)
    with pytest.raises(Refusal, match=r"1 unknown: blocks\.0\.attn2\.add_k_proj\.weight"):
        wan_transformer.load(tmp_path)
