"""A model folder: everything a film is made with, in the layout of diffusers' `WanPipeline`.

    model_index.json      which public class reads which part
    transformer/ vae/ text_encoder/    config.json and safetensors, by the cards of this room
    tokenizer/            tokenizer.json, and the words the model has met
    scheduler/            the shift of the time grid, and the process if it is no flow
    mutoscope.json        what a public folder does not say: its size, length and rate (`ModelFacts`)
    README.md             the model card

`WanPipeline.from_pretrained(folder)` opens what is written here, and a public Wan folder, which lacks only
mutoscope.json, is read with the defaults of Wan. Only JSON and safetensors are read; a name or address found
inside a file is never followed.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mutoscope.checkpoints import umt5, wan_autoencoder, wan_transformer
from mutoscope.checkpoints.card import read_json, settings_from
from mutoscope.checkpoints.hub import find
from mutoscope.diffusion.prior import PriorSettings
from mutoscope.diffusion.process import Process
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.transformer import Transformer
from mutoscope.models.words import Words
from mutoscope.video import Refusal

__all__ = [
    "FLOW",
    "Model",
    "ModelFacts",
    "UsualSampler",
    "fingerprint",
    "load_model",
    "save_model",
    "scheduler_of",
]

INDEX, FACTS, CARD = "model_index.json", "mutoscope.json", "README.md"
SCHEDULER = "scheduler/scheduler_config.json"
PIPELINE = "WanPipeline"
PARTS = {
    "transformer": ("diffusers", "WanTransformer3DModel"),
    "vae": ("diffusers", "AutoencoderKLWan"),
    "text_encoder": ("transformers", "UMT5EncoderModel"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
}
FLOW = Process(schedule="straight", prediction="flow")
"""What public Wan models are, and what is trained here unless told otherwise."""
HASHED_WHOLE = 64 * 2**20
"""Weights up to this many bytes are hashed to the last one (a tenth of a second)."""

UsualSampler = Literal["euler", "heun", "multistep", "ancestral"]
"""Those of which one may be the model's own."""


class ModelFacts(BaseModel):
    """What a model was made for, and how it is best asked; the defaults are those of the public Wan
    pipelines.

    size: width and height in pixels. padded_to: rows of text the transformer attends, zero rows included.
    vocabulary: what its captions spoke of, by name. noise: how the noise of frames was related in training,
    and is to be in sampling. process: what its films and predictions are. A folder that does not speak of
    these two has independent noise and a flow. shift: of the sampling grid of a model on pixels; a
    transformer's stands in its scheduler's file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    fps: float = Field(default=16.0, gt=0)
    size: tuple[int, int] = (832, 480)
    frames: int = Field(default=81, gt=0)
    steps: int = Field(default=50, gt=0)
    guidance: float = 5.0
    sampler: UsualSampler = "euler"
    shift: float = Field(default=1.0, gt=0)
    padded_to: int = Field(default=512, gt=0)
    vocabulary: str = ""
    noise: PriorSettings = PriorSettings()
    process: Process = FLOW


@dataclass(frozen=True, eq=False)
class Model:
    """The networks that make a film, and what to know about them.

    shift: of the sampling grid, `diffusion.plan.flow_match`. fingerprint: of the weights on the disk, see
    `fingerprint`; empty for a model that was not loaded.
    """

    transformer: Transformer
    words: Words
    autoencoder: Autoencoder
    shift: float = 1.0
    facts: ModelFacts = field(default_factory=ModelFacts)
    fingerprint: str = ""


def save_model(
    model: Model, folder: str | Path, *, dtype: torch.dtype | None = torch.bfloat16, card: str = ""
) -> Path:
    """Writes a model folder, whole or not at all; an older model folder in its place is replaced.

    dtype: of the weights on the disk, None for what they have. card: the text of README.md, if any.

    Raises:
        Refusal: the place holds something else, or cannot be written.
    """
    with written_whole(folder) as writing:
        _write(model, writing, dtype=dtype, card=card)
    return Path(folder)


@contextmanager
def written_whole(folder: str | Path) -> Iterator[Path]:
    """A folder to write a model into, which is moved to its place when all of it is there.

    Raises:
        Refusal: the place holds something that is no model folder, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / INDEX).exists() or not any(folder.iterdir()))):
        raise Refusal(f"{folder}: holds something that is no model folder; name another place for the model")
    writing = folder.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        writing.mkdir(parents=True)
        yield writing
        _move(writing, folder)
    except OSError as error:
        raise Refusal(f"{folder}: the model cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def load_model(folder: str | Path) -> Model:
    """The model in a folder, or at a hub id "owner/name" (which needs `huggingface_hub`), in float32.

    Raises:
        Refusal: parts that are missing, damaged, of another class, or do not fit each other.
    """
    folder = find(folder, parts=tuple(PARTS))
    _check_index(folder)
    facts = read_facts(folder)
    words = read_words(folder, facts)
    model = Model(
        transformer=wan_transformer.load(folder / "transformer"),
        words=words,
        autoencoder=wan_autoencoder.load(folder / "vae"),
        shift=_read_shift(folder / SCHEDULER, facts.process),
        facts=facts,
        fingerprint=fingerprint(folder),
    )
    _check_fit(model, folder)
    return model


def fingerprint(folder: str | Path, *, parts: Iterable[str] = PARTS) -> str:
    """SHA-256 of what decides a film: the weights, in the order of their names, and tokenizer.json.

    "sha256:..." covers every byte. Beyond 64 MiB that would take too long at every start; "headers:..." then
    covers names, shapes, types and sizes only, and tells two trainings of one architecture apart by chance
    alone.
    """
    folder = Path(folder)
    paths = sorted(path for part in parts for path in (folder / part).glob("*.safetensors"))
    tokenizer = folder / "tokenizer" / "tokenizer.json"
    paths += [tokenizer] if tokenizer.exists() else []
    whole = sum(path.stat().st_size for path in paths) <= HASHED_WHOLE
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes() if whole or path.suffix == ".json" else _header(path))
    return f"{'sha256' if whole else 'headers'}:{digest.hexdigest()}"


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def _write(model: Model, folder: Path, *, dtype: torch.dtype | None, card: str) -> None:
    wan_transformer.save(model.transformer, folder / "transformer", dtype=dtype)
    wan_autoencoder.save(model.autoencoder, folder / "vae", dtype=dtype)
    umt5.save(model.words.encoder, folder / "text_encoder", dtype=dtype)
    model.words.tokenizer.save(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    scheduler = scheduler_of(model.facts.process, shift=model.shift)
    write_json(folder / SCHEDULER, scheduler)
    # The rows a text is padded to belong to the words; the facts only carry them to the disk.
    facts = model.facts.model_copy(update={"padded_to": model.words.padded_to})
    write_json(folder / FACTS, facts.model_dump(mode="json"))
    if card:
        (folder / CARD).write_text(card, encoding="utf-8")
    parts = PARTS | {"scheduler": ("diffusers", scheduler["_class_name"])}
    write_json(folder / INDEX, {"_class_name": PIPELINE, **parts})


def write_json(path: Path, value: Any) -> None:
    """A value as a file of indented JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _move(writing: Path, folder: Path) -> None:
    # A folder cannot be renamed onto a full one.
    old = writing.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    writing.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _check_index(folder: Path) -> None:
    index = read_json(folder / INDEX)
    name = index.get("_class_name")
    if name != PIPELINE:
        raise Refusal(f"{folder / INDEX}: the class is {name!r}; models for {PIPELINE} (Wan) can be read")
    if any(index.get("transformer_2") or ()):
        raise Refusal(f"{folder}: has two transformers for one model; models with one can be read")
    missing = [f"{part}/" for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise Refusal(f"{folder}: {', '.join(missing)} missing; a model folder holds {'/, '.join(PARTS)}/")


def is_of(folder: str | Path, pipeline: str) -> bool:
    """Whether the folder's index names this pipeline."""
    path = Path(folder) / INDEX
    return path.is_file() and read_json(path).get("_class_name") == pipeline


def read_words(folder: Path, facts: ModelFacts) -> Words:
    """The tokenizer and the text encoder of a folder."""
    tokenizer, encoder = Tokenizer.load(folder / "tokenizer"), umt5.load(folder / "text_encoder")
    return Words(tokenizer, encoder, padded_to=facts.padded_to)


def read_facts(folder: Path) -> ModelFacts:
    """What the folder says of its model. Raises Refusal for values out of range."""
    path = folder / FACTS
    values = read_json(path) if path.exists() else {}
    try:
        facts: ModelFacts = settings_from(ModelFacts, {"name": folder.resolve().name} | values)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return facts


def scheduler_of(process: Process, *, shift: float) -> dict[str, Any]:
    """The public scheduler that samples a model of this process, with the times that our networks are told.

    A flow on the straight line is FlowMatchEuler's. What is predicted on the cosine is DDIM's, by a table:
    step k of 1000 is our time k / 1000. Raises Refusal for other processes: no public scheduler has them.
    """
    if process == FLOW:
        return {"_class_name": PARTS["scheduler"][1], "shift": shift}
    kinds = {"velocity": "v_prediction", "noise": "epsilon", "clean": "sample"}
    if process.deviation is not None or process.guesses or process.colours != "rgb":
        raise Refusal(
            f"deviation is {process.deviation}, guesses {process.guesses} and colours {process.colours}: no "
            "public scheduler shows a network films at variance 1, without a first guess, or in colours of "
            "its own; leave all three away"
        )
    if process.schedule != "cosine" or process.prediction not in kinds:
        raise Refusal(
            f"{process.prediction} predicted on the schedule {process.schedule}: no public scheduler samples "
            f"that; take flow on straight, or {', '.join(kinds)} on cosine"
        )
    kept = process.noising().alpha(torch.arange(1000, dtype=torch.float64) / 1000) ** 2
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    return {
        "_class_name": "DDIMScheduler", "shift": shift, "trained_betas": betas.tolist(),
        "num_train_timesteps": 1000, "prediction_type": kinds[process.prediction], "clip_sample": False,
        "timestep_spacing": "trailing",
    }  # fmt: skip


def _read_shift(path: Path, process: Process) -> float:
    """`shift` of the flow-match schedulers, `flow_shift` of those that can be set to flow matching."""
    config = read_json(path)
    name = str(config.get("_class_name", ""))
    flows = name.startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"
    # Asked whatever the file says: what no scheduler has is refused.
    usual = scheduler_of(process, shift=1.0)["_class_name"]
    if not flows and name != usual:
        raise Refusal(f"{path}: {name} does not walk a flow; models that predict the flow can be read")
    shift = config.get("shift", config.get("flow_shift", 1.0))
    if not isinstance(shift, int | float) or not shift > 0:
        raise Refusal(f"{path}: shift is {shift!r}; it must be a number above 0")
    return float(shift)


def _check_fit(model: Model, folder: Path) -> None:
    transformer, encoder = model.transformer.config, model.words.encoder.config
    pairs = (
        ("transformer text_dim", transformer.text_dim, "text encoder d_model", encoder.width),
        ("transformer in_channels", transformer.in_channels, "vae z_dim", model.autoencoder.config.z_dim),
        ("transformer out_channels", transformer.out_channels, "vae z_dim", model.autoencoder.config.z_dim),
    )
    for ours, a, theirs, b in pairs:
        if a != b:
            raise Refusal(f"{folder}: {ours} is {a} and {theirs} is {b}; parts of one model agree")
    tokens = model.words.tokenizer.vocabulary_size
    if tokens > encoder.vocabulary:
        raise Refusal(
            f"{folder}: the tokenizer has {tokens} tokens and the text encoder {encoder.vocabulary}; parts "
            "of one model agree"
        )
