"""Options of sampling: the same words as a request's, in the film's notes, and made again from there."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from mutoscope import cli
from mutoscope.checkpoints.folder import save_model
from mutoscope.cli import method
from mutoscope.media import read_notes, read_video
from tiny import tiny_model

WORDS = "a man walking in the rain"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tiny_model(), tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command is refused with."""
    assert cli.main(arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_command_offers_what_a_request_takes() -> None:
    """Told twice, for `--help` must not wait for torch."""
    from mutoscope.pipelines.method import Method
    from mutoscope.pipelines.request import Request

    samplers, _ = get_args(get_args(method.SamplerOption)[0])
    assert get_args(samplers) == get_args(Request.model_fields["sampler"].annotation)
    assert get_args(method.PlanOption) == get_args(Request.model_fields["plan"].annotation)
    options = {field.name: field.type for field in fields(method.MethodOptions)}
    assert options.keys() == Method.model_fields.keys() - {"weak"}
    assert options["guidance_kind"] == Method.model_fields["guidance_kind"].annotation


def test_how_it_is_sampled_reaches_the_film_and_is_made_again(model: str, place: Path) -> None:
    options = (
        "--noise mixed:1.5 --passes 2 --shift size --guidance-kind projected --guidance-band 0.1 0.95 "
        "--guidance-rescale 0.5 --guidance-last 2 --frames 5 --output x.webp --sampler sde3"
    )
    assert cli.main(["generate", WORDS, "--model", model, *options.split()]) == 0
    said = read_notes("x.webp")["settings"]
    for words in ('"mixed"', '"a": 1.5', '"passes": 2', '"size"', '[0.1, 0.95]', '"projected"'):
        assert words in said
    assert cli.main(["reproduce", "x.webp", "--model", model]) == 0
    assert Path("x.webp").read_bytes() == Path("x-again.webp").read_bytes()


def test_a_film_of_a_weaker_model_is_made_again_with_it(
    model: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = str(save_model(tiny_model(1), tmp_path / "weak"))
    made = ["generate", WORDS, "--model", model, "--weak", weak, "--output", "x.webp", "--frames", "1"]
    assert cli.main(made) == 0
    capsys.readouterr()
    line = refused(capsys, "reproduce", "x.webp", "--model", model)
    assert "name the folder of the one it had with --weak" in line
    assert cli.main(["reproduce", "x.webp", "--model", model, "--weak", weak]) == 0
    assert Path("x.webp").read_bytes() == Path("x-again.webp").read_bytes()


def test_a_long_film_rolls(model: str, place: Path) -> None:
    options = "--plan rolling --frames 41 --steps 4 --output x"
    assert cli.main(["generate", WORDS, "--model", model, *options.split()]) == 0
    assert len(read_video("x")) == 41


def test_plans_are_drawn(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "pyramid", "--frames", "4", "--steps", "2", "--model", model]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 frames, 5 steps", "|@@@@|", "|.@@@|", "| .@@|", "|  .@|", "|   .|", "|    |",
    ]  # fmt: skip
    known = ["--frames", "4", "--steps", "2", "--known", "0,-1"]
    assert cli.main(["plan", "pyramid", *known, "--model", model]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "| @@ |"
    assert cli.main(["plan", "rolling", "--model", model]) == 0
    assert capsys.readouterr().out.startswith("3 frames, ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dance"], "'dance'"),
        (["full", "--known", "first"], "--known is 'first'; write frame numbers with commas"),
        (["full", "--known", "7"], "known frame 7: this plan has frames 0 to 2"),
        (["full", "--known", "0,1,2"], "all 3 frames are known"),
    ],
)
def test_a_plan_that_is_none_is_one_line(
    arguments: list[str], words: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, "plan", *arguments, "--model", model)
