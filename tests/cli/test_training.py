"""`mutoscope train` from the command line: a run with sheets and a model, again, and refusals."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mutoscope import cli
from mutoscope.cli import display
from mutoscope.media import read_video
from mutoscope.video import Video

TINY = (
    "--clips.width 32 --clips.height 32 --clips.frames 3 --autoencoder.frames 3 --latents 8 --measure 1 "
    "--steps 2 --autoencoder.train.steps 2 --pieces.1.train.steps 2 --pieces.2.train.steps 2 "
    "--pieces.1.joint.frames_a_step 4 --pieces.2.joint.frames_a_step 4"
).split()


def test_a_run_trains_draws_and_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    # so rare that only the end of a piece is drawn: a sheet is eight films
    assert cli.main(["train", "smoke", "--out", str(run), "--sheets", "1000", *TINY]) == 0
    sheets = sorted(path.name for path in (run / "sheets").iterdir())
    assert "autoencoder-000002.png" in sheets and "denoiser-2-000002.png" in sheets
    assert (run / "model" / "model_index.json").exists()
    capsys.readouterr()

    film = tmp_path / "film.webp"
    model = ["--model", str(run / "model"), "--steps", "2"]
    assert cli.main(["generate", "a man walking in the rain", "--output", str(film), *model]) == 0
    assert film.stat().st_size > 0

    # the same call again has nothing left to train, and says so at once
    assert cli.main(["train", "smoke", "--out", str(run), "--sheets", "0", *TINY]) == 0
    assert "step 1/2" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("smokey", "no recipe 'smokey'; did you mean smoke?"),
        ("smoke --latentz 3", "no setting 'latentz'; did you mean latents?"),
        ("smoke --latents many", "latents is 'many'"),
        ("smoke --latents 0", "latents is 0"),
        ("smoke --stage denoiser", "run the stage 'autoencoder' first"),
        ("smoke --data {tmp}/nothing", "nothing"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(
    line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = line.format(tmp=tmp_path).split()
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told and "\n" not in told
    assert not (tmp_path / "run").exists()


def test_other_settings_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = ["--out", str(tmp_path / "run"), "--sheets", "0", "--stage", "autoencoder"]
    assert cli.main(["train", "smoke", *run, *TINY]) == 0
    capsys.readouterr()
    assert cli.main(["train", "smoke", *run, *TINY, "--terms.kl", "0.5"]) == 2
    assert "terms.kl" in capsys.readouterr().err


def test_a_u_net_trains_draws_and_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    tiny = (
        "--clips.width 16 --clips.height 16 --pieces.1.train.steps 2 --pieces.2.train.steps 2 --steps 2 "
        "--pieces.2.unet.frames 3 --clips.frames 3"
    ).split()
    assert cli.main(["train", "vdm-smoke", "--out", str(run), "--sheets", "1000", *tiny]) == 0
    assert "unet-2-000002.png" in {path.name for path in (run / "sheets").iterdir()}
    film = tmp_path / "film.webp"
    model = ["--model", str(run / "model"), "--sampler", "ancestral"]
    assert cli.main(["generate", "a man walking in the rain", "--output", str(film), *model]) == 0
    assert film.stat().st_size > 0
    again = ["--out", str(tmp_path / "other"), "--stage", "autoencoder"]
    capsys.readouterr()
    assert cli.main(["train", "vdm-smoke", *again, *tiny]) == 2
    assert "trained as a whole" in capsys.readouterr().err


def test_a_stage_trains_draws_and_enlarges(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, model = tmp_path / "run", ["--model", str(tmp_path / "run" / "model")]
    tiny = "--clips.width 32 --clips.height 16 --pieces.1.train.steps 2 --pieces.2.train.steps 1 --steps 1"
    command = ["train", "vdm-larger-smoke", "--out", str(run), "--sheets", "0.0001", *tiny.split()]
    assert cli.main(command) == 0
    assert "mutoscope upscale FILM" in capsys.readouterr().out
    # the first is drawn on the way, the others at the end of a piece
    drawn = {path.name for path in (run / "sheets").iterdir()}
    assert drawn == {"unet-1-000001.png", "unet-1-000002.png", "unet-2-000001.png"}
    Video(torch.full((3, 8, 10, 3), 90, dtype=torch.uint8), 6.0).save(tmp_path / "a")
    assert cli.main(["upscale", str(tmp_path / "a"), "--output", str(tmp_path / "b"), *model]) == 0
    assert (len(read_video(tmp_path / "b")), read_video(tmp_path / "b").size) == (3, (20, 16))
    assert cli.main(["reproduce", str(tmp_path / "b"), "--output", str(tmp_path / "c"), *model]) == 0
    one, two = ([file.read_bytes() for file in sorted((tmp_path / n).iterdir())] for n in "bc")
    assert one == two
    capsys.readouterr()
    for command in (["generate", "a man"], ["extend", str(tmp_path / "a")], ["plan", "full"]):
        assert cli.main([*command, *model]) == 2
        said = capsys.readouterr().err
        assert "mutoscope upscale FILM" in said and said.count("\n") == 1


def test_sheets_take_no_more_than_a_tenth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each of these takes a minute to draw, and one every five minutes is asked for."""
    clock = {"now": 0.0, "drawing": 0.0}
    monkeypatch.setattr(display.time, "monotonic", lambda: clock["now"])

    class Slow(display.TrainingDisplay):
        def _draw(self, event: object) -> None:
            clock["now"] += 60
            clock["drawing"] += 60

    show = Slow(SimpleNamespace(threads=None), tmp_path, minutes=5.0, data=None)
    for _ in range(6000):
        clock["now"] += 1
        show(SimpleNamespace(stage="unet", text="", progress=SimpleNamespace(event="step")))
    assert 300 < clock["drawing"] <= clock["now"] / 10
    assert clock["drawing"] / 60 == 11  # after 5 minutes, and then every ten
    show(SimpleNamespace(stage="unet", text="", progress=SimpleNamespace(event="finished")))
    assert clock["drawing"] / 60 == 12
