"""The card of `UNetSpatioTemporalConditionModel`: Stable Video Diffusion, image to video.

Its input is the noisy latents and those of the known first frame, its words are one row of CLIP for that
frame, and it is told three numbers (`labels`): frames per second less one, the motion bucket, the noise that
was added to the frame. Residual blocks have another eps on the way up and where levels attend.
"""

from collections.abc import Mapping
from typing import Any

from mutoscope.checkpoints.card import Card, renamed, settings_from
from mutoscope.checkpoints.modelscope_unet import over_frames
from mutoscope.checkpoints.names import Names
from mutoscope.checkpoints.sd_unet import (
    PARTS,
    attention_of,
    block_types,
    each_level,
    of_layers,
    one_for_all,
    public_values,
)
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import SVD, UNetConfig
from mutoscope.video import Refusal

CLASS_NAME = "UNetSpatioTemporalConditionModel"
OVER_TIME = {
    "labels.first": "add_embedding.linear_1",
    "labels.second": "add_embedding.linear_2",
    "time_attention.places.first": "time_pos_embed.linear_1",
    "time_attention.places.second": "time_pos_embed.linear_2",
    "time_attention.merge.mix": "time_mixer.mix_factor",
    "time_attention.blocks": "temporal_transformer_blocks",
    "time_convs.norms.0": "time_convs.norm1",
    "time_convs.convs.0": "time_convs.conv1",
    "time_convs.norms.1": "time_convs.norm2",
    "time_convs.convs.1": "time_convs.conv2",
    "time_convs.time": "time_convs.time_emb_proj",
    "feed_in.up": "ff_in.net.0.proj",
    "feed_in.down": "ff_in.net.2",
}
LAYERS = {
    "time_convs.merge.mix": "resnets.{}.time_mixer.mix_factor",
    "time_convs": "resnets.{}.temporal_res_block",
    "residual": "resnets.{}.spatial_res_block",
    "transformer": "attentions.{}",
}
NAMES = Names(OVER_TIME | PARTS | of_layers(LAYERS))
SETTINGS = {
    "channels": "block_out_channels",
    "layers": "layers_per_block",
    "depth": "transformer_layers_per_block",
    "text_dim": "cross_attention_dim",
    "heads": "num_attention_heads",
    "label_dim": "addition_time_embed_dim",
    "frames": "num_frames",
}
DEFAULTS = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * 3 + ("DownBlockSpatioTemporal",),
    "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * 3,
    "layers_per_block": 2,
    "transformer_layers_per_block": 1,
    "cross_attention_dim": 1024,
    "num_attention_heads": (5, 10, 20, 20),
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 768,
    "num_frames": 25,
}
HERE_ONLY = ("groups", "eps", "dropout", "linear_projection", "upcast_attention")


def write_config(config: UNetConfig) -> dict[str, Any]:
    values = public_values(config, without=HERE_ONLY, names=SETTINGS)
    labels = {
        "addition_time_embed_dim": config.label_dim,
        "projection_class_embeddings_input_dim": config.labels * config.label_dim,
    }
    return {"_class_name": CLASS_NAME, **values, **labels, **block_types(config, suffix="SpatioTemporal")}


def read_config(config: Mapping[str, Any]) -> UNetConfig:
    """Our settings; `Refusal` for what this U-Net does not have."""
    values = DEFAULTS | dict(config)
    total, each = values.pop("projection_class_embeddings_input_dim"), values["addition_time_embed_dim"]
    if total % each:
        raise Refusal(f"{CLASS_NAME}: {total} channels of labels are no multiple of {each} for each of them")
    attention = attention_of(values, suffix="SpatioTemporal", class_name=CLASS_NAME)
    values["num_attention_heads"] = each_level(values["num_attention_heads"], len(attention))
    for name in ("layers_per_block", "cross_attention_dim", "transformer_layers_per_block"):
        values[name] = one_for_all(values[name], name=name, class_name=CLASS_NAME)
    values = renamed(values, {public: ours for ours, public in SETTINGS.items()})
    values |= {
        "attention": attention,
        "labels": total // each,
        "time": SVD,
        "stage_eps": stage_eps(attention),
    }
    return settings_from(UNetConfig, values, known=("down_block_types", "up_block_types"))


def stage_eps(attention: tuple[bool, ...]) -> tuple[float, ...]:
    """1e-6 where the way down attends and all the way up, 1e-5 elsewhere: as diffusers, which runs the public
    weights, has it."""
    return (*(1e-6 if attends else 1e-5 for attends in attention), 1e-5, *(1e-6 for _ in attention))


CARD = Card(
    class_name=CLASS_NAME,
    build=UNet,
    to_public=NAMES.to_public,
    to_ours=NAMES.to_ours,
    write_config=write_config,
    read_config=read_config,
    public_shape=over_frames,
)

save = CARD.save  # a folder that `UNetSpatioTemporalConditionModel.from_pretrained` reads
load = CARD.load
