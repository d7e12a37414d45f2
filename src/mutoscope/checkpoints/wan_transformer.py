"""The card of `WanTransformer3DModel`: text-to-video models of Wan 2.1 and 2.2, and every transformer trained
here.

Shapes are the same on both sides; names and settings differ. Models that are also given an image through CLIP
(Wan 2.1 I2V) have more weights than the transformer of this house, and are refused by name.
"""

from collections.abc import Mapping
from typing import Any

from mutoscope.checkpoints.card import Card, renamed, settings_from
from mutoscope.checkpoints.names import Names
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.video import Refusal

CLASS_NAME = "WanTransformer3DModel"

NAMES = Names(
    {
        "patches": "patch_embedding",
        "time.first": "condition_embedder.time_embedder.linear_1",
        "time.second": "condition_embedder.time_embedder.linear_2",
        "time.project": "condition_embedder.time_proj",
        "text.0": "condition_embedder.text_embedder.linear_1",
        "text.2": "condition_embedder.text_embedder.linear_2",
        "modulation": "scale_shift_table",
        "head": "proj_out",
        "self_attention": "attn1",
        "cross": "attn2",
        "cross_norm": "norm2",
        "query": "to_q",
        "key": "to_k",
        "value": "to_v",
        "out": "to_out.0",
        "query_norm": "norm_q",
        "key_norm": "norm_k",
        "ffn_in": "ffn.net.0.proj",
        "ffn_out": "ffn.net.2",
    }
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


def to_ours(name: str) -> str | None:
    # A norm that early public files carry and no version of the network ever used.
    return None if ".norm_added_q." in name else NAMES.to_ours(name)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    return {"_class_name": CLASS_NAME, **renamed(config.model_dump(mode="json"), SETTINGS)}


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
    values = renamed(values, {public: ours for ours, public in SETTINGS.items()})
    return settings_from(TransformerConfig, values, known=IMAGES)


CARD = Card(
    class_name=CLASS_NAME,
    build=Transformer,
    to_public=NAMES.to_public,
    to_ours=to_ours,
    write_config=write_config,
    read_config=read_config,
)

save = CARD.save  # a folder that `WanTransformer3DModel.from_pretrained` reads
load = CARD.load
