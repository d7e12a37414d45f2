"""A folder of a U-Net that makes films of pixels: Video Diffusion Models (2204.03458), with or without words.

    model_index.json      that it is one
    unet/                 config.json and safetensors, in a public layout where there is one (`unet`)
    text_encoder/ tokenizer/    as in every model folder here; absent where the model reads no words
    mutoscope.json        size, length, rate, process (`folder.ModelFacts`)
    linear/               of a model that begins at a linear guess: what that was measured to be (`linear`)
    stage.json            of a stage of a cascade alone, which makes of a film a finer one (`StageFacts`)
    README.md             the model card

No public pipeline makes films of pixels by such a network, so the folder as a whole is of this house; its
parts are not.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from mutoscope.checkpoints import linear, umt5, unet
from mutoscope.checkpoints.card import read_json, settings_from
from mutoscope.checkpoints.folder import (
    FACTS,
    INDEX,
    ModelFacts,
    fingerprint,
    is_of,
    read_facts,
    read_words,
    write_json,
    written_whole,
)
from mutoscope.diffusion.known import channels_of
from mutoscope.diffusion.linear import Linear
from mutoscope.models.unet import UNet
from mutoscope.models.words import Words
from mutoscope.video import Refusal

__all__ = [
    "PIPELINE",
    "StageFacts",
    "UNetModel",
    "is_unet_folder",
    "load_unet_model",
    "read_stage",
    "save_unet_model",
]

PIPELINE, STAGE = "MutoscopeUNetPipeline", "stage.json"


class StageFacts(BaseModel):
    """How a stage of a cascade is used.

    kind: larger, a film becomes `factor` times as wide and high; between, `factor` times as many frames.
    noise: how noisy a stage that makes films larger is shown them, as a time, which covers what whoever made
    them got wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["larger", "between"] = "larger"
    factor: int = Field(default=2, ge=2)
    noise: float = Field(default=0.1, ge=0, lt=1)

    @property
    def command(self) -> str:
        """Of mutoscope, to use such a stage."""
        return f"{'upscale' if self.kind == 'larger' else 'interpolate'} FILM"

    @property
    def does(self) -> str:
        """What such a stage does, for whoever asks it for another thing."""
        what = "makes films larger" if self.kind == "larger" else "puts frames between those of films"
        return f"{what}, and does nothing else: mutoscope {self.command} --model FOLDER"


@dataclass(frozen=True, eq=False)
class UNetModel:
    """The networks that make a film of pixels, and what to know about them.

    words: None for a model that reads none. stage: None for a model that makes films of words, or of nothing.
    linear: the first guess that the network says what lacks of; None: it says all. fingerprint: empty for a
    model that was not loaded. Raises Refusal for a network without channels for what it is shown.
    """

    unet: UNet
    words: Words | None
    facts: ModelFacts = field(default_factory=ModelFacts)
    stage: StageFacts | None = None
    linear: Linear | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        config, guessed = self.unet.config, self.linear is not None
        bare, full = (channels_of(config.out_channels, guessed=guessed, known=k) for k in (False, True))
        if self.stage is not None and config.in_channels != full:
            raise Refusal(
                f"unet takes {config.in_channels} channels; a stage, which sees a coarse film, takes {full}"
            )
        if guessed and config.in_channels not in (bare, full):
            raise Refusal(
                f"unet takes {config.in_channels} channels; one that sees a first guess takes {bare}, or "
                f"{full} with what is known"
            )

    @property
    def told(self) -> bool:
        """Whether the network has channels for what is known of a film."""
        config, guessed = self.unet.config, self.linear is not None
        return config.in_channels > channels_of(config.out_channels, guessed=guessed, known=False)


def save_unet_model(
    model: UNetModel, folder: str | Path, *, dtype: torch.dtype | None = torch.bfloat16, card: str = ""
) -> Path:
    """Writes a model folder, whole or not at all; see `folder.save_model`."""
    with written_whole(folder) as writing:
        unet.save(model.unet, writing / "unet", dtype=dtype)
        facts = model.facts
        if model.words is not None:
            umt5.save(model.words.encoder, writing / "text_encoder", dtype=dtype)
            model.words.tokenizer.save(writing / "tokenizer")
            facts = facts.model_copy(update={"padded_to": model.words.padded_to})
        write_json(writing / FACTS, facts.model_dump(mode="json"))
        if model.linear is not None:
            linear.save(model.linear, writing / "linear")
        if model.stage is not None:
            write_json(writing / STAGE, model.stage.model_dump(mode="json"))
        if card:
            (writing / "README.md").write_text(card, encoding="utf-8")
        write_json(writing / INDEX, {"_class_name": PIPELINE})
    return Path(folder)


def is_unet_folder(folder: str | Path) -> bool:
    """Whether this is such a folder, by its index."""
    return is_of(folder, PIPELINE)


def read_stage(folder: str | Path) -> StageFacts | None:
    """What such a folder says of a stage of a cascade; None for any other folder."""
    path = Path(folder) / STAGE
    return settings_from(StageFacts, read_json(path)) if is_unet_folder(folder) and path.exists() else None


def load_unet_model(folder: str | Path) -> UNetModel:
    """The model in a folder, in float32.

    Raises:
        Refusal: parts that are missing, damaged, of another class, or do not fit each other.
    """
    folder = Path(folder)
    facts, network = read_facts(folder), unet.load(folder / "unet")
    words = read_words(folder, facts) if (folder / "text_encoder").is_dir() else None
    reads, width = network.config.text_dim, None if words is None else words.encoder.config.width
    if reads != width:
        raise Refusal(f"{folder}: unet text_dim is {reads} and text encoder d_model {width}; they must agree")
    weights = fingerprint(folder, parts=("unet", "text_encoder", "linear"))
    first = linear.load(folder / "linear") if (folder / "linear").is_dir() else None
    return UNetModel(network, words, facts, read_stage(folder), first, weights)
