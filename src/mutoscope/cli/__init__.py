"""mutoscope generate | extend | animate | interpolate | upscale | reproduce | train | evaluate: the command.

Every subcommand is a function: its parameters are the options, its docstring is the help. What it needs is
imported inside it, so that `mutoscope --help` does not wait for torch. Results go to stdout, progress and
warnings to stderr.

Exit codes: 0 done, 2 asked for something that cannot be done (one line says what and the way out), 3 training
diverged, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from mutoscope.cli import tasks
from mutoscope.cli.display import SECONDS_BETWEEN_LINES, TrainingDisplay, filming
from mutoscope.cli.method import MethodOptions, PlanOption, SamplerOption, ShiftOption
from mutoscope.cli.parsing import Misuse, parsed
from mutoscope.models.memory import keep_memory

if TYPE_CHECKING:
    from mutoscope.pipelines import Filmmaker, Request
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
Films = Annotated[
    tuple[str, ...], tyro.conf.arg(metavar="FILM ...", help_behavior_hint="(default: beside FILE)")
]
Text = Annotated[str, tyro.conf.arg(metavar="TEXT")]
Weak = Annotated[str | None, tyro.conf.arg(metavar="FOLDER|HUB-ID", help_behavior_hint="(default: none)")]
Method = Annotated[MethodOptions, tyro.conf.arg(name="")]


def generate(
    prompt: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PROMPT", help_behavior_hint="(none for a model that reads no words)"),
    ] = "",
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
    plan: PlanOption = "full",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    model: Name = None,
    weak: Weak = None,
    method: Method = MethodOptions(),  # noqa: B008  (frozen; tyro reads its defaults)
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
        sampler: how it moves from noise to film: euler, heun, multistep, unipc, or, adding noise on the way,
            ddpm, ancestral, sde, sde3, lcm, churn.
        plan: in what order the frames are made; all but full take more steps, rolling suits long films.
        precision: what the networks compute in; auto is the fastest here.
        model: who makes it.
        weak: a weaker model of the same latents, to guide by instead of the negative words.
    """
    from mutoscope.pipelines import load
    from mutoscope.pipelines.output import check_output, outputs

    if count < 1:
        raise Misuse(f"--count is {count}; it must be 1 or more")
    pipeline = load(model, precision=precision, weak=weak)
    settings = {"seconds": seconds, "frames": frames, "size": size, "fps": fps, "steps": steps}
    settings |= {"guidance": guidance, "negative": negative, "sampler": sampler, "plan": plan}
    settings |= method.given()
    words = pipeline.said(prompt)
    requests = [pipeline.request(words, seed=seed + i, **settings) for i in range(count)]
    paths = [check_output(path, requests[0]) for path in outputs(output, words, count=count)]
    _say_remarks(pipeline, requests[0])
    for request, path in zip(requests, paths, strict=True):
        _film(pipeline, request, path)


def reproduce(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    *,
    output: Again = None,
    films: Films = (),
    model: Name = None,
    weak: Weak = None,
) -> None:
    """Make a film again from what its file says, or finish one from its latents.

    Args:
        file: a film that mutoscope made, or what an interrupted run left (.latents.safetensors).
        output: where to write it.
        films: what it was made of, if it was made of other films.
        model: who made it.
        weak: the weaker model that it was guided by, if it was.
    """
    from mutoscope.media import read_notes
    from mutoscope.pipelines import load
    from mutoscope.pipelines.output import again, finish, is_latents, provenance
    from mutoscope.pipelines.provenance import use_threads_of
    from mutoscope.pipelines.revision import recorded

    made = provenance(file)
    path = Path(output) if output else again(file)
    use_threads_of(made)
    pipeline = load(model, precision=made.precision, weak=weak)
    pipeline.check_made(made, name=file)
    for difference in made.differences(pipeline.machine):
        _warn(f"{difference}: the film may differ in its last bits")
    if record := recorded({} if is_latents(file) else read_notes(file), name=file):
        tasks.remake(pipeline, record, made, file=file, output=path, films=films)
    elif is_latents(file):
        _announce(pipeline, made.request)
        _watch(finish(pipeline, file, output=path), pipeline, made.request, path)
    else:
        _film(pipeline, made.request, path)


def plan(
    kind: Annotated[PlanOption, tyro.conf.Positional],
    *,
    frames: Count = None,
    steps: Count = None,
    known: Annotated[
        str | None, tyro.conf.arg(metavar="I,J,..", help_behavior_hint="(default: none)")
    ] = None,
    window: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=_OWN)] = None,
    model: Name = None,
) -> None:
    """Draw a plan of noise levels: a line a step, a character a frame, from @ (noise) to blank (clean).

    Args:
        kind: in what order the frames are made.
        frames: how many, as the denoiser counts them: several pictures are one.
        steps: of every frame.
        known: frames that are given, from 0, or from the end below 0: 0,-1 fills in between two.
        window: frames that rolling holds at a time.
        model: whose frames, steps and shift are taken.
    """
    from mutoscope.pipelines import load_pipeline

    drawn = load_pipeline(model, precision="float32").drawn(kind, frames=frames, steps=steps, window=window)
    print(drawn.knowing(_numbers(known)) if known else drawn)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise Misuse(f"--known is {text!r}; write frame numbers with commas, like 0,-1") from None


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
    """Train a model: smoke (a minute), cpu (two hours), gpu (25 minutes of a data-centre GPU); or a U-Net on
    pixels: vdm-smoke, vdm, vdm-gpu, and vdm-larger and vdm-between (-smoke too) for finer ones; or U-Nets on
    latents, from pictures to long large films: align-smoke, align, align-gpu, lvdm.

    Any setting of the recipe can be changed: --autoencoder.train.minutes 10, or by any ending that only one
    has. The same command again goes on where it stopped.

    Args:
        recipe: one of these names.
        out: folder of the run; the model is written to RUN/model.
        data: real clips, with metadata.csv (file_name,text) or captions beside them; or mnist.npz.
        stage: the autoencoder, the denoiser (everything after it), or all.
        start: a model folder to go on from.
        sheets: minutes between contact sheets in RUN/sheets; 0 for none.
    """
    from mutoscope.recipes import resolve

    folder = Path(out or f"runs/{recipe}")
    show = TrainingDisplay(resolve(recipe, settings), folder / "sheets", minutes=sheets, data=data)
    events = _course(show.recipe, folder, data=data, stage=stage, start=start)
    with contextlib.closing(events):  # type: ignore[type-var]
        for event in events:
            show(event)
            if event.progress is not None and event.progress.event == "stopped":
                raise KeyboardInterrupt  # caught while training, to save; what follows must not begin
    if stage != "autoencoder":
        use = getattr(show.recipe, "command", "generate PROMPT")
        print(f"{folder / 'model'}: film with mutoscope {use} --model {folder / 'model'}")


def _course(recipe: Any, folder: Path, *, data: str | None, stage: Any, start: str | None) -> Iterator[Any]:
    """What training yields, by the course that the recipe is of."""
    from mutoscope.training import course, hierarchy_course, pixel_course

    if isinstance(recipe, course.Recipe):
        return course.run(recipe, folder, data=data, stage=stage, start=start)
    if stage != "all":
        raise Misuse(f"--stage {stage}: courses of U-Nets are trained as a whole; leave it out")
    if isinstance(recipe, hierarchy_course.HierarchyRecipe):
        if start is not None:
            raise Misuse(f"--start {start}: this course builds one stage on the other; leave it out")
        return hierarchy_course.run(recipe, folder, data=data)
    return pixel_course.run(recipe, folder, data=data, start=start)


def evaluate(
    what: Annotated[Literal["agreement", "autoencoder"], tyro.conf.Positional],
    *,
    model: Name = None,
    out: str = "evaluation",
    prompts: int = 200,
    seeds: int = 3,
    clips: int = 96,
    data: Annotated[
        str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: the made world)")
    ] = None,
    steps: Count = None,
    guidance: Number = None,
    sampler: SamplerOption = None,
    shift: ShiftOption = None,
    plan: PlanOption = "full",
) -> None:
    """Measure a model; writes OUT/WHAT.json, .txt and .png.

    Args:
        what: agreement (do films show what was asked), of any model of the made world's words; or autoencoder
            (are reconstructions faithful), of one that has a transformer on its latents.
        model: who is measured.
        out: folder for the report.
        prompts: how many of the 200 prompts whose combinations were kept out of training.
        seeds: films of each prompt.
        clips: how many clips the autoencoder is measured on.
        data: a folder of real clips to measure the autoencoder on.
        steps: of sampling.
        guidance: of sampling.
        sampler: of sampling.
        shift: of the steps towards noise; size: as the films' size asks for.
        plan: of sampling: one model should serve them all.
    """
    from mutoscope.pipelines import PRETRAINED

    folder = Path(model or PRETRAINED)
    begun = time.monotonic()
    if what == "autoencoder":
        events = _autoencoder_events(folder, clips, data)
    elif data is not None:
        raise Misuse(f"--data {data}: agreement is of the made world; take `evaluate autoencoder` for clips")
    else:
        settings = {"steps": steps, "guidance": guidance, "sampler": sampler, "shift": shift, "plan": plan}
        events = _agreement_events(folder, prompts=prompts, seeds=seeds, settings=settings)
    report: Any = None
    for report in events:
        now = time.monotonic()
        if now - begun >= SECONDS_BETWEEN_LINES and not hasattr(report, "save"):
            print(report, file=sys.stderr, flush=True)
            begun = now
    print(report)
    print(f"{report.save(out)}: {what}.json, {what}.txt, {what}.png")


def _autoencoder_events(folder: Path, clips: int, data: str | None) -> Iterator[Any]:
    from mutoscope.checkpoints.folder import load_model
    from mutoscope.checkpoints.hierarchy_folder import is_hierarchy_folder
    from mutoscope.checkpoints.unet_folder import is_unet_folder
    from mutoscope.data.clips import verify
    from mutoscope.data.loader import FolderSource, WorldSource
    from mutoscope.data.world import VOCABULARIES
    from mutoscope.pipelines.reconstruction import autoencoder_report

    if is_unet_folder(folder) or is_hierarchy_folder(folder):
        raise Misuse(f"{folder} holds U-Nets: only the autoencoder of a transformer is measured")
    found = load_model(folder)
    facts = found.facts
    shape = {"frames": facts.frames, "size": facts.size, "fps": facts.fps, "seed": 99}
    if data is None:
        source = WorldSource(
            VOCABULARIES.get(facts.vocabulary, VOCABULARIES["small"]), held_out=True, **shape
        )
    else:
        verdict = verify(data)
        print(verdict, file=sys.stderr)
        source = FolderSource(list(verdict.good), **shape)
    return autoencoder_report(found.autoencoder, source, count=clips)


def _agreement_events(folder: Path, *, prompts: int, seeds: int, settings: dict[str, Any]) -> Iterator[Any]:
    from mutoscope.checkpoints.folder import load_model
    from mutoscope.data.world import VOCABULARIES, held_out_prompts
    from mutoscope.evaluation.probe import load_probe
    from mutoscope.pipelines import PRETRAINED, Pipeline, load
    from mutoscope.pipelines.report import agreement_report
    from mutoscope.training.probe import ensure_probe, known_probe

    pipeline, wanted = load(folder), held_out_prompts()[:prompts]
    latent = isinstance(pipeline, Pipeline) and not pipeline.of_pixels
    given = {name: value for name, value in settings.items() if value is not None}
    pipeline.request("a man", **given)  # before minutes are spent on a probe
    vocabulary = VOCABULARIES.get(pipeline.facts.vocabulary)
    if pipeline.reads is None or vocabulary is None:
        words = "no words" if pipeline.reads is None else "other words than the made world's"
        raise Misuse(f"{folder} reads {words}: whether its films show them cannot be told here")
    probe = known_probe(folder / "probe", PRETRAINED / "probe", vocabulary=vocabulary)
    yield from ensure_probe(probe, vocabulary=vocabulary)
    yield from agreement_report(
        pipeline, load_probe(probe), prompts=wanted, seeds=range(seeds), settings=given,
        autoencoder=load_model(folder).autoencoder if latent else None,
    )  # fmt: skip


COMMANDS: dict[str, Callable[..., None]] = {
    "generate": generate,
    **tasks.COMMANDS,
    "reproduce": reproduce,
    "plan": plan,
    "train": train,
    "evaluate": evaluate,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (`sys.argv` by default) and gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a prompt may hold what the terminal cannot show
    try:
        with _terminable():
            run = parsed(list(sys.argv[1:] if arguments is None else arguments), COMMANDS)
            keep_memory()
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


def _warn(text: str) -> None:
    print(f"mutoscope: {text}", file=sys.stderr)


def _say_remarks(pipeline: Filmmaker, request: Request) -> None:
    _announce(pipeline, request)
    for remark in pipeline.remarks(request):
        _warn(remark)


def _announce(pipeline: Filmmaker, request: Request) -> None:
    width, height = request.size
    print(
        f"{pipeline.facts.name or 'model'} on {pipeline.device.type}: {request.seconds:.1f} s of "
        f"{width}x{height} ({request.frames} frames, {request.fps:g} per second), {request.steps} steps",
        file=sys.stderr,
    )


def _film(pipeline: Filmmaker, request: Request, path: Path) -> None:
    from mutoscope.pipelines.output import film

    _watch(film(pipeline, request, output=path), pipeline, request, path)


def _watch(events: Iterator[Progress], pipeline: Filmmaker, request: Request, path: Path) -> None:
    """Shows the making of a film and says what became of it."""
    begun, left = time.monotonic(), None
    try:
        with contextlib.closing(events), filming() as show:  # type: ignore[type-var]
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
