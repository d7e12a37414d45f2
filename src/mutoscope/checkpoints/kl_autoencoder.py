"""The cards of `AutoencoderKL`, Stable Diffusion, and `AutoencoderKLTemporalDecoder`, Stable Video Diffusion.

The second has layers of time in its decoder and fewer settings: 32 groups, two blocks a stage, attention in
the middle, a convolution after the encoder and none before the decoder are fixed there. It has no setting
for statistics per channel; these are written beside its settings where there are any: we read them back, and
diffusers says that it ignores them. Kernels over frames are 3 x 1 x 1 there.

Files of 2022 name the projections of the attention `query`, `key`, `value` and `proj_attn`, and some hold
them as 1x1 convolutions; both are read.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mutoscope.checkpoints.card import CONFIG, Card, Shape, read_json, renamed, settings_from
from mutoscope.checkpoints.names import Names
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig
from mutoscope.video import Refusal

IMAGE, TEMPORAL = "AutoencoderKL", "AutoencoderKLTemporalDecoder"

PARTS = {
    "after_encoder": "quant_conv",
    "before_decoder": "post_quant_conv",
    **{f"{side}.first": f"{side}.conv_in" for side in ("encoder", "decoder")},
    **{f"{side}.norm": f"{side}.conv_norm_out" for side in ("encoder", "decoder")},
    **{f"{side}.last": f"{side}.conv_out" for side in ("encoder", "decoder")},
    "last_time.conv": "time_conv_out",
    "down": "down_blocks",
    "up": "up_blocks",
    "blocks": "resnets",
    "attention.norm": "attention.group_norm",
    "attention.query": "attention.to_q",
    "attention.key": "attention.to_k",
    "attention.value": "attention.to_v",
    "attention.out": "attention.to_out.0",
    "middle.before": "mid_block.resnets.0",
    "middle.attention": "mid_block.attentions.0",
    "middle.after": "mid_block.resnets.1",
    "skip": "conv_shortcut",
    "space": "spatial_res_block",
    "time.mix": "time_mixer.mix_factor",
    "time": "temporal_res_block",
}
# Our settings and theirs, where the names differ.
SETTINGS = {
    "widths": "block_out_channels",
    "blocks": "layers_per_block",
    "z_dim": "latent_channels",
    "groups": "norm_num_groups",
    "attention": "mid_block_add_attention",
    "after_encoder": "use_quant_conv",
    "before_decoder": "use_post_quant_conv",
    "scaling": "scaling_factor",
    "shift": "shift_factor",
}
# What the public classes take where config.json says nothing.
SILENT = {"scaling": 0.18215, "shift": 0.0, "blocks": 1, "z_dim": 4, "widths": (64,)}
# Settings with one value that can be read: what they select exists once here.
ONE_VALUE = {"in_channels": 3, "out_channels": 3, "act_fn": "silu"}
# What `AutoencoderKLTemporalDecoder` has no setting for, and always is.
ALWAYS = {"blocks": 2, "groups": 32, "attention": True, "after_encoder": True, "before_decoder": False}
WAYS_OUT = {"before_decoder": "absorb_before_decoder gives the same autoencoder without one"}
FREE = ("shift", "latents_mean", "latents_std")
IGNORED = ("sample_size", "force_upcast", "down_block_types", "up_block_types", *ONE_VALUE)


def save(autoencoder: ImageAutoencoder, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Writes a folder that the public class of this autoencoder reads, with `from_pretrained`.

    Raises:
        Refusal: a temporal decoder in a form that `AutoencoderKLTemporalDecoder` has not.
    """
    CARDS[autoencoder.config.temporal].save(autoencoder, folder, dtype=dtype)


def load(folder: str | Path) -> ImageAutoencoder:
    """The autoencoder of a folder that was written here or by diffusers; `Refusal` if it cannot be read."""
    temporal = read_json(Path(folder) / CONFIG).get("_class_name") == TEMPORAL
    return CARDS[temporal].load(folder)


def to_public(name: str) -> str:
    return _names(name).to_public(name)


def to_ours(name: str) -> str:
    # The other three old names are our own.
    return _names(name).to_ours(name.replace(".proj_attn.", ".to_out.0."))


def public_shape(name: str, shape: Shape) -> Shape:
    over_frames = len(shape) == 3
    return (*shape, 1, 1) if over_frames else shape


def old_shapes(name: str, shape: Shape) -> tuple[Shape, ...]:
    """The matrices of the attention as 1x1 convolutions."""
    return ((*shape, 1, 1),) if ".attention." in name and len(shape) == 2 else ()


def write_config(config: ImageAutoencoderConfig) -> dict[str, Any]:
    values = renamed(config.model_dump(mode="json", exclude={"temporal"}), SETTINGS)
    # Empty statistics are null there, and one entry is a list of as many stages.
    values |= {name: values[name] or None for name in ("latents_mean", "latents_std")}
    types = {
        "down_block_types": ["DownEncoderBlock2D"] * len(config.widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(config.widths),
    }
    return {"_class_name": IMAGE, **values, **types, **ONE_VALUE}


def write_temporal_config(config: ImageAutoencoderConfig) -> dict[str, Any]:
    for name, value in ALWAYS.items():
        if getattr(config, name) != value:
            raise Refusal(
                f"{TEMPORAL} always has {name} = {value}, and this autoencoder has {getattr(config, name)}; "
                f"{WAYS_OUT.get(name, 'train the image autoencoder with that setting')}"
            )
    values = write_config(config)
    for name in (*ALWAYS, "shift"):
        values.pop(SETTINGS[name])
    for name in ("latents_mean", "latents_std", "up_block_types", "act_fn"):
        values.pop(name)
    fresh = ImageAutoencoderConfig()
    free = {name: getattr(config, name) for name in FREE if getattr(config, name) != getattr(fresh, name)}
    return {**values, "_class_name": TEMPORAL, SETTINGS["blocks"]: config.blocks, **free}


def read_config(config: Mapping[str, Any], *, temporal: bool = False) -> ImageAutoencoderConfig:
    for name, wanted in ONE_VALUE.items():
        if config.get(name, wanted) != wanted:
            raise Refusal(f"{name} is {config[name]!r}; autoencoders with {wanted!r} can be read")
    _check_stages(config)
    given = renamed(config, {public: ours for ours, public in SETTINGS.items()})
    values = SILENT | {name: value for name, value in given.items() if value is not None}
    if temporal:
        _check_always(values)
        values |= ALWAYS | {"temporal": True}
    return settings_from(ImageAutoencoderConfig, values, known=IGNORED)


def _check_stages(config: Mapping[str, Any]) -> None:
    for name in ("down_block_types", "up_block_types"):
        strange = set(config.get(name, ())) - {"DownEncoderBlock2D", "UpDecoderBlock2D"}
        if strange:
            raise Refusal(f"{name} has {min(strange)}; stages of plain residual blocks can be read")


def _check_always(values: Mapping[str, Any]) -> None:
    if values["blocks"] != ALWAYS["blocks"]:
        # There the middle has as many blocks as a stage, of which no more than two are ever called.
        raise Refusal(f"{TEMPORAL}: layers_per_block is {values['blocks']}; models with 2 can be read")


def _names(name: str) -> Names:
    resample = "downsamplers.0.conv" if name.startswith("encoder.") else "upsamplers.0.conv"
    return Names({"resample": resample, **PARTS})


def _card(*, temporal: bool) -> Card[ImageAutoencoder]:
    return Card(
        class_name=TEMPORAL if temporal else IMAGE,
        build=ImageAutoencoder,
        to_public=to_public,
        to_ours=to_ours,
        write_config=write_temporal_config if temporal else write_config,
        read_config=partial(read_config, temporal=temporal),
        public_shape=public_shape,
        old_shapes=old_shapes,
    )


CARDS = {temporal: _card(temporal=temporal) for temporal in (False, True)}
