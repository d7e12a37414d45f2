"""The card of `WanTransformer3DModel`: text-to-video models of Wan 2.1 and 2.2, and every transformer trained
here.

Shapes are the same on both sides; names and settings differ. Models that are also given an image through CLIP
(Wan 2.1 I2V) have more weights than the transformer of this house, and are refused by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mutoscope.checkpoints.card import Card, settings_from
from mutoscope.checkpoints.names import BlockNames
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.video import Refusal

CLASS_NAME = "WanTransformer3DModel"

ATTENTION = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "out": "to_out.0",
    "query_norm": "norm_q",
    "key_norm": "norm_k",
}
NAMES = BlockNames(
    outside={
        "patches": "patch_embedding",
        "time.first": "condition_embedder.time_embedder.linear_1",
        "time.second": "condition_embedder.time_embedder.linear_2",
        "time.project": "condition_embedder.time_proj",
        "text.0": "condition_embedder.text_embedder.linear_1",
        "text.2": "condition_embedder.text_embedder.linear_2",
        "modulation": "scale_shift_table",
        "head": "proj_out",
    },
    inside={
        **{f"self_attention.{ours}": f"attn1.{public}" for ours, public in ATTENTION.items()},
        **{f"cross.{ours}": f"attn2.{public}" for ours, public in ATTENTION.items()},
        "cross_norm": "norm2",
        "ffn_in": "ffn.net.0.proj",
        "ffn_out": "ffn.net.2",
        "modulation": "scale_shift_table",
    },
)
SETTINGS = {
    "heads": "num_attention_heads",
    "head_dim": "attention_head_dim",
    "layers": "num_layers",
    "rope_max": "rope_max_seq_len",
}
# What the public class takes where its config.json says nothing.
DEFAULTS = {
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "text_dim": 4096,
    "ffn_dim": 13824,
    "num_layers": 40,
    "patch_size": (1, 2, 2),
}
IMAGES = ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len")


def save(transformer: Transformer, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Writes a folder that `WanTransformer3DModel.from_pretrained` reads."""
    CARD.save(transformer, folder, dtype=dtype)


def load(folder: str | Path) -> Transformer:
    """The transformer of a folder that was written here or by diffusers; `Refusal` if it cannot be read."""
    transformer = CARD.load(folder)
    assert isinstance(transformer, Transformer)
    return transformer


def to_ours(name: str) -> str | None:
    # A norm that early public files carry and no version of the network ever used.
    return None if ".norm_added_q." in name else NAMES.to_ours(name)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    values = {SETTINGS.get(name, name): value for name, value in config.model_dump(mode="json").items()}
    return {"_class_name": CLASS_NAME, **values}


def read_config(config: Mapping[str, Any]) -> TransformerConfig:
    """Our settings; `Refusal` for a model that wants images."""
    values = DEFAULTS | dict(config)
    for name in IMAGES:
        if values.get(name) is not None:
            raise Refusal(
                f"{CLASS_NAME}: {name} is {values[name]}, so the model wants an image as CLIP sees it; "
                "only text-to-video models (and Wan 2.2) can be read"
            )
    if values.get("out_channels", 16) is None:
        values["out_channels"] = values.get("in_channels", 16)
    ours = {public: name for name, public in SETTINGS.items()}
    return settings_from(
        TransformerConfig, {ours.get(name, name): value for name, value in values.items()}, known=IMAGES
    )


CARD = Card(
    class_name=CLASS_NAME,
    build=Transformer,
    to_public=NAMES.to_public,
    to_ours=to_ours,
    write_config=write_config,
    read_config=read_config,
)
