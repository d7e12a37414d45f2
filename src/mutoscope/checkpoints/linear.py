"""A folder of the best linear guess of a model's films: linear.safetensors, in float32.

Its tensors are those of `diffusion.linear.Linear`, by their names; the side of a patch is in its metadata.
"""

from pathlib import Path

from safetensors.torch import save_file

from mutoscope.checkpoints.card import opened, replacing
from mutoscope.diffusion.linear import PARTS, Linear
from mutoscope.video import Refusal

__all__ = ["load", "save"]

FILE = "linear.safetensors"


def save(linear: Linear, folder: str | Path) -> None:
    """Writes the folder, its file whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A copy on the host, contiguous in the plain sense, is what safetensors take.
    tensors = {name: getattr(linear, name).cpu().clone().contiguous() for name in PARTS}
    with replacing(folder / FILE) as path:
        save_file(tensors, path, metadata={"patch": str(linear.patch)})


def load(folder: str | Path) -> Linear:
    """The guess of a folder. Refusal for one that is missing, damaged or of another kind."""
    path = Path(folder) / FILE
    with opened(path) as file:
        parts = {name: file.get_tensor(name) for name in file.keys()}
        patch = (file.metadata() or {}).get("patch", "")
    d = parts["mean"].numel() if "mean" in parts else 0
    wanted = {name: (d, d) if name == "directions" else (d,) for name in PARTS}
    if {name: tuple(x.shape) for name, x in parts.items()} != wanted or not patch.isdecimal():
        raise Refusal(f"{path}: no linear guess; that is {', '.join(PARTS)} of one size, and a patch's side")
    return Linear(int(patch), **parts)
