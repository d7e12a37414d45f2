"""Contact sheets of what is being trained: clips beside their reconstructions, and films of fixed prompts.

The seeds and the clips stay the same, so the sheets of one run are a flip book of learning.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch

from mutoscope.checkpoints.folder import Model
from mutoscope.checkpoints.hierarchy_folder import HierarchyModel
from mutoscope.checkpoints.unet_folder import UNetModel
from mutoscope.data.loader import Source
from mutoscope.diffusion.known import enlarged, shrunk
from mutoscope.media import contact_sheet, save_png
from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.image_autoencoder import ImageAutoencoder
from mutoscope.models.precision import fast_dtype
from mutoscope.pipelines.cascade import SpatialStage, TemporalStage
from mutoscope.pipelines.generate import Pipeline
from mutoscope.pipelines.hierarchy import Hierarchy
from mutoscope.pipelines.revision import revise
from mutoscope.pipelines.tasks import Interpolate
from mutoscope.pipelines.upscale import Upscale
from mutoscope.video import Video

__all__ = ["reconstruction_sheet", "sample_sheet", "stage_sheet", "world_sheet"]

SEED = 7


def reconstruction_sheet(
    autoencoder: Autoencoder | ImageAutoencoder, source: Source, *, path: str | Path, count: int = 4
) -> Path:
    """Clips of a source, each above its reconstruction, written as a PNG."""
    batch = source.batch(SEED, count)
    device = next(autoencoder.parameters()).device
    dtype = fast_dtype(device)
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        video = batch.video.to(device)
        made = autoencoder.decode(autoencoder.encode(video).mode())[:, :, : video.shape[2]].float().cpu()
    pairs = zip(_videos(batch.video, source.fps), _videos(made, source.fps), strict=True)
    captions = chain.from_iterable((caption, "reconstruction") for caption in batch.captions)
    save_png(contact_sheet(list(chain.from_iterable(pairs)), columns=7, captions=list(captions)), Path(path))
    return Path(path)


def sample_sheet(
    model: Model | UNetModel | HierarchyModel, prompts: Sequence[str], *, path: str | Path, seed: int = SEED
) -> Path:
    """Films of the prompts, one a row, written as a PNG; of as many seeds where the model reads no words. The
    model itself is left as it is.

    Of a hierarchy only as long as from one key frame to the next, once it fills in between them.
    """
    frames = None
    if isinstance(model, HierarchyModel):
        pipeline, short = Hierarchy(model), model.hierarchy.stride + 1
        frames = None if model.interpolation is None else short
    else:
        pipeline = Pipeline(model)
    rows = [(prompt, seed) for prompt in prompts]
    if isinstance(model, UNetModel) and model.words is None:
        rows = [(f"seed {number}", number) for number in range(seed, seed + len(prompts))]
    asked = [pipeline.request(prompt, seed=number, frames=frames) for prompt, number in rows]
    captions = [prompt for prompt, _ in rows]
    save_png(contact_sheet(list(pipeline.films(asked)), columns=7, captions=captions), Path(path))
    return Path(path)


def stage_sheet(model: UNetModel, source: Source, *, path: str | Path, count: int = 3) -> Path:
    """What a stage of a cascade makes of clips that were shrunk, or of which frames are left away, each above
    the clip itself and below what the stage was shown, written as a PNG. The model is left as it is."""
    assert model.stage is not None
    batch, fps, factor = source.batch(SEED, count), source.fps, model.stage.factor
    frames, height, width = batch.video.shape[2:]
    if model.stage.kind == "larger":
        stage, task = SpatialStage(model), Upscale()
        coarse = shrunk(batch.video.cpu(), factor)
        shown = enlarged(coarse, height=height, width=width)
    else:
        stage, task, fps = TemporalStage(model), Interpolate(factor=factor), fps / factor
        coarse = batch.video[:, :, ::factor]
        shown = coarse.repeat_interleave(factor, dim=2)[:, :, :frames]
    told = zip(_videos(coarse, fps), batch.captions, strict=True)
    made = [revise(stage, task, films=film, prompt=caption) for film, caption in told]
    shown = _videos(shown, source.fps)
    rows = chain.from_iterable(zip(shown, made, _videos(batch.video, source.fps), strict=True))
    captions = chain.from_iterable(("shown", "made", caption) for caption in batch.captions)
    save_png(contact_sheet(list(rows), columns=7, captions=list(captions)), Path(path))
    return Path(path)


def world_sheet(source: Source, *, path: str | Path, count: int = 8) -> Path:
    """Clips of a source and their captions, written as a PNG."""
    batch = source.batch(SEED, count)
    save_png(
        contact_sheet(list(_videos(batch.video, source.fps)), columns=7, captions=batch.captions), Path(path)
    )
    return Path(path)


def _videos(video: torch.Tensor, fps: float) -> list[Video]:
    return [Video.from_tensor(clip, fps=fps) for clip in video]
