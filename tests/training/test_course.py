"""A course from clips to a model folder, whole and in pieces."""

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mutoscope.checkpoints.folder import Model, load_model
from mutoscope.media import write_video
from mutoscope.recipes import resolve
from mutoscope.training.course import Event, run
from mutoscope.video import Refusal, Video

RECIPE = resolve(
    "smoke",
    {
        "clips.width": "32", "clips.height": "32", "clips.frames": "3", "autoencoder.frames": "3",
        "latents": "8", "measure": "1", "autoencoder.train.steps": "2", "pieces.1.train.steps": "2",
        "pieces.2.train.steps": "2", "pieces.1.joint.lengths": '{"1": 1}',
        "pieces.2.joint.lengths": '{"1": 0.5, "2": 0.5}', "pieces.1.joint.frames_a_step": "4",
        "pieces.2.joint.frames_a_step": "4",
    },
)  # fmt: skip


def weights(model: Model) -> dict[str, Tensor]:
    parts = {"vae": model.autoencoder, "transformer": model.transformer, "text": model.words.encoder}
    return {f"{name}.{key}": w for name, part in parts.items() for key, w in part.state_dict().items()}


def same(one: Path, other: Path) -> bool:
    a, b = weights(load_model(one / "model")), weights(load_model(other / "model"))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    out = tmp_path_factory.mktemp("whole")
    return out, list(run(RECIPE, out))


def stages(events: list[Event]) -> list[str]:
    return list(dict.fromkeys(event.stage for event in events))


def test_the_stages_come_in_order_and_leave_their_folders(whole: tuple[Path, list[Event]]):
    out, events = whole
    assert stages(events) == ["autoencoder", "latents", "denoiser 1/2", "denoiser 2/2", "model"]
    assert {"autoencoder", "latents", "denoiser-1", "denoiser-2", "model"} <= {
        p.name for p in out.iterdir()
    }
    assert all(event.progress is None or event.done == event.progress.step for event in events)


def test_the_model_folder_loads_and_knows_its_clips(whole: tuple[Path, list[Event]]):
    model = load_model(whole[0] / "model")
    assert model.facts.size == (32, 32) and model.facts.frames == 3 and model.facts.fps == 12
    assert all(weight.isfinite().all() for weight in weights(model).values())
    assert not model.words.tokenizer.unknown_words("a man walking in the rain")
    config = model.autoencoder.config
    assert config.latents_mean is not None and len(config.latents_mean) == config.z_dim


def test_the_same_call_again_trains_nothing(whole: tuple[Path, list[Event]]):
    out, _ = whole
    events = [event.progress for event in run(RECIPE, out) if event.progress is not None]
    assert [progress.event for progress in events] == ["finished"] * 3


@pytest.mark.parametrize("stop", [("autoencoder", 1), ("latents", 8), ("denoiser 2/2", 1)], ids=str)
def test_interrupted_and_resumed_gives_the_same_weights(
    whole: tuple[Path, list[Event]], tmp_path: Path, stop: tuple[str, int]
):
    going = run(RECIPE, tmp_path)
    for event in going:
        if (event.stage, event.done) == stop:
            break
    going.close()
    assert not (tmp_path / "model").exists()
    list(run(RECIPE, tmp_path))
    assert same(tmp_path, whole[0])


def test_the_stages_apart_are_the_whole(whole: tuple[Path, list[Event]], tmp_path: Path):
    assert stages(list(run(RECIPE, tmp_path, stage="autoencoder"))) == ["autoencoder"]
    assert not (tmp_path / "latents").exists()
    rest = stages(list(run(RECIPE, tmp_path, stage="denoiser")))
    assert rest == ["latents", "denoiser 1/2", "denoiser 2/2", "model"]
    assert same(tmp_path, whole[0])


def test_a_course_goes_on_from_a_model(whole: tuple[Path, list[Event]], tmp_path: Path):
    """The autoencoder and its statistics stay what they were; the denoiser starts from the weights given."""
    begun = load_model(whole[0] / "model")
    first = next(
        event for event in run(RECIPE, tmp_path, stage="denoiser", start=whole[0] / "model")
        if event.stage == "denoiser 1/2"
    )  # fmt: skip
    now = first.model()
    assert now.autoencoder.config.latents_mean == begun.autoencoder.config.latents_mean
    old, new = weights(begun), weights(now)
    assert all(torch.equal(old[name], new[name]) for name in old if name.startswith("vae."))
    moved = [float((old[n] - new[n]).abs().max()) for n in old if n.startswith("transformer.")]
    assert 0 < max(moved) < 0.1  # one step from where it was


def test_latents_of_clips_with_other_texts_are_refused(tmp_path: Path):
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(Video(torch.zeros(3, 32, 32, 3, dtype=torch.uint8), fps=12.0), clips / "dark.mp4")
    (clips / "dark.txt").write_text("a dark room", encoding="utf-8")
    going = run(RECIPE, tmp_path / "run", data=clips)
    assert any(event.stage == "latents" for event in going)
    going.close()
    (clips / "dark.txt").write_text("a cellar", encoding="utf-8")
    with pytest.raises(Refusal, match="encoded with data"):
        list(run(RECIPE, tmp_path / "run", data=clips))


def test_a_denoiser_without_an_autoencoder_is_refused(tmp_path: Path):
    with pytest.raises(Refusal, match="run the stage 'autoencoder' first"):
        list(run(RECIPE, tmp_path, stage="denoiser"))


def test_a_folder_of_clips_trains_and_names_the_bad_ones(tmp_path: Path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name, shade in (("dark", 40), ("light", 200)):
        pictures = torch.full((4, 32, 32, 3), shade, dtype=torch.uint8)
        write_video(Video(pictures, fps=12.0), clips / f"{name}.mp4")
        (clips / f"{name}.txt").write_text(f"a {name} room", encoding="utf-8")
    (clips / "broken.mp4").write_bytes(b"no film")
    events = list(run(RECIPE, tmp_path / "run", data=clips))
    assert events[0].stage == "clips" and "broken.mp4" in events[0].text and events[0].done == 2
    model = load_model(tmp_path / "run" / "model")
    assert not model.words.tokenizer.unknown_words("a light room")
    assert model.words.tokenizer.unknown_words("a man")


@pytest.mark.parametrize("when", ["step", "finished"])
def test_a_course_that_a_signal_stops_begins_nothing_else(tmp_path: Path, when: str):
    events: list[Event] = []
    for event in run(RECIPE, tmp_path / "run"):
        events.append(event)
        if event.progress is not None and event.progress.event == when:
            signal.raise_signal(signal.SIGTERM)  # caught while it trains, to save
    assert stages(events) == ["autoencoder"] and not (tmp_path / "run" / "model").exists()
    assert stages(list(run(RECIPE, tmp_path / "run")))[-1] == "model"
