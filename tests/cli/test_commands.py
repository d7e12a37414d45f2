"""The command as a stranger meets it: help at once, one line for every mistake, and nothing half-written."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mutoscope import cli
from mutoscope.checkpoints.folder import save_model
from mutoscope.cli import display
from mutoscope.media import read_notes, read_video
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.output import LATENTS
from mutoscope.training.loop import Diverged
from tiny import tiny_model

WORDS = "a man walking in the rain"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tiny_model(), tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, which Ctrl-C stops even if the tests run in a background that
    ignores it: what is ignored here would be ignored there."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "mutoscope", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command is refused with."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert captured.out == "" and line.startswith("mutoscope: ")
    return line


def test_help_names_the_commands_and_does_not_wait_for_torch() -> None:
    code = "import sys; from mutoscope.cli import main; print(main(['--help']), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert "generate" in done.stdout and "reproduce" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 False"


def test_help_is_quick() -> None:
    """In processor time, the best of six: other work on the same core can double it."""
    assert min(processor_seconds_of_help() for _ in range(6)) < 0.45


def processor_seconds_of_help() -> float:
    before = os.times()
    process = run("--help")
    process.communicate()
    after = os.times()
    assert process.returncode == 0
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_without_arguments_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "usage: mutoscope" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["generate", "reproduce"])
def test_every_option_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    options = ("--output", "--model")
    if command == "generate":
        options += (
            "--seed",
            "--seconds",
            "--frames",
            "--size",
            "--fps",
            "--steps",
            "--guidance",
            "--negative",
        )
        options += ("--count", "--sampler", "--plan")
    assert all(option in text for option in options)
    assert "None" not in text


def test_a_film_is_made_and_said(model: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", WORDS, "--model", model]) == 0
    said = capsys.readouterr()
    assert names(place) == ["a-man-walking-in-the-rain.mp4"]
    assert said.out.startswith("a-man-walking-in-the-rain.mp4: 0.8 s of 32x32, seed 0, made by tiny in ")
    assert "3 steps" in said.err and "sampling 3/3" in said.err and "decoding 9/9" in said.err


@pytest.mark.parametrize("name", ["x.mp4", "x.webp", "x.gif", "x.png", "x"])
def test_every_format_is_made_again(
    model: str, place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(["generate", WORDS, "--model", model, "--output", name, "--frames", "5", "--seed", "3"]) == 0
    )
    assert cli.main(["reproduce", name, "--model", model]) == 0
    assert "may differ" not in capsys.readouterr().err
    first, second = sorted(place.iterdir(), key=lambda path: len(path.name))
    if first.is_dir():
        first, second = first / names(first)[0], second / names(second)[0]
    assert first.read_bytes() == second.read_bytes()


def test_settings_reach_the_film(model: str, place: Path) -> None:
    options = (
        "--seconds 0.5 --size 24x16 --fps 10 --steps 2 --guidance 1 --negative snow --sampler heun --seed 8 "
        "--plan pyramid"
    )
    assert cli.main(["generate", WORDS, "--model", model, "--output", "x", *options.split()]) == 0
    video = read_video("x")
    assert (len(video), video.size, video.fps) == (5, (24, 16), 10)
    for word in ('"heun"', '"snow"', '"steps": 2', '"pyramid"'):
        assert word in video.notes["settings"]


def test_counted_films_are_the_next_seeds(model: str, place: Path) -> None:
    assert (
        cli.main(["generate", WORDS, "--model", model, "--output", "x.webp", "--count", "2", "--seed", "5"])
        == 0
    )
    assert names(place) == ["x-1.webp", "x-2.webp"]
    assert [read_notes(name)["seed"] for name in names(place)] == ["5", "6"]


def test_unknown_words_are_a_warning(model: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "an elephant", "--model", model, "--frames", "1", "--output", "x.png"]) == 0
    assert "does not know 'an', 'elephant'; it knows: a, at, child" in capsys.readouterr().err
    assert names(place) == ["x.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generat", "x"], "no command 'generat'; did you mean generate?"),
        (["dance"], "no command 'dance'; there are generate, extend"),
        (["generate"], "the prompt is empty; say what to show"),
        (["generate", "x", "--stepz", "3"], "did you mean --steps?"),
        (["generate", "x", "--steps", "many"], "--steps is 'many', which is no number"),
        (["generate", "x", "--steps"], "--steps"),
        (["generate", "x", "--sampler", "magic"], "'magic'"),
        (["generate", "x", "y"], "unknown: y"),
        (["generate", "x", "--count", "0"], "--count is 0"),
        (["generate", "x", "--model", "nowhere"], "nowhere: no such folder"),
        (["reproduce", "gone.mp4"], "gone.mp4: no such file"),
        (["reproduce", f"gone.mp4{LATENTS}"], "no such file"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *arguments)
    assert words in line and "None" not in line
    assert names(place) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["", "--output", "x.mp4"], "the prompt is empty"),
        (["x", "--size", "0x64"], "size is 0x64"),
        (["x", "--size", "large"], "like 160x96"),
        (["x", "--frames", "-1"], "frames is -1"),
        (["x", "--seconds", "1", "--frames", "3"], "both frames (3) and seconds (1.0)"),
        (["x", "--output", "x.avi"], "did you mean"),
        (["x", "--output", "/dev/null/x.mp4"], "/dev/null"),
        (["x", "--output", "x.gif", "--fps", "60"], "at most 50 frames per second"),
    ],
)
def test_what_cannot_be_made_is_one_line(
    arguments: list[str], words: str, model: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, "generate", *arguments, "--model", model)
    assert names(place) == []


def test_truncated_weights_are_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = save_model(tiny_model(), tmp_path / "broken")
    weights = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    assert weights.name in refused(capsys, "generate", "x", "--model", str(broken))
    assert names(place) == []


def test_a_film_of_other_weights_is_not_made_again(
    model: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_model(tiny_model(1), tmp_path / "other")
    assert cli.main(["generate", WORDS, "--model", model, "--output", "x.mp4", "--frames", "1"]) == 0
    capsys.readouterr()
    line = refused(capsys, "reproduce", "x.mp4", "--model", str(other))
    assert line.count("sha256:") == 2 and "--model" in line
    assert names(place) == ["x.mp4"]


def test_a_file_of_others_is_not_made_again(
    model: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["generate", WORDS, "--model", model, "--output", "x", "--frames", "1"])
    capsys.readouterr()
    from PIL import Image

    Image.new("RGB", (8, 8)).save("other.png")
    assert "does not say how it was made" in refused(capsys, "reproduce", "other.png", "--model", model)


def test_another_machine_is_a_warning(
    model: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["generate", WORDS, "--model", model, "--output", "x.mp4", "--frames", "1"]) == 0
    monkeypatch.setattr(Pipeline, "machine", {"torch": "1.0"})
    assert cli.main(["reproduce", "x.mp4", "--model", model]) == 0
    assert "here 1.0: the film may differ in its last bits" in capsys.readouterr().err


def test_ctrl_c_while_decoding_says_how_to_finish(
    model: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Pipeline.decode

    def interrupted(*arguments: Any) -> Iterator[Any]:
        yield next(decode(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "decode", interrupted)
        assert cli.main(["generate", WORDS, "--model", model, "--output", "x.mp4"]) == 130
    latents = f"x.mp4{LATENTS}"
    assert names(place) == [latents]
    assert f"finish it with: mutoscope reproduce {latents}" in capsys.readouterr().err
    assert cli.main(["reproduce", latents, "--model", model]) == 0
    assert names(place) == ["x.mp4"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_sampling_nothing_is_left(
    model: str, place: Path, number: signal.Signals, code: int
) -> None:
    process = run("generate", WORDS, "--model", model, "--steps", "1000", "--frames", "81")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("tiny on cpu")
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert names(place) == []


def test_killed_while_decoding_the_latents_become_the_film(model: str, place: Path) -> None:
    process = run(
        "generate", WORDS, "--model", model, "--steps", "1", "--frames", "200", "--output", "x.webp"
    )
    latents = place / f"x.webp{LATENTS}"
    while not latents.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert latents.exists() and not (place / "x.webp").exists()
    assert cli.main(["reproduce", str(latents), "--model", model]) == 0
    assert len(read_video("x.webp")) == 200
    assert not latents.exists()


def test_a_run_that_diverged_has_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge() -> None:
        raise Diverged("loss not finite\n10 steps in a row")

    monkeypatch.setitem(cli.COMMANDS, "diverge", diverge)
    assert cli.main(["diverge"]) == 3
    assert capsys.readouterr().err == "mutoscope: loss not finite 10 steps in a row\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(cli.COMMANDS, "fail", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["fail"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(model: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert cli.main(["generate", WORDS, "--model", model, "--output", "x.mp4"]) == 0
    assert "━" in terminal.getvalue() and "9/9" in terminal.getvalue()


def test_lines_come_now_and_then_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mutoscope.pipelines.output import Progress

    clock = iter([0.0, 2.0, 6.0, 7.0, 10.0])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    lines = display.Lines()
    for done in (0, 1, 3, 4, 5):
        lines(Progress("sampling", done, 5))
    assert capsys.readouterr().err.splitlines() == ["sampling 3/5, 4 s left", "sampling 5/5"]


def test_an_autoencoder_is_measured_on_a_folder_of_clips(
    model: str, place: Path, capsys: pytest.CaptureFixture[str]
):
    clips = place / "clips"
    clips.mkdir()
    assert cli.main(["generate", WORDS, "--model", model, "--output", str(clips / "one.mp4")]) == 0
    (clips / "metadata.csv").write_text("file_name,text\none.mp4,a man\nnone.mp4,nobody\n")
    capsys.readouterr()
    measured = ["evaluate", "autoencoder", "--model", model, "--clips", "2", "--data", str(clips)]
    assert cli.main(measured) == 0
    captured = capsys.readouterr()
    assert "none.mp4" in captured.err
    assert "PSNR, dB" in captured.out and "nan" not in captured.out and "2 clips" in captured.out
    assert (place / "evaluation" / "autoencoder.json").exists()


def test_agreement_has_no_real_clips(model: str, place: Path, capsys: pytest.CaptureFixture[str]):
    line = refused(capsys, "evaluate", "agreement", "--model", model, "--data", "clips")
    assert "--data clips" in line and "evaluate autoencoder" in line
    assert names(place) == []
