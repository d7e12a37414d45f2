"""Weights to video: what is asked (`Request`), what is made of it (`Pipeline`), and its files (`output`)."""

from pathlib import Path

import torch

from mutoscope.checkpoints.folder import Model, load_model
from mutoscope.checkpoints.hierarchy_folder import is_hierarchy_folder, load_hierarchy
from mutoscope.checkpoints.unet_folder import (
    UNetModel,
    is_unet_folder,
    load_unet_model,
    read_stage,
)
from mutoscope.models.precision import Precision
from mutoscope.pipelines.cascade import SpatialStage, TemporalStage
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.generate import Pipeline, Step
from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.request import Request
from mutoscope.video import Refusal

__all__ = [
    "PRETRAINED",
    "Filmmaker",
    "Hierarchy",
    "Pipeline",
    "Request",
    "SpatialStage",
    "Step",
    "TemporalStage",
    "found",
    "load",
    "load_pipeline",
]

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def load(
    folder: str | Path | None = None,
    *,
    precision: Precision = "auto",
    device: torch.device | str | None = None,
    weak: str | Path | None = None,
) -> Filmmaker:
    """A model, ready to make films: the one that ships, one in a folder, or one of the hub ("owner/name").

    weak: a weaker model of the same latents, to guide by; see `Pipeline`.

    Raises:
        Refusal: there is no model, or it cannot be read.
    """
    chain = folder is not None and is_hierarchy_folder(folder)
    stage = None if folder is None else read_stage(folder)
    if folder is None or not (chain or stage):
        return load_pipeline(folder, precision=precision, device=device, weak=weak)
    if weak is not None:
        kind = "a hierarchy of models" if chain else "a stage of a cascade"
        raise Refusal(f"{folder} is {kind}, and no weaker one guides it; leave out {weak}")
    if stage:
        ready = SpatialStage if stage.kind == "larger" else TemporalStage
        return ready(load_unet_model(folder), precision=precision, device=device, in_place=True)
    return Hierarchy(load_hierarchy(folder), precision=precision, device=device, in_place=True)


def load_pipeline(
    folder: str | Path | None = None,
    *,
    precision: Precision = "auto",
    device: torch.device | str | None = None,
    weak: str | Path | None = None,
) -> Pipeline:
    """The same, of a model whose one network makes films: what plans need. Raises Refusal for a hierarchy of
    models and a stage of a cascade too."""
    if folder is None and not (PRETRAINED / "model_index.json").exists():
        raise Refusal("no model ships with this copy of mutoscope; train one, or name a folder with --model")
    return Pipeline(
        found(folder or PRETRAINED), precision=precision, device=device, in_place=True,
        weak=None if weak is None else found(weak),
    )  # fmt: skip


def found(folder: str | Path) -> Model | UNetModel:
    """The model of a folder or hub id, of the family that its index names."""
    if is_hierarchy_folder(folder):
        raise Refusal(
            f"{folder} is a hierarchy of models, which makes whole films of words (mutoscope generate); name "
            "a model of one network for this"
        )
    if stage := read_stage(folder):
        raise Refusal(f"{folder} {stage.does}")
    return load_unet_model(folder) if is_unet_folder(folder) else load_model(folder)
