"""The card of `UMT5EncoderModel`: the text encoder of Wan, and every one trained here.

The public file holds the token table as `shared.weight`; older ones as `encoder.embed_tokens.weight`, or
twice. A file of the whole umT5 has a decoder too, which is passed over.
"""

from collections.abc import Mapping
from typing import Any

from mutoscope.checkpoints.card import Card, renamed
from mutoscope.checkpoints.names import Names
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.video import Refusal

CLASS_NAME = "UMT5EncoderModel"

NAMES = Names(
    {
        "tokens": "shared",
        "norm": "encoder.final_layer_norm",
        "blocks": "encoder.block",
        "attention_norm": "layer.0.layer_norm",
        "query": "layer.0.SelfAttention.q",
        "key": "layer.0.SelfAttention.k",
        "value": "layer.0.SelfAttention.v",
        "out": "layer.0.SelfAttention.o",
        "distance": "layer.0.SelfAttention.relative_attention_bias",
        "ffn_norm": "layer.1.layer_norm",
        "gate": "layer.1.DenseReluDense.wi_0",
        "up": "layer.1.DenseReluDense.wi_1",
        "down": "layer.1.DenseReluDense.wo",
    }
)
TOKENS_TOO = "encoder.embed_tokens.weight"
SETTINGS = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "layers": "num_layers",
    "heads": "num_heads",
    "head_dim": "d_kv",
    "ffn_dim": "d_ff",
    "buckets": "relative_attention_num_buckets",
    "max_distance": "relative_attention_max_distance",
    "eps": "layer_norm_epsilon",
}
# What the public class takes where its config.json says nothing.
DEFAULTS = {"vocab_size": 250112, "d_model": 512, "num_layers": 8, "num_heads": 6, "d_kv": 64, "d_ff": 1024}
# Written for the public class, and nothing that the encoder's arithmetic depends on.
ASIDE = {
    "model_type": "umt5",
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": False,
    "use_cache": False,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def to_ours(name: str) -> str | None:
    if name.startswith(("decoder.", "lm_head.")):
        return None
    return "tokens.weight" if name == TOKENS_TOO else NAMES.to_ours(name)


def write_config(config: TextEncoderConfig) -> dict[str, Any]:
    return {"architectures": [CLASS_NAME], **ASIDE, **renamed(config.model_dump(mode="json"), SETTINGS)}


def read_config(config: Mapping[str, Any]) -> TextEncoderConfig:
    """Our settings; `Refusal` for T5 models of another kind."""
    for name in ("model_type", "feed_forward_proj"):
        if config.get(name, ASIDE[name]) != ASIDE[name]:
            raise Refusal(f"{CLASS_NAME}: {name} is {config[name]!r}, and only {ASIDE[name]!r} can be read")
    values = DEFAULTS | dict(config)
    return TextEncoderConfig(
        **{ours: values[public] for ours, public in SETTINGS.items() if public in values}
    )


CARD = Card(
    class_name=CLASS_NAME,
    build=TextEncoder,
    to_public=NAMES.to_public,
    to_ours=to_ours,
    write_config=write_config,
    read_config=read_config,
    weights="model",
)

save = CARD.save  # a folder that `UMT5EncoderModel.from_pretrained` reads
load = CARD.load
