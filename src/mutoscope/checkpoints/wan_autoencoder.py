"""The cards of `AutoencoderKLWan`: the plain layout of Wan 2.1, and the residual one of Wan 2.2.

The two differ in one name (`upsamplers.0`, `upsampler`). What we hold as 3D convolutions of one frame are 2D
convolutions there, and a gain of C numbers is one of C x 1 x 1 (x 1).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mutoscope.checkpoints.card import CONFIG, Card, Shape, read_json, renamed, settings_from
from mutoscope.checkpoints.names import Names
from mutoscope.models.autoencoder import Autoencoder, AutoencoderConfig
from mutoscope.video import Refusal

CLASS_NAME = "AutoencoderKLWan"

# What the public class takes for 16 channels where its config.json says nothing: the statistics of Wan 2.1.
WAN_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
WAN_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)

PARTS = {
    "after_encoder": "quant_conv",
    "before_decoder": "post_quant_conv",
    **{f"{side}.first": f"{side}.conv_in" for side in ("encoder", "decoder")},
    **{f"{side}.norm": f"{side}.norm_out" for side in ("encoder", "decoder")},
    **{f"{side}.last": f"{side}.conv_out" for side in ("encoder", "decoder")},
    "down": "down_blocks",
    "up": "up_blocks",
    "blocks": "resnets",
    "middle.before": "mid_block.resnets.0",
    "middle.attention": "mid_block.attentions.0",
    "middle.after": "mid_block.resnets.1",
    "space": "resample.1",
    "time": "time_conv",
    "gain": "gamma",
    "skip": "conv_shortcut",
    "qkv": "to_qkv",
    "out": "proj",
}
# Our settings and theirs, where the names differ.
SETTINGS = {"temporal_downsample": "temperal_downsample", "residual": "is_residual"}
DERIVED = ("in_channels", "out_channels", "scale_factor_temporal", "scale_factor_spatial")


def save(autoencoder: Autoencoder, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Writes a folder that `AutoencoderKLWan.from_pretrained` reads."""
    CARDS[autoencoder.config.residual].save(autoencoder, folder, dtype=dtype)


def load(folder: str | Path) -> Autoencoder:
    """The autoencoder of a folder that was written here or by diffusers; `Refusal` if it cannot be read."""
    residual = bool(read_json(Path(folder) / CONFIG).get("is_residual", False))
    return CARDS[residual].load(folder)


def to_public(name: str, *, residual: bool) -> str:
    return _names(name, residual=residual).to_public(name)


def to_ours(name: str, *, residual: bool) -> str:
    return _names(name, residual=residual).to_ours(name)


def public_shape(name: str, shape: Shape) -> Shape:
    if name.endswith(".norm.gain") and name.count(".") > 2:
        return (*shape, 1, 1)  # of an attention, which works on single frames; a coder's own has two dots
    if name.endswith(".gain"):
        return (*shape, 1, 1, 1)
    if name.endswith((".space.weight", ".qkv.weight", ".out.weight")):
        return (*shape[:2], *shape[3:])
    return shape


def write_config(config: AutoencoderConfig) -> dict[str, Any]:
    values = renamed(config.model_dump(mode="json"), SETTINGS)
    values["latents_mean"] = values["latents_mean"] or [0.0] * config.z_dim
    values["latents_std"] = values["latents_std"] or [1.0] * config.z_dim
    # The public class derives none of these from the others.
    values |= {"in_channels": config.pixel_channels, "out_channels": config.pixel_channels}
    values |= {"scale_factor_temporal": config.time_stride, "scale_factor_spatial": config.space_stride}
    return {"_class_name": CLASS_NAME, **values}


def read_config(config: Mapping[str, Any]) -> AutoencoderConfig:
    values = renamed(config, {public: ours for ours, public in SETTINGS.items()})
    if values.get("z_dim", 16) == 16:
        values = {"latents_mean": WAN_MEAN, "latents_std": WAN_STD} | values
    settings = settings_from(AutoencoderConfig, values, known=DERIVED)
    for name in ("in_channels", "out_channels"):
        if config.get(name, 3) != settings.pixel_channels:
            raise Refusal(
                f"{CLASS_NAME}: {name} is {config.get(name, 3)}; patch_size {settings.patch_size} needs "
                f"{settings.pixel_channels}, that is 3 colours for each pixel of a patch"
            )
    return settings


def _names(name: str, *, residual: bool) -> Names:
    if name.startswith("encoder."):
        return Names({"resample": "downsampler", **PARTS})
    return Names({"resample": "upsampler" if residual else "upsamplers.0", **PARTS})


def _card(*, residual: bool) -> Card[Autoencoder]:
    return Card(
        class_name=CLASS_NAME,
        build=Autoencoder,
        to_public=partial(to_public, residual=residual),
        to_ours=partial(to_ours, residual=residual),
        write_config=write_config,
        read_config=read_config,
        public_shape=public_shape,
    )


CARDS = {residual: _card(residual=residual) for residual in (False, True)}
