"""Tasks to files, and back: what was made of which films, told by what was made.

    work = Work.of(pipeline, Extend(frames=24), [video], names=["rain.mp4"])
    for progress in work.write(pipeline, "longer.mp4"): ...

What is made carries the notes of any film of this model, and one more, `task`: the task's settings, and the
name of each film it was made of with a hash of its pictures. With the same films, weights and machine it can
be made again, bit for bit (`again`); a film that is missing or another is named.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mutoscope.media import open_writer, read_video
from mutoscope.pipelines.filmmaker import Filmmaker
from mutoscope.pipelines.output import Progress
from mutoscope.pipelines.provenance import Provenance
from mutoscope.pipelines.request import Request, one_line
from mutoscope.pipelines.tasks import Animate, Extend, Interpolate, Task
from mutoscope.pipelines.upscale import Upscale
from mutoscope.pipelines.ways import as_done_by
from mutoscope.video import Refusal, Video

__all__ = ["NOTE", "Origin", "Record", "Work", "fingerprint", "recorded", "revise", "settled"]

NOTE = "task"
AnyTask = Annotated[Extend | Animate | Interpolate | Upscale, Field(discriminator="kind")]


class Origin(BaseModel):
    """A film that something was made of: the name of its file, and a hash of its pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pictures: str


class Record(BaseModel):
    """What a film says of the task that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: AnyTask
    films: tuple[Origin, ...] = Field(min_length=1, max_length=2)

    def found(self, candidates: Sequence[Path]) -> list[Video]:
        """The films it was made of, each the candidate with the same pictures, or with its first or last.

        Raises:
            Refusal: one is not among the candidates.
        """
        films: dict[str, Video] = {}
        for path in candidates:
            if path.exists():
                film = read_video(path)
                films |= {fingerprint(part): part for part in (film[:1], film[-1:], film)}
        for origin in self.films:
            if origin.pictures not in films:
                seen = ", ".join(str(path) for path in candidates if path.exists())
                told = f"the pictures of {seen} are others" if seen else "it is not here"
                raise Refusal(
                    f"this was made of {origin.name} ({origin.pictures[:19]}...), and {told}; name that film "
                    "with --films"
                )
        return [films[origin.pictures] for origin in self.films]


def fingerprint(film: Video) -> str:
    """A hash of a film's pictures and rate, whatever file they are in."""
    facts = f"{tuple(film.frames.shape)} {film.fps:.6g}".encode()
    return f"sha256:{hashlib.sha256(facts + film.frames.contiguous().numpy().tobytes()).hexdigest()}"


def settled(kind: type[Task], **settings: Any) -> Task:
    """A task of settings; those that are None are its own. Raises Refusal where one is out of range."""
    try:
        return kind(**{name: value for name, value in settings.items() if value is not None})  # type: ignore[return-value]
    except ValidationError as error:
        raise Refusal(one_line(error)) from None


def recorded(notes: Mapping[str, str], *, name: object) -> Record | None:
    """What the notes of the file `name` say of a task; None for a film of words alone.

    Raises:
        Refusal: the note is damaged. Notes are someone else's word, so all of it is checked.
    """
    if NOTE not in notes:
        return None
    try:
        return Record.model_validate_json(notes[NOTE])
    except ValidationError as error:
        raise Refusal(f"{name}: its note of the task is damaged ({error.errors()[0]['msg']})") from None


@dataclass(frozen=True, eq=False)
class Work:
    """A task, the films it is about with their names, and the request that it settles."""

    task: Task
    films: Sequence[Video]
    names: Sequence[str]
    request: Request

    @classmethod
    def of(
        cls,
        pipeline: Filmmaker,
        task: Task,
        films: Sequence[Video],
        *,
        prompt: str | None = None,
        names: Sequence[str] = ("film", "last"),
        **settings: Any,
    ) -> "Work":
        """A task on films, as the words of `prompt` say, or those that the first film carries.

        settings: seed, steps, guidance, negative and sampler, as for `Pipeline.request`.

        Raises:
            Refusal: no words, or films that the task cannot be done on.
        """
        names = [Path(name).name for name in names[: len(films)]]
        task = as_done_by(task, pipeline, films)
        shape = task.shape(films)
        prompt = pipeline.said(prompt or films[0].notes.get("prompt", ""))
        if not prompt:
            raise Refusal(f"{names[0]} carries no words; say in quotes what it shows")
        given = {name: value for name, value in settings.items() if value is not None}
        return cls(task, films, names, task.request(pipeline, prompt, **given, **shape))

    @classmethod
    def again(cls, pipeline: Filmmaker, record: Record, films: Sequence[Video], made: Provenance) -> "Work":
        """What was done before, with the same films."""
        task, names = as_done_by(record.task, pipeline, films), [origin.name for origin in record.films]
        return cls(task, films, names, made.request)

    def notes(self, pipeline: Filmmaker) -> dict[str, str]:
        """How it is made here: the notes of any film, and what it is made of."""
        notes = pipeline.notes(self.request)
        origins = [
            {"name": name, "pictures": fingerprint(film)}
            for name, film in zip(self.names, self.films, strict=True)
        ]
        said = self.task.said(self.names)
        record = {"task": self.task.settings(), "films": origins}
        return {**notes, "comment": f"{said}. {notes['comment']}", NOTE: json.dumps(record)}

    def remarks(self, pipeline: Filmmaker) -> list[str]:
        """What a user should know before it is made."""
        (width, height), asked = pipeline.facts.size, self.request.size
        said = pipeline.remarks(self.request)
        if asked not in pipeline.sizes:
            said.append(
                f"this model was made for {width}x{height} pixels; at {asked[0]}x{asked[1]} it may do worse"
            )
        return said

    def made(self, pipeline: Filmmaker) -> Video:
        """The film."""
        parts = self.task.parts(pipeline, self.films, self.request)
        pictures = [part.pictures for part in parts if part.pictures is not None]
        return Video(torch.cat(pictures), self.request.fps, self.notes(pipeline))

    def write(self, pipeline: Filmmaker, output: str | Path) -> Iterator[Progress]:
        """Makes the film and writes it; it appears when it is whole."""
        request = self.request
        with open_writer(output, fps=request.fps, size=request.size, notes=self.notes(pipeline)) as writer:
            for part in self.task.parts(pipeline, self.films, request):
                if part.pictures is not None:
                    writer.write(part.pictures)
                yield Progress("sampling", part.done, part.total)


def revise(
    pipeline: Filmmaker,
    task: Task,
    *,
    films: Video | Sequence[Video],
    prompt: str | None = None,
    **settings: Any,
) -> Video:
    """What a task makes of a film, or of a first and a last one; see `Work.of`."""
    films = [films] if isinstance(films, Video) else films
    return Work.of(pipeline, task, films, prompt=prompt, **settings).made(pipeline)
