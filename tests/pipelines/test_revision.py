"""What was made of other films says of which, and is made again from them and from no others."""

import json
from pathlib import Path

import pytest
import torch

from mutoscope.checkpoints.folder import load_model, save_model
from mutoscope.media import read_notes, read_video
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.output import provenance
from mutoscope.pipelines.revision import NOTE, Work, fingerprint, recorded, settled
from mutoscope.pipelines.tasks import Extend, Interpolate
from mutoscope.pipelines.upscale import Upscale
from mutoscope.video import Refusal, Video
from tiny import tiny_model

WORDS = "a man walking in the rain"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = save_model(tiny_model(), tmp_path_factory.mktemp("models") / "tiny")
    return Pipeline(load_model(folder), precision="float32", device="cpu")


def film(seed: int = 0, *, notes: dict[str, str] | None = None) -> Video:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(256, (3, 16, 16, 3), generator=generator, dtype=torch.uint8)
    return Video(pictures, 12.0, notes or {})


def work(pipeline: Pipeline, seed: int = 0) -> Work:
    task = Extend(frames=2, context=3)
    return Work.of(
        pipeline, task, [film(seed)], prompt=WORDS, names=["far/away/old.png"], steps=1, guidance=1.0
    )


def test_a_film_made_of_a_film_is_made_again_byte_for_byte(pipeline: Pipeline, tmp_path: Path) -> None:
    film().save(tmp_path / "old")
    done = work(pipeline)
    *_, last = done.write(pipeline, tmp_path / "new")
    assert last.done == last.total
    notes = read_notes(tmp_path / "new")
    record = recorded(notes, name="new")
    assert record is not None and record.task == done.task and record.films[0].name == "old.png"
    found = record.found([tmp_path / "gone.mp4", tmp_path / "old"])
    again = Work.again(pipeline, record, found, provenance(tmp_path / "new"))
    list(again.write(pipeline, tmp_path / "again"))
    written, rewritten = (sorted((tmp_path / name).iterdir()) for name in ("new", "again"))
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in rewritten]
    assert torch.equal(read_video(tmp_path / "new").frames, done.made(pipeline).frames)


def test_another_film_or_none_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    record = recorded(work(pipeline).notes(pipeline), name="x")
    assert record is not None
    film(1).save(tmp_path / "other.webp")
    with pytest.raises(Refusal, match=r"made of old.png \(sha256:.*other.webp are others.*--films"):
        record.found([tmp_path / "other.webp"])
    with pytest.raises(Refusal, match="it is not here"):
        record.found([tmp_path / "gone.webp"])


def test_a_first_picture_is_found_in_its_film(pipeline: Pipeline, tmp_path: Path) -> None:
    whole = film()
    whole.save(tmp_path / "whole")
    done = Work.of(pipeline, Extend(frames=1), [whole[:1]], prompt=WORDS)
    record = recorded(done.notes(pipeline), name="x")
    assert record is not None
    [found] = record.found([tmp_path / "whole"])
    assert torch.equal(found.frames, whole.frames[:1])


def test_the_hash_is_of_pictures_and_rate_alone() -> None:
    assert fingerprint(film()) == fingerprint(film(notes={"prompt": "x"}))
    assert fingerprint(film()) != fingerprint(film(1))
    assert fingerprint(film()) != fingerprint(Video(film().frames, 24.0))


def test_notes_say_what_was_done_in_words(pipeline: Pipeline) -> None:
    notes = work(pipeline).notes(pipeline)
    assert notes["comment"].startswith("old.png goes on for 2 frames. Made with mutoscope by tiny")
    assert json.loads(notes[NOTE])["task"]["kind"] == "extend"
    assert recorded({"prompt": WORDS}, name="x") is None


@pytest.mark.parametrize("note", ["", "{}", "[1]", '{"task": {"kind": "dance"}, "films": []}'])
def test_a_damaged_note_is_one_line(note: str) -> None:
    with pytest.raises(Refusal, match=r"x\.mp4: its note of the task is damaged"):
        recorded({NOTE: note}, name="x.mp4")


def test_words_come_from_the_film_if_none_are_given(pipeline: Pipeline) -> None:
    task = Extend(frames=1)
    telling = film(notes={"prompt": WORDS})
    assert Work.of(pipeline, task, [telling]).request.prompt == WORDS
    assert Work.of(pipeline, task, [telling], prompt="a child").request.prompt == "a child"
    with pytest.raises(Refusal, match="film carries no words; say in quotes"):
        Work.of(pipeline, task, [film()])


def test_settings_out_of_range_are_one_line() -> None:
    for kind, settings, words in [
        (Extend, {"frames": -1}, "frames is -1"),
        (Extend, {"frames": 1, "context": 0}, "context is 0"),
        (Interpolate, {"factor": 1}, "factor is 1"),
        (Upscale, {"size": (32, 32), "strength": 0.0}, "strength is 0"),
    ]:
        with pytest.raises(Refusal, match=words):
            settled(kind, **settings)
    assert settled(Interpolate, factor=None, strength=None) == Interpolate()


def test_another_size_than_the_models_is_remarked(pipeline: Pipeline) -> None:
    assert any("made for 32x32" in remark for remark in work(pipeline).remarks(pipeline))
