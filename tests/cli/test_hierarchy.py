"""A hierarchy of models at the command line: films as of any model, and a plain no where it cannot."""

from pathlib import Path

import pytest
import torch

from mutoscope.checkpoints.hierarchy_folder import save_hierarchy
from mutoscope.cli import main
from mutoscope.media import read_video
from mutoscope.video import Video
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


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A film that carries words, as large as what the model decodes; a folder, which loses nothing."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (3, 8, 8, 3), generator=generator, dtype=torch.uint8)
    Video(pictures, 6.0, {"prompt": PROMPT}).save(tmp_path / "a")
    return tmp_path / "a"


@pytest.mark.parametrize(
    ("command", "frames", "size", "own"),
    [
        ("extend --frames 2 --steps 1", 5, (8, 8), slice(0, 3)),
        ("interpolate --factor 4", 9, (8, 8), slice(0, None, 4)),
        ("upscale", 3, (16, 16), None),
    ],
)
def test_films_come_out_of_films_and_are_made_again(command, frames, size, own, small, model):
    kind, *options = command.split()
    made, again = small.with_name("made"), small.with_name("again")
    assert main([kind, str(small), *options, "--output", str(made), "--model", model]) == 0
    film = read_video(made)
    assert (len(film), film.size, film.notes["prompt"]) == (frames, size, PROMPT)
    assert own is None or torch.equal(film.frames[own], read_video(small).frames)
    assert main(["reproduce", str(made), "--output", str(again), "--model", model]) == 0
    assert [path.read_bytes() for path in sorted(made.iterdir())] == [
        path.read_bytes() for path in sorted(again.iterdir())
    ]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("interpolate --factor 3", "factor is 3; this model puts frames between others by 2 or 4"),
        ("interpolate --strength 0.5", "strength is 0.5"),
        ("upscale --size 24x24", "this model makes it 2 times as wide and high: 16x16"),
        ("animate --last {film}", "leave --last out"),
        ("extend --frames -1", "frames is -1"),
    ],
)
def test_a_task_that_cannot_be_done_is_a_line(command, said, small, model, capsys):
    kind, *options = command.format(film=small).split()
    assert main([kind, str(small), *options, "--model", model]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("mutoscope: ") and told.count("\n") == 1


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
