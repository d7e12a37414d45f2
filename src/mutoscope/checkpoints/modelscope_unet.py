"""The card of `UNet3DConditionModel`: the text-to-video model of ModelScope, and those like it.

It is the image network with four convolutions over frames after each residual block, and transformers over
frames of their own after those over space. `attention_head_dim` here is what it says; the transformer at the
entry has eight heads of that size.
"""

from collections.abc import Mapping
from typing import Any

from mutoscope.checkpoints.card import Card, Shape, renamed, settings_from
from mutoscope.checkpoints.names import Names
from mutoscope.checkpoints.sd_unet import (
    PARTS,
    attention_of,
    block_types,
    checked,
    of_layers,
    one_for_all,
    public_values,
)
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import MODELSCOPE, UNetConfig
from mutoscope.video import Refusal

CLASS_NAME = "UNet3DConditionModel"
CONVS = {
    f"time_convs.{ours}.{k}": f"time_convs.conv{k + 1}.{place}"
    for k in range(4)
    for ours, place in (("norms", 0), ("convs", 2 if k == 0 else 3))
}
LAYERS = {
    "residual": "resnets.{}",
    "time_convs": "temp_convs.{}",
    "transformer": "attentions.{}",
    "time_attention": "temp_attentions.{}",
}
NAMES = Names(CONVS | {"inner.blocks": "blocks", "entry": "transformer_in"} | PARTS | of_layers(LAYERS))
SETTINGS = {
    "channels": "block_out_channels",
    "layers": "layers_per_block",
    "text_dim": "cross_attention_dim",
    "groups": "norm_num_groups",
    "eps": "norm_eps",
}
DEFAULTS = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
    "up_block_types": ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 1024,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "attention_head_dim": 64,
}
ONLY = {
    "act_fn": "silu",
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "num_attention_heads": None,
    "time_cond_proj_dim": None,
}
HERE_ONLY = ("depth", "dropout", "heads", "frames", "linear_projection", "upcast_attention")


def to_ours(name: str) -> str:
    """Our name: transformers over frames have their blocks in `inner`, those over space have not."""
    ours = NAMES.to_ours(name)
    over_time = "entry." in ours or "time_attention." in ours
    return ours if over_time else ours.replace(".inner.blocks.", ".blocks.")


def write_config(config: UNetConfig) -> dict[str, Any]:
    values = public_values(config, without=HERE_ONLY, names=SETTINGS)
    sizes = {width // heads for width, heads in zip(config.channels, config.heads, strict=True)}
    if len(sizes) != 1:
        raise Refusal(f"{CLASS_NAME}: heads of {sorted(sizes)} channels; all levels must have one size")
    head_dim = {"attention_head_dim": sizes.pop()}
    return {"_class_name": CLASS_NAME, **values, **head_dim, **block_types(config, suffix="3D"), **ONLY}


def read_config(config: Mapping[str, Any]) -> UNetConfig:
    """Our settings; `Refusal` for what this U-Net does not have."""
    values = DEFAULTS | dict(config)
    checked(values, ONLY, class_name=CLASS_NAME)
    head_dim = one_for_all(values.pop("attention_head_dim"), name="attention_head_dim", class_name=CLASS_NAME)
    values["heads"] = tuple(width // head_dim for width in values["block_out_channels"])
    values["attention"] = attention_of(values, suffix="3D", class_name=CLASS_NAME)
    values = renamed(values, {public: ours for ours, public in SETTINGS.items()}) | {"time": MODELSCOPE}
    return settings_from(UNetConfig, values, known=(*ONLY, "down_block_types", "up_block_types"))


def over_frames(name: str, shape: Shape) -> Shape:
    """Convolutions over frames as 3D convolutions."""
    return (*shape, 1, 1) if ".time_convs.convs." in name and name.endswith("weight") else shape


CARD = Card(
    class_name=CLASS_NAME,
    build=UNet,
    to_public=NAMES.to_public,
    to_ours=to_ours,
    write_config=write_config,
    read_config=read_config,
    public_shape=over_frames,
)

save = CARD.save  # a folder that `UNet3DConditionModel.from_pretrained` reads
load = CARD.load
