"""Requests to files, and nothing that was sampled is lost on the way.

    sampling   ->   rain.mp4.latents.safetensors   ->   decoding   ->   rain.mp4

The latents lie on the disk, with all that was asked, before the first picture is decoded, and go when the
film is complete. If decoding fails or is killed they stay, and `finish` makes the film of them; asking for
the same film again does so too. The film itself appears when it is whole. Both ways are generators of
`Progress`: to stop, stop iterating.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mutoscope.checkpoints.card import opened
from mutoscope.media import check_writable, open_writer, read_notes
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.generate import Step
from mutoscope.pipelines.provenance import Provenance, notes_of, provenance_of
from mutoscope.pipelines.request import Request
from mutoscope.video import Refusal

__all__ = [
    "LATENTS",
    "Progress",
    "again",
    "check_output",
    "film",
    "finish",
    "is_latents",
    "outputs",
    "provenance",
]

LATENTS = ".latents.safetensors"
FASTEST_GIF = 50


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps (sampling) or frames (decoding). step: the sampling step, for its preview.

    latents: where what was sampled lies, while it is not a film.
    """

    phase: Literal["sampling", "decoding"]
    done: int
    total: int
    step: Step | None = None
    latents: Path | None = None


def film(pipeline: Filmmaker, request: Request, *, output: str | Path) -> Iterator[Progress]:
    """Makes the film of a request and writes it.

    Raises:
        Refusal: the output cannot be written (said before any work is done), or memory does not suffice.
    """
    output = check_output(output, request)
    notes = pipeline.notes(request)
    kept, found = _kept(output, notes)
    if found is None:
        with _memory(request):
            for step in pipeline.steps(request):
                found = step.latents[0]
                yield Progress("sampling", step.step, step.steps, step=step)
        assert found is not None
        _keep(kept, found.cpu(), notes=notes)
    yield from _write(pipeline, found, request, output=output, notes=notes, kept=kept)
    kept.unlink(missing_ok=True)


def finish(pipeline: Filmmaker, latents: str | Path, *, output: str | Path) -> Iterator[Progress]:
    """Makes the film of latents that `film` left behind, and removes them when it is complete."""
    latents = Path(latents)
    made = provenance(latents)
    output = check_output(output, made.request)
    tensor, _ = _read(latents)
    notes = notes_of(made)  # again, because safetensors forgets the order and a film's bytes depend on it
    yield from _write(pipeline, tensor, made.request, output=output, notes=notes, kept=latents)
    latents.unlink(missing_ok=True)


def provenance(path: str | Path) -> Provenance:
    """How a film or latents were made, by their own notes."""
    path = Path(path)
    notes = _read_notes(path) if is_latents(path) else read_notes(path)
    return provenance_of(notes, name=path)


def is_latents(path: str | Path) -> bool:
    """Whether a path is named like latents."""
    return str(path).endswith(LATENTS)


def check_output(output: str | Path, request: Request) -> Path:
    """The path, if a film of this request can be written there."""
    output = check_writable(output)
    if output.suffix.lower() == ".gif" and request.fps > FASTEST_GIF:
        raise Refusal(f"{output}: a .gif shows at most {FASTEST_GIF} frames per second, not {request.fps:g}")
    return output


def outputs(output: str | Path | None, prompt: str, *, count: int) -> list[Path]:
    """Where `count` films go: rain.mp4 alone, else rain-1.mp4, rain-2.mp4 and so on.

    Without an output they are named after the prompt, and never like something that is there already.
    """
    if output is not None:
        return _series(Path(output), count)
    names = (f"{slug(prompt)}{f'-take{n}' if n > 1 else ''}.mp4" for n in numbers(1))
    series = (_series(Path(name), count) for name in names)
    return next(paths for paths in series if not any(path.exists() for path in paths))


def again(file: str | Path) -> Path:
    """Where a film that is made again goes: beside the first one, as rain-again.mp4; latents become their
    film."""
    path = Path(file)
    if is_latents(path):
        return path.with_name(
            re.sub(r"(?:~\d+)?$", "", path.name.removesuffix(LATENTS), count=1) or "film.mp4"
        )
    return path.with_name(f"{path.stem}-again{path.suffix}")


def slug(prompt: str) -> str:
    """The words of a prompt as a file name of at most 60 letters."""
    words = re.findall(r"\w+", prompt.lower()) or ["film"]
    name = words[0][:60]
    for word in words[1:]:
        if len(name) + len(word) >= 60:
            break
        name += f"-{word}"
    return name


def _series(output: Path, count: int) -> list[Path]:
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)]


def _write(
    pipeline: Filmmaker,
    latents: Tensor,
    request: Request,
    *,
    output: Path,
    notes: Mapping[str, str],
    kept: Path,
) -> Iterator[Progress]:
    with _memory(request), open_writer(output, fps=request.fps, size=request.size, notes=notes) as writer:
        yield Progress("decoding", 0, request.frames, latents=kept)
        for pictures in pipeline.decode(latents, request):
            writer.write(pictures)
            yield Progress("decoding", writer.count, request.frames, latents=kept)


def _kept(output: Path, notes: Mapping[str, str]) -> tuple[Path, Tensor | None]:
    """Where latents may lie, and those of the same film if an earlier run left them; no others are
    overwritten."""
    for number in numbers(1):
        path = output.with_name(f"{output.name}{f'~{number}' if number > 1 else ''}{LATENTS}")
        if not path.exists():
            return path, None
        try:
            tensor, theirs = _read(path)
        except Refusal:
            continue
        if theirs == notes:
            return path, tensor
    raise AssertionError("unreachable: numbers do not end")


def _keep(path: Path, latents: Tensor, *, notes: Mapping[str, str]) -> None:
    writing = path.with_name(f".{secrets.token_hex(8)}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"latents": latents.float().contiguous()}, writing, metadata=dict(notes))
        os.replace(writing, path)
    except (OSError, SafetensorError) as error:
        raise Refusal(f"{path}: the latents cannot be written ({error})") from None
    finally:
        writing.unlink(missing_ok=True)


def _read(path: Path) -> tuple[Tensor, dict[str, str]]:
    with opened(path) as file:
        if "latents" not in file.keys():
            raise Refusal(f"{path}: holds no latents")
        notes, tensor = dict(file.metadata() or {}), file.get_tensor("latents")
    if tensor.ndim != 4 or not tensor.is_floating_point():
        raise Refusal(
            f"{path}: latents of shape {tuple(tensor.shape)}; channels, frames, height and width are needed"
        )
    return tensor, notes


def _read_notes(path: Path) -> dict[str, str]:
    with opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _memory(request: Request) -> Iterator[None]:
    """Too little memory is something the user can do something about."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(
            error
        ):
            raise
        width, height = request.size
        raise Refusal(
            f"{request.frames} frames of {width}x{height} need more memory than there is; ask for a shorter "
            "or smaller film"
        ) from None
