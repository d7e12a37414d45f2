"""A hierarchy of models at the command line: films as of any model, and a plain no where it cannot."""

from pathlib import Path

import pytest

from mutoscope.checkpoints.hierarchy_folder import save_hierarchy
from mutoscope.cli import main
from tiny_hierarchy import tiny_hierarchy

PROMPT = "a man walking in the rain"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_hierarchy(tiny_hierarchy(), tmp_path_factory.mktemp("one") / "model"))


def test_a_film_is_made_and_made_again(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    film = tmp_path / "rain.mp4"
    asked = ["--model", model, "--seconds", "0.5", "--steps", "1", "--precision", "float32"]
    assert main(["generate", PROMPT, "--output", str(film), *asked]) == 0
    assert "6 frames" in capsys.readouterr().err
    assert main(["reproduce", str(film), "--output", str(tmp_path / "again.mp4"), "--model", model]) == 0
    assert film.read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "command",
    [["plan", "full"], ["generate", PROMPT, "--plan", "pyramid"], ["generate", PROMPT, "--weak", "{model}"]],
    ids=" ".join,
)
def test_what_it_cannot_do_is_said_in_a_line(
    command: list[str], model: str, capsys: pytest.CaptureFixture[str]
):
    assert main([*(part.format(model=model) for part in command), "--model", model]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mutoscope: ") and said.count("\n") == 1


def test_a_recipe_of_it_has_one_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for option in (["--stage", "denoiser"], ["--start", "somewhere"]):
        assert main(["train", "align-smoke", "--out", str(tmp_path / "run"), *option]) == 2
        assert "leave it out" in capsys.readouterr().err
