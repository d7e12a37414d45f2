"""Weights to video: what is asked (`Request`), what is made of it (`Pipeline`), and its files (`output`)."""

from pathlib import Path

import torch

from mutoscope.checkpoints.folder import Model, load_model
from mutoscope.checkpoints.unet_folder import UNetModel, is_unet_folder, load_unet_model
from mutoscope.models.precision import Precision
from mutoscope.pipelines.generate import Pipeline, Step
from mutoscope.pipelines.request import Request
from mutoscope.video import Refusal

__all__ = ["PRETRAINED", "Pipeline", "Request", "Step", "found", "load"]

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def load(
    folder: str | Path | None = None,
    *,
    precision: Precision = "auto",
    device: torch.device | str | None = None,
    weak: str | Path | None = None,
) -> Pipeline:
    """A model, ready to make films: the one that ships, one in a folder, or one of the hub ("owner/name").

    weak: a weaker model of the same latents, to guide by; see `Pipeline`.

    Raises:
        Refusal: there is no model, or it cannot be read.
    """
    if folder is None and not (PRETRAINED / "model_index.json").exists():
        raise Refusal("no model ships with this copy of mutoscope; train one, or name a folder with --model")
    return Pipeline(
        found(folder or PRETRAINED), precision=precision, device=device, in_place=True,
        weak=None if weak is None else found(weak),
    )  # fmt: skip


def found(folder: str | Path) -> Model | UNetModel:
    """The model of a folder or hub id, of the family that its index names."""
    return load_unet_model(folder) if is_unet_folder(folder) else load_model(folder)
