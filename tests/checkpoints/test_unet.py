"""U-Nets against diffusers' three classes: same folder, same numbers, both ways, nothing lost."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature, unwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mutoscope.checkpoints import modelscope_unet, sd_unet, svd_unet
from mutoscope.checkpoints import unet as folders
from mutoscope.models.unet import UNet, UNetConfig
from mutoscope.models.unet_config import align, vdm
from mutoscope.video import Refusal
from tiny import stirred

diffusers = pytest.importorskip("diffusers")

SD15 = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("CrossAttnDownBlock2D",) * 2 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 2,
    "layers_per_block": 1,
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "sample_size": 8,
}
SD21 = SD15 | {
    "use_linear_projection": True,
    "attention_head_dim": (2, 4, 8),
    "layers_per_block": 2,
    "sample_size": (8, 12),
    "upcast_attention": True,
}
MODELSCOPE = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("CrossAttnDownBlock3D",) * 2 + ("DownBlock3D",),
    "up_block_types": ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 2,
    "layers_per_block": 2,
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "sample_size": 8,
}
SVD = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "layers_per_block": 1,
    "cross_attention_dim": 12,
    "num_attention_heads": (2, 4),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24,
    "transformer_layers_per_block": 2,
    "num_frames": 3,
    "sample_size": 8,
}


def image_call(model: nn.Module, given: "Given") -> Tensor:
    """Every frame an image of its own."""
    frames = given.noisy.shape[2]
    out = model(
        given.noisy.movedim(2, 1).flatten(0, 1),
        given.t.expand(-1, frames).flatten(),
        given.text.repeat_interleave(frames, dim=0),
    ).sample
    return out.unflatten(0, (-1, frames)).movedim(1, 2)


def video_call(model: nn.Module, given: "Given") -> Tensor:
    return model(given.noisy, given.t[:, 0], given.text).sample


def svd_call(model: nn.Module, given: "Given") -> Tensor:
    out = model(given.noisy.movedim(1, 2), given.t[:, 0], given.text, added_time_ids=given.labels)
    return out.sample.movedim(1, 2)


@dataclass(frozen=True)
class Given:
    """What both networks are given."""

    noisy: Tensor
    t: Tensor
    text: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class Layout:
    """A public class at a tiny size, its card here, and how it is called."""

    public: Any
    settings: dict[str, Any]
    load: Callable[[Path], UNet]
    call: Callable[[nn.Module, Given], Tensor]

    def given(self, dtype: torch.dtype) -> Given:
        generator = torch.Generator().manual_seed(2)
        channels = 8 if self.call is svd_call else 4
        noisy = torch.randn(2, channels, 3, 8, 12, generator=generator, dtype=torch.float64)
        t = torch.tensor([[3.0], [801.0]], dtype=torch.float64)
        text = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)
        labels = torch.tensor([[6, 127, 0.02], [11, 30, 0.1]]) if self.call is svd_call else None
        return Given(
            noisy.to(dtype), t.to(dtype), text.to(dtype), None if labels is None else labels.to(dtype)
        )


LAYOUTS = {
    "sd 1.5": Layout(diffusers.UNet2DConditionModel, SD15, sd_unet.load, image_call),
    "sd 2.1": Layout(diffusers.UNet2DConditionModel, SD21, sd_unet.load, image_call),
    "modelscope": Layout(diffusers.UNet3DConditionModel, MODELSCOPE, modelscope_unet.load, video_call),
    "svd": Layout(diffusers.UNetSpatioTemporalConditionModel, SVD, svd_unet.load, svd_call),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


@pytest.fixture(scope="module", params=LAYOUTS.values(), ids=LAYOUTS.keys())
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, Path]:
    """A folder that diffusers wrote, random in every weight."""
    layout, folder = request.param, tmp_path_factory.mktemp("public")
    torch.manual_seed(0)
    public = layout.public(**layout.settings)
    stirred(public)
    public.save_pretrained(folder)
    return layout, folder


def theirs(layout: Layout, folder: Path) -> nn.Module:
    """What diffusers makes of a folder, with nothing missing or left over."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, facts = layout.public.from_pretrained(folder, output_loading_info=True)
    assert not any(facts.values()), facts
    return model.eval()


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.oracle
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_diffusers(saved: tuple[Layout, Path], dtype: torch.dtype, bound: float) -> None:
    layout, folder = saved
    given = layout.given(dtype)
    ours, public = layout.load(folder).to(dtype), theirs(layout, folder).to(dtype)
    with torch.no_grad():
        out = ours(given.noisy, given.t, text=given.text, labels=given.labels)
        wanted = layout.call(public, given)
    assert out.std() > 0.05
    assert relative(out, wanted) < bound


@pytest.mark.oracle
def test_what_is_written_here_is_the_same_folder(saved: tuple[Layout, Path], tmp_path: Path) -> None:
    layout, folder = saved
    folders.save(layout.load(folder), tmp_path)
    name = "diffusion_pytorch_model.safetensors"
    before, after = load_file(folder / name), load_file(tmp_path / name)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path))
    for key, value in before.items():
        assert key.startswith("_diffusers") or after[key] == value, key
    again = theirs(layout, tmp_path)
    assert all(
        torch.equal(x, y)
        for x, y in zip(again.parameters(), theirs(layout, folder).parameters(), strict=True)
    )


def test_names_go_both_ways(saved: tuple[Layout, Path]) -> None:
    layout, folder = saved
    model = layout.load(folder)
    card = folders.card_for(model.config)
    assert card.class_name == layout.public.__name__
    for name in model.state_dict():
        assert card.to_ours(card.to_public(name)) == name


@pytest.mark.parametrize("module", [sd_unet, modelscope_unet, svd_unet])
def test_missing_settings_are_the_public_ones(module: Any) -> None:
    public = getattr(diffusers, module.CLASS_NAME)
    defaults = {n: p.default for n, p in signature(unwrap(public.__init__)).parameters.items()}
    written = module.write_config(module.read_config({}))
    for name, value in written.items():
        default = None if name == "_class_name" else defaults[name]
        assert name == "_class_name" or value == (list(default) if isinstance(default, tuple) else default), (
            name
        )


@pytest.mark.parametrize(
    ("module", "change", "message"),
    [
        (sd_unet, {"class_embed_type": "projection"}, "class_embed_type is 'projection'; only None"),
        (sd_unet, {"cross_attention_dim": [8, 8, 8, 12]}, r"cross_attention_dim is \[8, 8, 8, 12\]"),
        (sd_unet, {"up_block_types": ["UpBlock2D"] * 4}, "must mirror"),
        (sd_unet, {"down_block_types": ["AttnDownBlock2D"] * 4}, "only DownBlock2D and CrossAttnDownBlock2D"),
        (modelscope_unet, {"act_fn": "gelu"}, "act_fn is 'gelu'"),
        (svd_unet, {"addition_time_embed_dim": 250}, "768 channels of labels are no multiple of 250"),
    ],
)
def test_what_cannot_be_read_is_named(module: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        module.read_config(change)


SMALL = UNetConfig(channels=(8, 16), attention=(False, True), heads=(2, 2), groups=4, layers=1)


class TestFolders:
    """One door for all four layouts."""

    @pytest.mark.parametrize(
        "change",
        [
            {"time": vdm()},
            {"time": align(), "text_dim": 12, "labels": 2, "dropout": 0.1},
            {"text_dim": 12, "feed": False},
            {"text_dim": None},
            {"text_dim": 12, "patch_size": 2},
            {"text_dim": 12, "finish": 4},
        ],
    )
    def test_what_no_public_layout_can_say_is_kept_in_ours(
        self, change: dict[str, Any], tmp_path: Path
    ) -> None:
        model = UNet(SMALL.model_copy(update=change))
        stirred(model)
        folders.save(model, tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "MutoscopeUNet"
        again = folders.load(tmp_path)
        assert again.config == model.config
        for (name, x), (other, y) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
            assert name == other and torch.equal(x, y)

    def test_an_image_model_trained_here_opens_in_diffusers(self, tmp_path: Path) -> None:
        model = UNet(SMALL.model_copy(update={"text_dim": 12}))
        stirred(model)
        folders.save(model, tmp_path, dtype=torch.bfloat16)
        public = diffusers.UNet2DConditionModel.from_pretrained(tmp_path)
        assert sum(p.numel() for p in public.parameters()) == sum(p.numel() for p in model.parameters())
        assert folders.load(tmp_path).config == model.config

    def test_another_class_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"_class_name": "UNet1DModel"}')
        with pytest.raises(Refusal, match=r"'UNet1DModel'; U-Nets are UNet2DConditionModel"):
            folders.load(tmp_path)
