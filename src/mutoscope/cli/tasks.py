"""mutoscope extend | animate | interpolate | upscale: films out of films.

As in `cli`, parameters are options and docstrings are help. All of them read films, settle a task and hand it
to `run`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from mutoscope.cli.display import filming

if TYPE_CHECKING:
    from mutoscope.pipelines import Filmmaker
    from mutoscope.pipelines.provenance import Provenance
    from mutoscope.pipelines.revision import Record, Work
    from mutoscope.pipelines.tasks import Task
    from mutoscope.video import Video

__all__ = ["COMMANDS", "remake"]

_OWN = "(default: the model's own)"
Film = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILM")]
Prompt = Annotated[
    str | None,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="[PROMPT]", help_behavior_hint="(default: the words that FILM carries)"),
]
Count = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=_OWN)]
Number = Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint=_OWN)]
Output = Annotated[str | None, tyro.conf.arg(metavar="F", help_behavior_hint="(default: beside FILM)")]
Name = Annotated[
    str | None, tyro.conf.arg(metavar="FOLDER|HUB-ID", help_behavior_hint="(default: the one that ships)")
]


@dataclass(frozen=True)
class MakingOptions:
    """How what is new is made, whatever the task."""

    seed: int = 0
    """another number is another film."""
    steps: Count = None
    """how often the sampler looks; more is slower and finer."""
    guidance: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="X", help_behavior_hint="(default: the model's own; 1 to interpolate or upscale)"
        ),
    ] = None
    """how strongly the words are followed; 1 is not more than they are."""
    model: Name = None
    """who makes it."""


Making = Annotated[MakingOptions, tyro.conf.arg(name="")]


def extend(
    film: Film,
    prompt: Prompt = None,
    *,
    output: Output = None,
    seconds: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="(default: 2)")] = None,
    frames: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(or seconds)")] = None,
    only_new: bool = False,
    context: Count = None,
    steady: Number = None,
    making: Making = MakingOptions(),
) -> None:
    """Let a film go on.

    Args:
        film: a film, an animation or a folder of pictures.
        prompt: what it shows, in quotes.
        output: where to write it; the ending decides the format.
        seconds: how much longer it gets; or say --frames.
        frames: how many pictures longer.
        only_new: write the new pictures without the film itself.
        context: how many of the last pictures the model sees.
        steady: how noisy the model takes them to be; a little forgives mistakes, 0 is as they are.
        making: how it is made.
    """
    from mutoscope.media import read_video
    from mutoscope.pipelines.tasks import Extend
    from mutoscope.video import Refusal

    if seconds is not None and frames is not None:
        raise Refusal(f"both frames ({frames}) and seconds ({seconds}) are given; say one of them")
    video = read_video(film)
    if frames is None:
        frames = round((2.0 if seconds is None else seconds) * video.fps)
    settings = {"frames": frames, "context": context, "steady": steady, "only_new": only_new}
    _run(Extend, settings, [video], names=[film], output=output, prompt=prompt, making=making)


def animate(
    picture: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE")],
    prompt: Annotated[
        str | None,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[PROMPT]", help_behavior_hint="(default: the words that PICTURE carries)"),
    ] = None,
    *,
    last: Annotated[str | None, tyro.conf.arg(metavar="PICTURE", help_behavior_hint="(optional)")] = None,
    output: Annotated[
        str | None, tyro.conf.arg(metavar="F", help_behavior_hint="(default: beside PICTURE)")
    ] = None,
    frames: Count = None,
    fps: Number = None,
    steady: Number = None,
    making: Making = MakingOptions(),
) -> None:
    """Set a picture in motion.

    Args:
        picture: what the film begins with: a picture, or the first of a film.
        prompt: what it shows, in quotes.
        last: what the film ends at, as a still.
        output: where to write it; the ending decides the format.
        frames: how many pictures the film has.
        fps: pictures per second.
        steady: how noisy the model takes the picture to be; a little forgives its faults, 0 is as it is.
        making: how it is made.
    """
    from mutoscope.media import read_video
    from mutoscope.pipelines import load
    from mutoscope.pipelines.tasks import Animate

    pipeline = load(making.model)
    names = [picture] if last is None else [picture, last]
    films = [read_video(picture, max_frames=1)] + ([] if last is None else [read_video(last)[-1:]])
    settings = {"frames": frames or pipeline.facts.frames, "fps": fps or pipeline.facts.fps, "steady": steady}
    _run(
        Animate, settings, films, names=names, output=output, prompt=prompt, making=making, pipeline=pipeline
    )


def interpolate(
    film: Film,
    prompt: Prompt = None,
    *,
    output: Output = None,
    factor: Count = None,
    strength: Number = None,
    making: Making = MakingOptions(),
) -> None:
    """Put frames between those of a film, which stay as they are.

    Args:
        film: a film, an animation or a folder of pictures.
        prompt: what it shows, in quotes.
        output: where to write it; the ending decides the format.
        factor: how many times the frames: 2 or 4; what a hierarchy was trained for (4, 16).
        strength: how far the new frames may be from the faded ones between their neighbours, up to 1.
        making: how it is made.
    """
    from mutoscope.media import read_video
    from mutoscope.pipelines.tasks import Interpolate

    settings = {"factor": factor, "strength": strength}
    _run(Interpolate, settings, [read_video(film)], names=[film], output=output, prompt=prompt, making=making)


def upscale(
    film: Film,
    prompt: Prompt = None,
    *,
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH", help_behavior_hint=_OWN)] = None,
    output: Output = None,
    strength: Number = None,
    making: Making = MakingOptions(),
) -> None:
    """Make a film larger.

    Args:
        film: a film, an animation or a folder of pictures.
        prompt: what it shows, in quotes.
        size: in pixels, like 192x128; not needed where a network was trained for one factor.
        output: where to write it; the ending decides the format.
        strength: how far it may be from the film enlarged, up to 1.
        making: how it is made.
    """
    from mutoscope.media import read_video
    from mutoscope.pipelines.request import parsed_size
    from mutoscope.pipelines.upscale import Upscale

    settings = {"size": None if size is None else parsed_size(size), "strength": strength}
    _run(Upscale, settings, [read_video(film)], names=[film], output=output, prompt=prompt, making=making)


COMMANDS = {"extend": extend, "animate": animate, "interpolate": interpolate, "upscale": upscale}


def remake(
    pipeline: Filmmaker, record: Record, made: Provenance, *, file: str, output: Path, films: Sequence[str]
) -> None:
    """Makes again what a task made, of the films it was made of: those named, or found beside the file."""
    from mutoscope.pipelines.revision import Work

    here = [folder / origin.name for origin in record.films for folder in (Path(file).parent, Path.cwd())]
    found = record.found([Path(film) for film in films] or list(dict.fromkeys(here)))
    _write(pipeline, Work.again(pipeline, record, found, made), output)


def _run(
    kind: type[Task],
    settings: dict[str, Any],
    films: Sequence[Video],
    *,
    names: Sequence[str],
    output: str | None,
    prompt: str | None,
    making: MakingOptions,
    pipeline: Filmmaker | None = None,
) -> None:
    from mutoscope.pipelines import load
    from mutoscope.pipelines.output import check_output
    from mutoscope.pipelines.revision import Work, settled
    from mutoscope.video import Refusal

    task = settled(kind, **settings)
    pipeline = pipeline or load(making.model)
    asked = {"seed": making.seed, "steps": making.steps, "guidance": making.guidance}
    work = Work.of(pipeline, task, films, names=names, prompt=prompt, **asked)
    first = Path(names[0])
    suffix = first.suffix if first.suffix.lower() in (".mp4", ".webp", ".gif") else ".mp4"
    path = Path(output) if output else first.with_name(f"{first.stem}-{work.task.ending}{suffix}")
    if any(path.resolve() == Path(name).resolve() for name in names):
        raise Refusal(f"{path} is the film itself; name another --output")
    check_output(path, work.request)
    _write(pipeline, work, path)


def _write(pipeline: Filmmaker, work: Work, path: Path) -> None:
    """Shows the making of a film and says what became of it."""
    request, begun = work.request, time.monotonic()
    for remark in work.remarks(pipeline):
        print(f"mutoscope: {remark}", file=sys.stderr)
    with contextlib.closing(work.write(pipeline, path)) as events, filming() as show:  # type: ignore[type-var]
        for progress in events:
            show(progress)
    print(
        f"{path}: {request.seconds:.1f} s of {request.size[0]}x{request.size[1]} ({request.frames} frames), "
        f"seed {request.seed}, made by {pipeline.facts.name or 'model'} in {time.monotonic() - begun:.1f} s"
    )
