"""mutoscope generate | reproduce | train: the command.

Every subcommand is a function: its parameters are the options, its docstring is the help. What it needs is
imported inside it, so that `mutoscope --help` does not wait for torch. Results go to stdout, progress and
warnings to stderr.

Exit codes: 0 done, 2 asked for something that cannot be done (one line says what and the way out), 3 training
diverged, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from mutoscope.pipelines import Pipeline, Request
    from mutoscope.pipelines.output import Progress

__all__ = ["main"]

_OWN = "(default: the model's own)"
Count = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=_OWN)]
Number = Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint=_OWN)]
Size = Annotated[str | None, tyro.conf.arg(metavar="WxH", help_behavior_hint=_OWN)]
Name = Annotated[
    str | None, tyro.conf.arg(metavar="FOLDER|HUB-ID", help_behavior_hint="(default: the one that ships)")
]
Output = Annotated[
    str | None, tyro.conf.arg(metavar="F", help_behavior_hint="(default: named after the words)")
]
Again = Annotated[str | None, tyro.conf.arg(metavar="F", help_behavior_hint="(default: beside FILE)")]
Text = Annotated[str, tyro.conf.arg(metavar="TEXT")]
SamplerOption = Annotated[
    Literal["euler", "heun", "multistep"] | None,
    tyro.conf.arg(metavar="{euler,heun,multistep}", help_behavior_hint=_OWN),
]

SECONDS_BETWEEN_LINES = 5.0


class Misuse(ValueError):
    """A command line that makes no sense; the same to a user as `video.Refusal`, which costs an import of
    torch."""


def generate(
    prompt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")],
    *,
    output: Output = None,
    seed: int = 0,
    seconds: Number = None,
    frames: Count = None,
    size: Size = None,
    fps: Number = None,
    steps: Count = None,
    guidance: Number = None,
    negative: Text = "",
    count: int = 1,
    sampler: SamplerOption = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    model: Name = None,
) -> None:
    """Make a film of words.

    Args:
        prompt: what to show, in quotes.
        output: .mp4, .webp, .gif, .png (contact sheet), or a name without ending (folder of PNG frames).
        seed: another number is another film.
        seconds: how long it plays; or say --frames.
        frames: how many pictures.
        size: in pixels, like 160x96.
        fps: pictures per second.
        steps: how often the sampler looks; more is slower and finer.
        guidance: how strongly the words are followed; 1 is not more than they are.
        negative: what to keep away from.
        count: how many films, with this seed and the next ones.
        sampler: how it moves from noise to film.
        precision: what the networks compute in; auto is the fastest here.
        model: who makes it.
    """
    from mutoscope.pipelines import load
    from mutoscope.pipelines.output import check_output, outputs

    if count < 1:
        raise Misuse(f"--count is {count}; it must be 1 or more")
    pipeline = load(model, precision=precision)
    settings = {"seconds": seconds, "frames": frames, "size": size, "fps": fps, "steps": steps}
    settings |= {"guidance": guidance, "negative": negative, "sampler": sampler}
    requests = [pipeline.request(prompt, seed=seed + i, **settings) for i in range(count)]
    paths = [check_output(path, requests[0]) for path in outputs(output, prompt, count=count)]
    _say_remarks(pipeline, requests[0])
    for request, path in zip(requests, paths, strict=True):
        _film(pipeline, request, path)


def reproduce(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    *,
    output: Again = None,
    model: Name = None,
) -> None:
    """Make a film again from what its file says, or finish one from its latents.

    Args:
        file: a film that mutoscope made, or what an interrupted run left (.latents.safetensors).
        output: where to write it.
        model: who made it.
    """
    from mutoscope.pipelines import load
    from mutoscope.pipelines.output import again, finish, is_latents, provenance
    from mutoscope.pipelines.provenance import use_threads_of

    made = provenance(file)
    path = Path(output) if output else again(file)
    use_threads_of(made)
    pipeline = load(model, precision=made.precision)
    pipeline.check_made(made, name=file)
    for difference in made.differences(pipeline.machine):
        _warn(f"{difference}: the film may differ in its last bits")
    if is_latents(file):
        _announce(pipeline, made.request)
        _watch(finish(pipeline, file, output=path), pipeline, made.request, path)
    else:
        _film(pipeline, made.request, path)


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    *,
    out: Annotated[
        str | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: runs/RECIPE)")
    ] = None,
    data: Annotated[
        str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: the made world)")
    ] = None,
    stage: Literal["autoencoder", "denoiser", "all"] = "all",
    start: Annotated[
        str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="(default: from scratch)")
    ] = None,
    sheets: float = 5.0,
    settings: tyro.conf.Suppress[dict[str, str] | None] = None,
) -> None:
    """Train a model: smoke (a minute), cpu (two hours), gpu (25 minutes of a data-centre GPU).

    Any setting of the recipe can be changed: --autoencoder.train.minutes 10, or by any ending that only one
    has. The same command again goes on where it stopped.

    Args:
        recipe: smoke, cpu or gpu.
        out: folder of the run; the model is written to RUN/model.
        data: real clips, with metadata.csv (file_name,text) or captions beside them.
        stage: the autoencoder, the denoiser (everything after it), or all.
        start: a model folder to go on from.
        sheets: minutes between contact sheets in RUN/sheets; 0 for none.
    """
    from mutoscope.recipes import resolve
    from mutoscope.training.course import run

    folder = Path(out or f"runs/{recipe}")
    show = _TrainingDisplay(resolve(recipe, settings), folder / "sheets", minutes=sheets, data=data)
    with contextlib.closing(run(show.recipe, folder, data=data, stage=stage, start=start)) as events:  # type: ignore[type-var]
        for event in events:
            show(event)
    if stage != "autoencoder":
        print(f"{folder / 'model'}: film with mutoscope generate PROMPT --model {folder / 'model'}")


class _TrainingDisplay:
    """Draws what training yields: a line every few seconds, and contact sheets every few minutes."""

    def __init__(self, recipe: Any, folder: Path, *, minutes: float, data: str | None) -> None:
        import torch

        self.recipe, self.folder, self.every, self.data = recipe, folder, minutes * 60, data
        self.stage, self.said, self.drawn = "", 0.0, time.monotonic()
        if recipe.threads:
            torch.set_num_threads(recipe.threads)

    def __call__(self, event: Any) -> None:
        now, ended = time.monotonic(), event.progress is not None and event.progress.event == "finished"
        if event.stage != self.stage or ended or now - self.said >= SECONDS_BETWEEN_LINES:
            self.stage, self.said = event.stage, now
            print(f"{event.stage}: {event.text}", file=sys.stderr, flush=True)
        if event.progress is not None and self.every and (now - self.drawn >= self.every or ended):
            self._draw(event)
            self.drawn = time.monotonic()

    def _draw(self, event: Any) -> None:
        from mutoscope.pipelines.sheets import reconstruction_sheet, sample_sheet

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{event.stage.split('/')[0].replace(' ', '-')}-{event.progress.step:06d}.png"
        with event.progress.ema.weights() if event.progress.ema else contextlib.nullcontext():
            if event.stage == "autoencoder":
                reconstruction_sheet(event.networks.autoencoder, event.source, path=path)
            else:
                sample_sheet(event.model(), event.prompts, path=path)
        print(f"{event.stage}: {path}", file=sys.stderr, flush=True)


COMMANDS: dict[str, Callable[..., None]] = {"generate": generate, "reproduce": reproduce, "train": train}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (`sys.argv` by default) and gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a prompt may hold what the terminal cannot show
    try:
        with _terminable():
            run = _parsed(list(sys.argv[1:] if arguments is None else arguments))
            run()
        return 0
    except KeyboardInterrupt:
        print("mutoscope: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `mutoscope ... | head`
        return 1
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"mutoscope: {' '.join(str(error).split())}", file=sys.stderr)
        return code


def _exit_code(error: Exception) -> int | None:
    """2 for what a user asked in vain, the error's own code if it has one (`training.loop.Diverged`), None
    for a bug."""
    video = sys.modules.get("mutoscope.video")  # not imported, then not raised
    if isinstance(error, Misuse) or (video and isinstance(error, video.Refusal)):
        return 2
    return getattr(error, "exit_code", None)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM as an exit that clears up, as after Ctrl-C: nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parsed(arguments: list[str]) -> Callable[[], None]:
    """The command that was asked for, ready to run; help is printed here, and misuse becomes one line."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise Misuse(f"no command {arguments[0]!r}; {_nearest(arguments[0], list(COMMANDS))}")
    complaint = io.StringIO()
    arguments, settings = _without_settings(arguments)
    try:
        with contextlib.redirect_stderr(complaint):
            asked: Callable[..., None] = tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in COMMANDS.items()},
                prog="mutoscope",
                description="Words in, moving pictures out.",
                args=arguments or ["--help"],
            )
        return functools.partial(asked, settings=settings) if settings else asked
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise Misuse(_complaint(complaint.getvalue(), arguments)) from None


def _without_settings(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Takes a recipe's settings, --NAME VALUE where NAME is no option of `train`, out of its command line."""
    if arguments[:1] != ["train"]:
        return arguments, {}
    own = {"--out", "--data", "--stage", "--start", "--sheets", "--help", "-h"}
    kept, settings, rest = [], {}, iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in own:
            kept += (
                [word, next(rest)]
                if name in own - {"--help"} and not equals and len(kept) + 1 < len(arguments)
                else [word]
            )
            continue
        value = value if equals else next(rest, None)
        if value is None:
            raise Misuse(f"{name} has no value; settings are given as {name} VALUE")
        settings[name.removeprefix("--")] = value
    return kept, settings


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The command's signature, but calling it only remembers the call: parsing and running are two things."""

    @functools.wraps(command)
    def remember(*positional: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(command, *positional, **named)

    return remember


def _complaint(text: str, arguments: list[str]) -> str:
    """What tyro says in a box, in one line: its first paragraph, and the option it thinks was meant."""
    boxed = "╭" in text  # where stdout is not UTF-8 there are only rules, and the title is a paragraph
    lines = [line.strip(" │") for line in text.splitlines() if line[:1] not in ("╭", "╰")]
    paragraphs = re.split(r"[─-]{5,}", " ".join(" ".join(lines).split()))
    said = paragraphs[0 if boxed else min(1, len(paragraphs) - 1)].strip() or "cannot be understood"
    said = said.replace("'None', ", "").replace(", 'None'", "")
    if value := re.search(r"Error parsing (--[\w-]+): .*? from \[(.*?)\]", said):
        said = f"{value[1]} is {value[2]}, which is no number"
    if unknown := re.search(r"Unrecognized options: (.*)", said):
        close = re.search(r"Perhaps you meant: *(--[\w-]+)", " ".join(paragraphs))
        said = f"unknown: {unknown[1]}" + (f"; did you mean {close[1]}?" if close else "")
    command = f"{arguments[0]} " if arguments and arguments[0] in COMMANDS else ""
    return f"{said.rstrip('.')}; see mutoscope {command}--help"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def _warn(text: str) -> None:
    print(f"mutoscope: {text}", file=sys.stderr)


def _say_remarks(pipeline: Pipeline, request: Request) -> None:
    _announce(pipeline, request)
    for remark in pipeline.remarks(request):
        _warn(remark)


def _announce(pipeline: Pipeline, request: Request) -> None:
    width, height = request.size
    print(
        f"{pipeline.facts.name or 'model'} on {pipeline.device.type}: {request.seconds:.1f} s of "
        f"{width}x{height} ({request.frames} frames, {request.fps:g} per second), {request.steps} steps",
        file=sys.stderr,
    )


def _film(pipeline: Pipeline, request: Request, path: Path) -> None:
    from mutoscope.pipelines.output import film

    _watch(film(pipeline, request, output=path), pipeline, request, path)


def _watch(events: Iterator[Progress], pipeline: Pipeline, request: Request, path: Path) -> None:
    """Shows the making of a film and says what became of it."""
    begun, left = time.monotonic(), None
    try:
        with contextlib.closing(events), _display() as show:  # type: ignore[type-var]
            for progress in events:
                left = progress.latents
                show(progress)
    except BaseException:
        if left is not None and left.exists():
            _warn(f"what was sampled is kept; finish it with: mutoscope reproduce {left}")
        raise
    print(
        f"{path}: {request.seconds:.1f} s of {request.size[0]}x{request.size[1]}, seed {request.seed}, "
        f"made by {pipeline.facts.name or 'model'} in {time.monotonic() - begun:.1f} s"
    )


@contextlib.contextmanager
def _display() -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, total=progress.total)
            bars.update(tasks[progress.phase], completed=progress.done)

        yield show


class _Lines:
    """Progress as text: the end of every phase, and a line every few seconds with the time left."""

    def __init__(self) -> None:
        self.phase, self.begun, self.said, self.first = "", 0.0, 0.0, 0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase != self.phase:
            self.phase, self.begun, self.said, self.first = progress.phase, now, now, progress.done
        if progress.done == progress.total:
            print(f"{progress.phase} {progress.done}/{progress.total}", file=sys.stderr, flush=True)
        elif now - self.said >= SECONDS_BETWEEN_LINES and progress.done > self.first:
            left = (now - self.begun) / (progress.done - self.first) * (progress.total - progress.done)
            print(
                f"{progress.phase} {progress.done}/{progress.total}, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            self.said = now


if __name__ == "__main__":
    raise SystemExit(main())
