"""The card of `UNet2DConditionModel`: image models of Stable Diffusion 1.x and 2.x, and those trained here.

`attention_head_dim` there is the number of heads. The projections of a transformer are 1x1 convolutions in
1.x and matrices in 2.x; both are the same numbers, and matrices here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mutoscope.checkpoints.card import Card, Shape, renamed, settings_from
from mutoscope.checkpoints.names import Names
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import UNetConfig
from mutoscope.video import Refusal

CLASS_NAME = "UNet2DConditionModel"
MOST_LAYERS = 9  # at one resolution; no public model comes near it

# Longer names before the words they are made of: the table is read from the top.
PARTS = {
    "time.first": "time_embedding.linear_1",
    "time.second": "time_embedding.linear_2",
    "residual.time": "residual.time_emb_proj",
    "residual.skip": "residual.conv_shortcut",
    "first": "conv_in",
    "norm_out": "conv_norm_out",
    "last": "conv_out",
    "feed.up": "ff.net.0.proj",
    "feed.down": "ff.net.2",
    "down": "down_blocks",
    "middle": "mid_block",
    "up": "up_blocks",
    "shrink": "downsamplers.0.conv",
    "grow": "upsamplers.0.conv",
    "inward": "proj_in",
    "outward": "proj_out",
    "attention": "attn1",
    "second": "attn2",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "out": "to_out.0",
    "blocks": "transformer_blocks",
}
"""Names that the three public U-Nets share."""


def of_layers(parts: Mapping[str, str]) -> dict[str, str]:
    """`layers.3.residual` is `resnets.3` there: names in which the number comes last."""
    numbers = range(MOST_LAYERS)
    return {f"layers.{k}.{ours}": public.format(k) for k in numbers for ours, public in parts.items()}


NAMES = Names(PARTS | of_layers({"residual": "resnets.{}", "transformer": "attentions.{}"}))
SETTINGS = {
    "channels": "block_out_channels",
    "layers": "layers_per_block",
    "depth": "transformer_layers_per_block",
    "text_dim": "cross_attention_dim",
    "groups": "norm_num_groups",
    "eps": "norm_eps",
    "heads": "attention_head_dim",
    "linear_projection": "use_linear_projection",
}
# What the public class takes where its config.json says nothing.
DEFAULTS = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "transformer_layers_per_block": 1,
    "cross_attention_dim": 1280,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "attention_head_dim": 8,
    "use_linear_projection": False,
}
# Values that the network of this house can have; others are refused by name.
ONLY = {
    "act_fn": "silu",
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "mid_block_only_cross_attention": None,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_attention_heads": None,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "num_class_embeds": None,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "projection_class_embeddings_input_dim": None,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "cross_attention_norm": None,
    "addition_embed_type_num_heads": 64,
}


def checked(config: Mapping[str, Any], only: Mapping[str, Any], *, class_name: str) -> None:
    """Refusal for the first setting that has another value than the one that is known here."""
    for name, value in only.items():
        if config.get(name, value) != value:
            raise Refusal(f"{class_name}: {name} is {config[name]!r}; only {value!r} can be read")


def each_level(value: Any, levels: int) -> tuple[Any, ...]:
    """One value for all levels, or a list of one for each."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * levels


def one_for_all(values: Any, *, name: str, class_name: str) -> Any:
    """The value that all levels share; Refusal where they do not."""
    if not isinstance(values, list | tuple):
        return values
    if len(set(map(str, values))) != 1:
        raise Refusal(f"{class_name}: {name} is {values}; only one value for all levels can be read")
    return values[0]


def attention_of(config: Mapping[str, Any], *, suffix: str, class_name: str) -> tuple[bool, ...]:
    """Which levels attend, from the block types; Refusal for other types, or a way up unlike the way down."""
    plain, attends = f"DownBlock{suffix}", f"CrossAttnDownBlock{suffix}"
    down = list(config["down_block_types"])
    if set(down) - {plain, attends}:
        raise Refusal(f"{class_name}: down_block_types are {down}; only {plain} and {attends} can be read")
    mirrored = [name.replace("Down", "Up") for name in reversed(down)]
    if list(config["up_block_types"]) != mirrored:
        raise Refusal(f"{class_name}: up_block_types must mirror those on the way down: {mirrored}")
    return tuple(name == attends for name in down)


def block_types(config: UNetConfig, *, suffix: str) -> dict[str, list[str]]:
    """The names of the blocks on both ways, as the public classes want them."""
    down = [f"{'CrossAttn' if attends else ''}DownBlock{suffix}" for attends in config.attention]
    return {
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
    }


def public_values(
    config: UNetConfig, *, without: tuple[str, ...], names: Mapping[str, str]
) -> dict[str, Any]:
    """Our settings under their public names; Refusal where the public class has no word for one."""
    ours = config.patch_size > 1 or config.finish
    if config.text_dim is None or not config.feed or ours:
        raise Refusal(
            "a network without words or feed-forward networks, of patches or with a finish of pixels, has no "
            "public layout; keep it in the layout of this house (checkpoints/unet.py)"
        )
    mine = (
        *("patch_size", "finish", "attention", "feed", "stage_eps", "labels", "label_dim"),
        *("time", *without),
    )
    return renamed(config.model_dump(mode="json", exclude=set(mine)), names)


def write_config(config: UNetConfig) -> dict[str, Any]:
    values = public_values(config, without=("frames",), names=SETTINGS)
    values["attention_head_dim"] = shortest(values["attention_head_dim"])
    return {"_class_name": CLASS_NAME, **values, **block_types(config, suffix="2D"), **ONLY}


def shortest(values: list[int]) -> int | list[int]:
    """One number where all levels have the same, as public files write it."""
    return values[0] if len(set(values)) == 1 else values


def read_config(config: Mapping[str, Any]) -> UNetConfig:
    """Our settings; `Refusal` for what this U-Net does not have."""
    values = DEFAULTS | dict(config)
    checked(values, ONLY, class_name=CLASS_NAME)
    levels = len(values["block_out_channels"])
    values["attention"] = attention_of(values, suffix="2D", class_name=CLASS_NAME)
    values["attention_head_dim"] = each_level(values["attention_head_dim"], levels)
    for name in ("layers_per_block", "cross_attention_dim", "transformer_layers_per_block"):
        values[name] = one_for_all(values[name], name=name, class_name=CLASS_NAME)
    values = renamed(values, {public: ours for ours, public in SETTINGS.items()})
    return settings_from(UNetConfig, values, known=(*ONLY, "down_block_types", "up_block_types"))


def convolutional(name: str, shape: Shape) -> Shape:
    """Projections as 1x1 convolutions."""
    projects = name.endswith(("inward.weight", "outward.weight"))
    return (*shape, 1, 1) if projects else shape


def _card(**shapes: Any) -> Card[UNet]:
    return Card(
        class_name=CLASS_NAME,
        build=UNet,
        to_public=NAMES.to_public,
        to_ours=NAMES.to_ours,
        write_config=write_config,
        read_config=read_config,
        **shapes,
    )


MATRICES, CONVOLUTIONS = _card(), _card(public_shape=convolutional)


def card_of(config: UNetConfig) -> Card[UNet]:
    """The card that fits the projections of a network."""
    return MATRICES if config.linear_projection else CONVOLUTIONS


def save(unet: UNet, folder: str | Path, **options: Any) -> None:
    """A folder that `UNet2DConditionModel.from_pretrained` reads; `dtype` as in `Card.save`."""
    card_of(unet.config).save(unet, folder, **options)


def load(folder: str | Path) -> UNet:
    """The U-Net of a folder, see `Card.load`."""
    return card_of(MATRICES.read_settings(folder)).load(folder)
