"""Films out of films on the command line: made, said, made again, and every mistake one line."""

from pathlib import Path

import pytest
import torch

from mutoscope import cli
from mutoscope.checkpoints.folder import save_model
from mutoscope.media import read_video
from mutoscope.video import Video
from tiny import tiny_model

QUICK = ["--steps", "1", "--guidance", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tiny_model(), tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a film in it that carries words."""
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (5, 16, 16, 3), generator=generator, dtype=torch.uint8)
    Video(pictures, 12.0, {"prompt": "a man walking"}).save("a.webp")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "made", "frames", "size"),
    [
        (["extend", "a.webp", "--frames", "3", "--context", "1"], "a-extended.webp", 8, (16, 16)),
        ("extend a.webp --seconds 0.25 --context 1 --only-new".split(), "a-extended.webp", 3, (16, 16)),
        (["animate", "a.webp", "--last", "a.webp", "--frames", "9"], "a-moving.webp", 9, (16, 16)),
        (["interpolate", "a.webp", "--factor", "4"], "a-4x-frames.webp", 17, (16, 16)),
        (["upscale", "a.webp", "--size", "24x20"], "a-24x20.webp", 5, (24, 20)),
    ],
)
def test_a_film_is_made_of_a_film_and_made_again(command, made, frames, size, model, capsys):
    assert cli.main([*command, *QUICK, "--model", model]) == 0
    assert f"{made}: " in capsys.readouterr().out
    film = read_video(made)
    assert (len(film), film.size, film.notes["prompt"]) == (frames, size, "a man walking")
    assert cli.main(["reproduce", made, "--output", "again.webp", "--model", model]) == 0
    assert Path("again.webp").read_bytes() == Path(made).read_bytes()


def test_the_film_may_lie_elsewhere_but_be_no_other(model, place, capsys):
    assert cli.main(["extend", "a.webp", "--frames", "1", "--context", "1", *QUICK, "--model", model]) == 0
    Path("a.webp").rename("moved.webp")
    capsys.readouterr()
    assert cli.main(["reproduce", "a-extended.webp", "--model", model]) == 2
    assert "made of a.webp (sha256:" in capsys.readouterr().err
    command = ["reproduce", "a-extended.webp", "--films", "moved.webp", "--model", model]
    assert cli.main(command) == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["extend", "gone.mp4"], "gone.mp4: no such file"),
        (["extend", "a.webp", "--frames", "-1"], "frames is -1"),
        (["extend", "a.webp", "--frames", "1", "--seconds", "1"], "both frames (1) and seconds (1.0)"),
        (["extend", "a.webp", "--output", "a.webp"], "is the film itself"),
        (["interpolate", "a.webp", "--factor", "3"], "factor is 3; this model puts frames between others by"),
        (["interpolate", "a.webp", "--factor", "1"], "factor is 1"),
        (["interpolate", "a.webp", "--strength", "0"], "strength is 0"),
        (["upscale", "a.webp", "--size", "8x8"], "a larger one can be made"),
        (["upscale", "a.webp", "--size", "big"], "like 160x96"),
        (["upscale", "a.webp"], "--size"),
        (["animate", "a.webp", "--frames", "1"], "frames is 1"),
        (["animate", "a.webp", "--last", "a.webp", "--frames", "5"], "makes 6 or more"),
    ],
)
def test_a_mistake_is_one_line(command, words, model, place, capsys):
    assert cli.main([*command, "--model", model]) == 2
    captured = capsys.readouterr()
    assert words in captured.err.splitlines()[-1] and captured.out == ""
    assert [path.name for path in place.iterdir()] == ["a.webp"]
