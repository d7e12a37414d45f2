"""Clips encoded once: a denoiser trains on latents, and encoding costs as much as a training step.

    facts.json · shard-00000.safetensors (latents, figure) · shard-00000.jsonl (what captions tell)

Shards are written whole or not at all, so an interrupted encoding goes on where it stopped. `facts.json`
names the encoder's weights and the source; a cache made by another encoder or from other clips is refused,
not silently used. Captions are not stored but told anew at every view from the scene (real clips have the one
they came with).
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from mutoscope.data.captions import caption
from mutoscope.data.loader import Ahead, Batch, Source
from mutoscope.data.world import Scene
from mutoscope.video import Refusal

__all__ = ["Encode", "LatentCache", "encode_all"]

Encode = Callable[[Float[Tensor, "b 3 f h w"]], Float[Tensor, "b c f h w"]]
SHARD = 256


@dataclass(frozen=True)
class LatentCache:
    """Encoded clips in memory: `clean` "n c f h w" (bfloat16, normalised), `figure` "n f h w" in [0, 1] on
    the latent grid, and what to tell of each."""

    clean: Float[Tensor, "n c f h w"]
    figure: Float[Tensor, "n f h w"]
    told: list[Scene | str]

    def __len__(self) -> int:
        return len(self.told)

    def to(self, device: str | torch.device) -> "LatentCache":
        """The same clips in the memory of a device, where batches are then gathered without a copy."""
        return replace(self, clean=self.clean.to(device), figure=self.figure.to(device))

    def fits(self, device: str | torch.device, *, share: float = 0.5) -> bool:
        """Whether the clips take at most a `share` of a GPU's free memory; always true of the processor."""
        if torch.device(device).type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(device)
        return self.clean.nbytes + self.figure.nbytes <= share * free

    def caption(self, index: int, random: np.random.Generator) -> str:
        """A caption that is true of clip `index`; drawn anew where the clip is a scene."""
        subject = self.told[index]
        return caption(subject, random) if isinstance(subject, Scene) else subject

    @classmethod
    def load(cls, folder: str | Path, *, facts: dict[str, Any] | None = None) -> "LatentCache":
        """Read a cache; with `facts`, refuse one that was made otherwise.

        Raises:
            Refusal: no cache there, or its facts differ.
        """
        folder = Path(folder)
        if not (folder / "facts.json").exists():
            raise Refusal(f"{folder} holds no encoded clips; make them with `mutoscope train`")
        _agree(folder, facts)
        shards = sorted(folder.glob("shard-*.safetensors"))
        tensors = [load_file(shard) for shard in shards]
        lines = [
            line for s in shards for line in s.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
        ]
        told = [Scene(**entry) if isinstance(entry, dict) else entry for entry in map(json.loads, lines)]
        return cls(
            torch.cat([t["latents"] for t in tensors]), torch.cat([t["figure"] for t in tensors]), told
        )


def encode_all(
    source: Source, folder: str | Path, *, encode: Encode, count: int, facts: dict[str, Any], batch: int = 8
) -> Iterator[int]:
    """Encode `count` clips of a source into a folder, yielding how many are done; shards there are kept.

    `batch` clips at a time, a divisor of the 256 in a shard; the next ones are drawn while these are encoded.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "facts.json").exists():
        _agree(folder, facts)
    _write_text(folder / "facts.json", json.dumps(facts, indent=2))
    batches = Ahead(lambda step: source.batch(step, batch))
    for shard, start in enumerate(range(0, count, SHARD)):
        path = folder / f"shard-{shard:05d}.safetensors"
        if not path.exists():
            stop = min(start + SHARD, count)
            clips = map(batches, range(start // batch, -(-stop // batch)))
            _encode_shard(clips, path, encode=encode, keep=stop - start)
        yield min(start + SHARD, count)


def _encode_shard(batches: Iterable[Batch], path: Path, *, encode: Encode, keep: int) -> None:
    latents, figures, told = [], [], []
    for clips in batches:
        clean = encode(clips.video)
        latents.append(clean.to(torch.bfloat16))
        figures.append(on_latent_grid(clips.figure, clean))
        told += [json.dumps(entry) for entry in _tell(clips)]
    _write_text(path.with_suffix(".jsonl"), "\n".join(told[:keep]) + "\n")
    temporary = path.with_suffix(".partial")
    tensors = {
        "latents": torch.cat(latents)[:keep].contiguous(),
        "figure": torch.cat(figures)[:keep].contiguous(),
    }
    save_file(tensors, temporary)
    os.replace(temporary, path)


def _tell(clips: Batch) -> list[Any]:
    return [asdict(scene) for scene in clips.scenes] if clips.scenes else clips.captions


def on_latent_grid(
    figure: Float[Tensor, "b f h w"], latents: Float[Tensor, "b c g y x"]
) -> Float[Tensor, "b g y x"]:
    """The subject's share of every latent cell, bfloat16; the first latent frame is the first frame alone."""
    frames, height, width = latents.shape[2:]
    first = F.adaptive_avg_pool3d(figure[:, :1], (1, height, width))
    if frames == 1:
        return first.to(torch.bfloat16)
    rest = F.adaptive_avg_pool3d(figure[:, 1:], (frames - 1, height, width))
    return torch.cat([first, rest], 1).to(torch.bfloat16)


def _agree(folder: Path, facts: dict[str, Any] | None) -> None:
    stored = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    wanted = stored if facts is None else json.loads(json.dumps(facts))
    for key in sorted(stored.keys() | wanted.keys()):
        if stored.get(key) != wanted.get(key):
            raise Refusal(
                f"{folder} holds clips encoded with {key} = {stored.get(key)!r}, "
                f"this run needs {wanted.get(key)!r}; name another run folder or remove that one"
            )


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(path.suffix + ".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
