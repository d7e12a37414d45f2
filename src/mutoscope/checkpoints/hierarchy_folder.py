"""A folder of a hierarchy of U-Nets on latents: Align Your Latents (2304.08818) and LVDM (2211.13221).

    model_index.json      that it is one, and which public class reads which part
    unet/                 words and noise -> key frames, or one frame after others that are known
    interpolation_unet/   the frames between two that are known
    upscaler_unet/        pixels: a larger film out of a smaller one
    vae/                  AutoencoderKLTemporalDecoder; AutoencoderKL while its decoder has no layers of time
    text_encoder/ tokenizer/ scheduler/    as in every model folder here
    mutoscope.json        size, length, rate, process of the finished film (`folder.ModelFacts`)
    hierarchy.json        how the parts work together (`HierarchyFacts`)

A model on its way lacks parts: without the second its film is the key frames, without the third it is small.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from mutoscope.checkpoints import kl_autoencoder, umt5, unet
from mutoscope.checkpoints.card import CONFIG, read_json, settings_from
from mutoscope.checkpoints.folder import (
    FACTS,
    INDEX,
    SCHEDULER,
    ModelFacts,
    fingerprint,
    is_of,
    read_facts,
    read_words,
    scheduler_of,
    write_json,
    written_whole,
)
from mutoscope.diffusion.process import Process
from mutoscope.models.image_autoencoder import ImageAutoencoder
from mutoscope.models.unet import UNet
from mutoscope.models.words import Words
from mutoscope.video import Refusal

__all__ = [
    "HierarchyFacts",
    "HierarchyModel",
    "is_hierarchy_folder",
    "load_hierarchy",
    "save_hierarchy",
]

PIPELINE, HIERARCHY = "MutoscopeHierarchyPipeline", "hierarchy.json"
UNETS = {"unet": "unet", "interpolation": "interpolation_unet", "upscaler": "upscaler_unet"}


class HierarchyFacts(BaseModel):
    """How the networks of a hierarchy work together.

    keys: key frames made at a time. context: of these, how many are the last of the ones before; how strongly
    they are followed, 1 is as they are; and how noisy they are shown, as a time in [0, 1]. every: of how many
    frames one is known to the interpolation, and `rounds` how often it is used. span: frames it sees at a
    time, a multiple of `every` and one. scale: how much larger the upscaler makes a film, which it is shown
    as noisy as at time `small_noise`. chunk: frames decoded and enlarged at a time; neighbours share
    `overlap` of them, where they fade into each other. steps_between, steps_larger: of sampling. larger: the
    process of the upscaler; None: that of the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: int = Field(default=8, ge=1)
    context: int = Field(default=2, ge=0)
    context_guidance: float = Field(default=1.0, ge=0)
    context_noise: float = Field(default=0.0, ge=0, lt=1)
    every: int = Field(default=4, ge=2)
    rounds: int = Field(default=2, ge=0)
    span: int = Field(default=5, ge=3)
    scale: int = Field(default=4, ge=1)
    small_noise: float = Field(default=0.1, ge=0, lt=1)
    chunk: int = Field(default=8, ge=1)
    overlap: int = Field(default=2, ge=0)
    steps_between: int = Field(default=12, ge=1)
    steps_larger: int = Field(default=6, ge=1)
    larger: Process | None = None

    @property
    def stride(self) -> int:
        """Frames of the finished film from one key frame to the next."""
        return self.every**self.rounds


@dataclass(frozen=True, eq=False)
class HierarchyModel:
    """The networks, and what to know about them. None: a part that is not there (yet).

    facts: of the finished film, so without upscaler the size is that of the decoded one. fingerprint: empty
    for a model that was not loaded.
    """

    unet: UNet
    autoencoder: ImageAutoencoder
    words: Words
    interpolation: UNet | None = None
    upscaler: UNet | None = None
    facts: ModelFacts = field(default_factory=ModelFacts)
    hierarchy: HierarchyFacts = field(default_factory=HierarchyFacts)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        _check_fit(self)


def _check_fit(model: HierarchyModel) -> None:
    z, chain = model.autoencoder.config.z_dim, model.hierarchy
    reads, width = model.unet.config.text_dim, model.words.encoder.config.width
    if reads != width:
        raise Refusal(f"unet text_dim is {reads} and text encoder d_model {width}; parts of one model agree")
    for name, network in (("unet", model.unet), ("interpolation_unet", model.interpolation)):
        if network is not None and network.config.out_channels != z:
            made = network.config.out_channels
            raise Refusal(f"{name} makes {made} channels and vae z_dim is {z}; parts of one model agree")
    if chain.overlap >= chain.chunk or chain.context >= chain.keys or (chain.span - 1) % chain.every:
        raise Refusal(
            f"overlap {chain.overlap} of chunk {chain.chunk}, context {chain.context} of {chain.keys} keys, "
            f"span {chain.span} of every {chain.every}: the first two must be smaller than the wholes, and "
            "span one more than a multiple"
        )


def save_hierarchy(
    model: HierarchyModel, folder: str | Path, *, dtype: torch.dtype | None = torch.bfloat16, card: str = ""
) -> Path:
    """Writes a model folder, whole or not at all; see `folder.save_model`."""
    with written_whole(folder) as writing:
        for name, part in UNETS.items():
            if (network := getattr(model, name)) is not None:
                unet.save(network, writing / part, dtype=dtype)
        kl_autoencoder.save(model.autoencoder, writing / "vae", dtype=dtype)
        umt5.save(model.words.encoder, writing / "text_encoder", dtype=dtype)
        model.words.tokenizer.save(writing / "tokenizer")
        facts = model.facts.model_copy(update={"padded_to": model.words.padded_to})
        write_json(writing / FACTS, facts.model_dump(mode="json"))
        write_json(writing / HIERARCHY, model.hierarchy.model_dump(mode="json"))
        (writing / "scheduler").mkdir()
        write_json(writing / SCHEDULER, scheduler_of(facts.process, shift=1.0))
        if card:
            (writing / "README.md").write_text(card, encoding="utf-8")
        write_json(writing / INDEX, {"_class_name": PIPELINE, **_classes(writing)})
    return Path(folder)


def _classes(folder: Path) -> dict[str, Any]:
    """The public class of every part that has one."""
    found: dict[str, Any] = {}
    for part in (*UNETS.values(), "vae"):
        if (folder / part).is_dir():
            name = read_json(folder / part / CONFIG)["_class_name"]
            found[part] = ["mutoscope" if name == unet.CLASS_NAME else "diffusers", name]
    found["text_encoder"] = ["transformers", "UMT5EncoderModel"]
    found["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]
    found["scheduler"] = ["diffusers", read_json(folder / SCHEDULER)["_class_name"]]
    return found


def is_hierarchy_folder(folder: str | Path) -> bool:
    """Whether this is such a folder, by its index."""
    return is_of(folder, PIPELINE)


def load_hierarchy(folder: str | Path) -> HierarchyModel:
    """The model in a folder, in float32.

    Raises:
        Refusal: parts that are missing, damaged, of another class, or do not fit each other.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    unets = {name: unet.load(folder / part) for name, part in UNETS.items() if (folder / part).is_dir()}
    if "unet" not in unets:
        raise Refusal(f"{folder}: unet/ is missing; a hierarchy begins with it")
    words = read_words(folder, facts)
    path = folder / HIERARCHY
    hierarchy = settings_from(HierarchyFacts, read_json(path) if path.exists() else {})
    parts = (*UNETS.values(), "vae", "text_encoder")
    try:
        return HierarchyModel(
            autoencoder=kl_autoencoder.load(folder / "vae"), words=words, facts=facts, hierarchy=hierarchy,
            fingerprint=fingerprint(folder, parts=parts), **unets,
        )  # fmt: skip
    except Refusal as error:
        raise Refusal(f"{folder}: {error}") from None
