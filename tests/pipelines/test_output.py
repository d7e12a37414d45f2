"""Films on the disk: in every format, whole or not at all, and what was sampled survives until they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mutoscope.checkpoints.folder import load_model, save_model
from mutoscope.media import read_notes, read_video
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.output import LATENTS, again, check_output, film, finish, outputs, provenance
from mutoscope.video import Refusal
from tiny import tiny_model

WORDS = "a man walking in the rain"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = save_model(tiny_model(), tmp_path_factory.mktemp("models") / "tiny")
    return Pipeline(load_model(folder), precision="float32", device="cpu")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["x.mp4", "x.webp", "x.gif", "x.png", "x"])
def test_every_format_says_how_to_make_it_again(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    request = pipeline.request(WORDS, seed=2, frames=3)
    list(film(pipeline, request, output=tmp_path / name))
    assert names(tmp_path) == [name]
    made = provenance(tmp_path / name)
    assert (made.request, made.weights, made.precision) == (request, pipeline.weights, "float32")
    assert read_notes(tmp_path / name)["prompt"] == WORDS


def test_the_file_shows_what_generate_gives(pipeline: Pipeline, tmp_path: Path) -> None:
    request = pipeline.request(WORDS, frames=7, size=(30, 26))
    list(film(pipeline, request, output=tmp_path / "x"))
    video = read_video(tmp_path / "x")  # PNG frames lose nothing
    assert torch.equal(video.frames, pipeline.generate(WORDS, frames=7, size=(30, 26)).frames)
    assert video.fps == 12


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif", ".png"])
def test_made_again_it_is_the_same_file(pipeline: Pipeline, tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    list(film(pipeline, pipeline.request(WORDS, seed=4), output=first))
    list(film(pipeline, provenance(first).request, output=second))
    assert first.read_bytes() == second.read_bytes()


def test_progress_counts_steps_and_then_frames(pipeline: Pipeline, tmp_path: Path) -> None:
    events = list(film(pipeline, pipeline.request(WORDS), output=tmp_path / "x.mp4"))
    sampling = [event for event in events if event.phase == "sampling"]
    decoding = [event for event in events if event.phase == "decoding"]
    assert [(event.done, event.total) for event in sampling] == [(1, 3), (2, 3), (3, 3)]
    assert sampling[0].step is not None and sampling[0].step.preview.shape == (32, 32, 3)
    assert decoding[0].done == 0 and decoding[-1].done == decoding[-1].total == 9
    assert events == sampling + decoding


def test_latents_lie_on_the_disk_before_decoding_and_go_after_it(pipeline: Pipeline, tmp_path: Path) -> None:
    for event in film(pipeline, pipeline.request(WORDS), output=tmp_path / "x.mp4"):
        assert (f"x.mp4{LATENTS}" in names(tmp_path)) == (event.phase == "decoding")
        assert event.latents == (tmp_path / f"x.mp4{LATENTS}" if event.phase == "decoding" else None)
    assert names(tmp_path) == ["x.mp4"]


class Broken(Exception):
    pass


@pytest.fixture
def interrupted(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Latents of a film whose decoding broke after its first pictures."""

    def breaking(*arguments: Any, **named: Any) -> Iterator[torch.Tensor]:
        yield next(Pipeline.decode(pipeline, *arguments, **named))
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "decode", breaking)
        with pytest.raises(Broken):
            list(film(pipeline, pipeline.request(WORDS, seed=9), output=tmp_path / "x.mp4"))
    assert names(tmp_path) == [f"x.mp4{LATENTS}"]
    return tmp_path / f"x.mp4{LATENTS}"


def test_latents_that_are_left_become_the_same_film(
    pipeline: Pipeline, tmp_path: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "steps", None)  # nothing is sampled
        list(finish(pipeline, interrupted, output=tmp_path / "x.mp4"))
    assert names(tmp_path) == ["x.mp4"]
    list(film(pipeline, pipeline.request(WORDS, seed=9), output=tmp_path / "y.mp4"))
    assert (tmp_path / "x.mp4").read_bytes() == (tmp_path / "y.mp4").read_bytes()


def test_asked_again_the_film_is_made_of_what_was_left(
    pipeline: Pipeline, tmp_path: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "steps", None)
    list(film(pipeline, pipeline.request(WORDS, seed=9), output=tmp_path / "x.mp4"))
    assert names(tmp_path) == ["x.mp4"]


def test_what_another_film_left_is_not_overwritten(
    pipeline: Pipeline, tmp_path: Path, interrupted: Path
) -> None:
    list(film(pipeline, pipeline.request(WORDS, seed=10), output=tmp_path / "x.mp4"))
    assert names(tmp_path) == ["x.mp4", interrupted.name]
    assert provenance(interrupted).request.seed == 9


def test_stopping_while_sampling_leaves_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    events = film(pipeline, pipeline.request(WORDS), output=tmp_path / "x.mp4")
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert names(tmp_path) == []


def test_stopping_while_decoding_leaves_the_latents(pipeline: Pipeline, tmp_path: Path) -> None:
    events = film(pipeline, pipeline.request(WORDS), output=tmp_path / "x.mp4")
    while next(events).phase == "sampling":
        pass
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert names(tmp_path) == [f"x.mp4{LATENTS}"]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(pipeline, "steps", None)
    for name in ("file/x.mp4", "x.avi", "x.mp3"):
        with pytest.raises(Refusal, match=name):
            list(film(pipeline, pipeline.request(WORDS), output=tmp_path / name))
    with pytest.raises(Refusal, match="at most 50 frames per second, not 60"):
        check_output("x.gif", pipeline.request(WORDS, fps=60))
    assert names(tmp_path) == ["file"]


def test_too_little_memory_is_one_line(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starving(*_: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(pipeline, "steps", starving)
    with pytest.raises(Refusal, match="9 frames of 32x32 need more memory"):
        list(film(pipeline, pipeline.request(WORDS), output=tmp_path / "x.mp4"))


def test_another_error_stays_what_it_is(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(pipeline, "steps", wrong)
    with pytest.raises(RuntimeError, match="a bug"):
        list(film(pipeline, pipeline.request(WORDS), output=tmp_path / "x.mp4"))


def test_latents_that_are_none_are_refused(tmp_path: Path, interrupted: Path, pipeline: Pipeline) -> None:
    with pytest.raises(Refusal, match="no such file"):
        provenance(tmp_path / f"gone{LATENTS}")
    interrupted.write_bytes(interrupted.read_bytes()[:-100])
    with pytest.raises(Refusal, match="damaged"):
        provenance(interrupted)
    save_file({"latents": torch.zeros(3)}, interrupted, metadata=pipeline.notes(pipeline.request(WORDS)))
    with pytest.raises(Refusal, match=r"latents of shape \(3,\)"):
        list(finish(pipeline, interrupted, output=tmp_path / "x.mp4"))
    save_file({"pixels": torch.zeros(3)}, interrupted, metadata=pipeline.notes(pipeline.request(WORDS)))
    with pytest.raises(Refusal, match="holds no latents"):
        list(finish(pipeline, interrupted, output=tmp_path / "x.mp4"))
    save_file({"latents": torch.zeros(3)}, interrupted)
    with pytest.raises(Refusal, match="does not say how it was made"):
        provenance(interrupted)


def test_other_weights_are_told_apart(pipeline: Pipeline, interrupted: Path) -> None:
    made = provenance(interrupted)
    pipeline.check_made(made, name="x.mp4")
    stranger = Pipeline(tiny_model(1), precision="float32", device="cpu")
    with pytest.raises(Refusal, match=r"x.mp4 was made by tiny with the weights sha256:.*not saved.*--model"):
        stranger.check_made(made, name="x.mp4")


def test_outputs_are_numbered_where_there_are_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert outputs("a/rain.mp4", "x", count=1) == [Path("a/rain.mp4")]
    assert outputs("rain.webp", "x", count=2) == [Path("rain-1.webp"), Path("rain-2.webp")]
    assert outputs("frames", "x", count=2) == [Path("frames-1"), Path("frames-2")]


def test_a_film_is_named_after_its_words_and_never_like_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert outputs(None, "A man, walking!", count=1) == [Path("a-man-walking.mp4")]
    Path("a-man-walking.mp4").touch()
    assert outputs(None, "A man, walking!", count=1) == [Path("a-man-walking-take2.mp4")]
    Path("rain-2.mp4").touch()
    assert outputs(None, "rain", count=2) == [Path("rain-take2-1.mp4"), Path("rain-take2-2.mp4")]
    assert outputs(None, "../?!", count=1) == [Path("film.mp4")]
    [long] = outputs(None, "rain " * 100, count=1)
    assert len(long.name) <= 64


def test_where_a_film_that_is_made_again_goes() -> None:
    assert again("a/rain.mp4") == Path("a/rain-again.mp4")
    assert again("a/frames") == Path("a/frames-again")
    assert again(f"a/rain.mp4{LATENTS}") == Path("a/rain.mp4")
    assert again(f"a/rain.mp4~2{LATENTS}") == Path("a/rain.mp4")
