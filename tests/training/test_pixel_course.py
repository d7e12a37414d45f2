"""A U-Net on pixels from clips to a folder that films, whole, in pieces, and on other clips."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mutoscope.checkpoints import linear
from mutoscope.checkpoints.unet_folder import load_unet_model
from mutoscope.media import write_video
from mutoscope.pipelines import TemporalStage, load, load_pipeline
from mutoscope.pipelines.sheets import sample_sheet
from mutoscope.recipes import resolve
from mutoscope.training.course import Event
from mutoscope.training.pixel_course import PixelRecipe, run
from mutoscope.unet_recipes import UNET_RECIPES
from mutoscope.video import Refusal, Video

SMALL = {
    "clips.width": "16", "clips.height": "16", "clips.frames": "3", "pieces.1.train.steps": "2",
    "pieces.2.train.steps": "2", "pieces.2.unet.frames": "3", "pieces.1.unet.pictures": "2",
    "pieces.2.unet.pictures": "1",
}  # fmt: skip


def recipe_of(**changes: str) -> PixelRecipe:
    found = resolve("vdm-smoke", SMALL | changes)
    assert isinstance(found, PixelRecipe)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    out = tmp_path_factory.mktemp("whole")
    return out, list(run(recipe_of(), out))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_unet_model(out / "model").unet.state_dict()


def test_the_pieces_come_in_order_and_leave_a_model_that_films(whole: tuple[Path, list[Event]]):
    out, events = whole
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["unet 1/2", "unet 2/2", "model"]
    pipeline = load(out / "model", precision="float32", device="cpu")
    assert (pipeline.facts.size, pipeline.facts.frames, pipeline.facts.fps) == ((16, 16), 3, 6)
    film = pipeline.generate("a man walking in the rain", steps=2)
    assert (len(film), film.size) == (3, (16, 16))
    assert not pipeline.remarks(pipeline.request("a man walking in the rain"))


def test_interrupted_and_resumed_gives_the_same_weights(whole: tuple[Path, list[Event]], tmp_path: Path):
    going = run(recipe_of(), tmp_path)
    for event in going:
        if (event.stage, event.done) == ("unet 2/2", 1):
            break
    going.close()
    assert not (tmp_path / "model").exists()
    list(run(recipe_of(), tmp_path))
    one, other = weights(whole[0]), weights(tmp_path)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_same_call_again_trains_nothing(whole: tuple[Path, list[Event]]):
    events = [event.progress for event in run(recipe_of(), whole[0]) if event.progress is not None]
    assert [progress.event for progress in events] == ["finished"] * 2


def test_it_goes_on_from_a_model(whole: tuple[Path, list[Event]], tmp_path: Path):
    first = next(iter(run(recipe_of(), tmp_path, start=whole[0] / "model")))
    before, after = weights(whole[0]), first.model().unet.state_dict()  # type: ignore[union-attr]
    assert 0 < max(float((before[name] - after[name]).abs().max()) for name in before) < 0.1


def test_the_first_guess_is_measured_once_and_goes_with_the_model(
    whole: tuple[Path, list[Event]], tmp_path: Path
):
    measured = linear.load(whole[0] / "linear")
    found = load_unet_model(whole[0] / "model").linear
    assert found is not None and torch.equal(found.still, measured.still) and float(measured.still.sum()) > 0
    other = recipe_of(**{"clips.seed": "5"})
    event = next(iter(run(other, tmp_path, start=whole[0] / "model")))
    kept = event.model().linear  # type: ignore[union-attr]
    assert torch.equal(kept.still, measured.still) and not (tmp_path / "linear").exists()


def test_a_recipe_may_do_without_a_first_guess(tmp_path: Path):
    list(run(recipe_of(**{"linear": "null", "network.in_channels": "3"}), tmp_path))
    assert load_unet_model(tmp_path / "model").linear is None and not (tmp_path / "linear").exists()
    with pytest.raises(Refusal, match=r"takes 3 channels and 0 labels; .* guessed here it must be 9 and 0"):
        list(run(recipe_of(**{"network.in_channels": "3"}), tmp_path / "other"))


def test_clips_of_no_whole_patches_are_refused_before_the_run(tmp_path: Path):
    with pytest.raises(Refusal, match=r"smoke.: value error, clips are 20x16, and linear\.patch is 8: "):
        recipe_of(**{"clips.width": "20"})
    assert recipe_of(**{"clips.width": "20", "linear.patch": "4"}).clips.width == 20


def test_a_network_without_words_is_trained_and_saved_without(tmp_path: Path):
    list(run(recipe_of(**{"network.text_dim": "null"}), tmp_path))
    model = load_unet_model(tmp_path / "model")
    assert model.words is None and model.facts.guidance == 1.0
    # Its sheet is of seeds: of prompts all rows would be alike.
    one, two = (sample_sheet(model, ["a", "b"], path=tmp_path / f"{seed}.png", seed=seed) for seed in (1, 2))
    (first, second), (again, _) = (np.split(np.asarray(Image.open(path))[2:], 2) for path in (one, two))
    assert (second == again).all() and (first != second).any()


def test_a_folder_of_clips_trains_and_names_the_bad_ones(tmp_path: Path):
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(Video(torch.full((4, 16, 16, 3), 40, dtype=torch.uint8), fps=6.0), clips / "dark.mp4")
    (clips / "dark.txt").write_text("a dark room", encoding="utf-8")
    (clips / "broken.mp4").write_bytes(b"no film")
    events = list(run(recipe_of(), tmp_path / "run", data=clips))
    assert events[0].stage == "clips" and "broken.mp4" in events[0].text
    model = load_unet_model(tmp_path / "run" / "model")
    assert model.words is not None and model.words.tokenizer.unknown_words("a man")


def test_digits_are_trained_on_by_their_archive(tmp_path: Path):
    pictures = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=pictures, y_train=np.arange(20) % 10)
    events = list(run(recipe_of(), tmp_path / "run", data=tmp_path))
    assert all("bounce around" in prompt for prompt in events[-1].prompts)
    assert load_unet_model(tmp_path / "run" / "model").facts.vocabulary == ""


STAGE = {"clips.width": "32", "clips.height": "16", "pieces.1.train.steps": "2", "pieces.2.train.steps": "1"}


def test_a_stage_is_trained_on_small_versions_and_its_folder_says_so(tmp_path: Path):
    recipe = resolve("vdm-larger-smoke", STAGE)
    assert isinstance(recipe, PixelRecipe)
    list(run(recipe, tmp_path))
    model = load_unet_model(tmp_path / "model")
    assert model.stage is not None and (model.stage.factor, model.stage.noise) == (2, 0.1)
    assert (model.facts.size, model.facts.frames, model.words) == ((32, 16), 4, None)


def test_a_stage_is_trained_on_some_frames_and_its_folder_says_so(tmp_path: Path):
    recipe = resolve("vdm-between-smoke", {"pieces.1.train.steps": "1"})
    assert isinstance(recipe, PixelRecipe)
    list(run(recipe, tmp_path))
    stage = load(tmp_path / "model", precision="float32", device="cpu")
    assert isinstance(stage, TemporalStage) and (stage.stage.factor, stage.facts.frames) == (4, 5)
    with pytest.raises(Refusal, match="mutoscope interpolate FILM"):
        load_pipeline(tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pieces.1.unet.known.factor": "4"}, "one kind and factor"),
        ({"small_noise": "0.5"}, "shows 0.3 at most"),
        ({"pieces.1.unet.process.deviation": "0.4"}, "several processes"),
    ],
)
def test_a_stage_of_two_minds_is_refused(changes: dict[str, str], said: str):
    with pytest.raises(Refusal, match=said):
        resolve("vdm-larger-smoke", changes)


@pytest.mark.parametrize("name", UNET_RECIPES)
def test_every_recipe_is_valid_resolves_to_itself_and_fits_its_clips(name: str):
    recipe = UNET_RECIPES[name]
    assert resolve(name) == recipe == PixelRecipe.model_validate(recipe.model_dump(mode="json"))
    factor = recipe.network.factor
    assert recipe.clips.width % factor == recipe.clips.height % factor == 0
    assert all(piece.unet.frames <= recipe.clips.frames for piece in recipe.pieces)


def test_a_model_is_asked_as_the_recipe_says(tmp_path: Path):
    list(run(recipe_of(shift="5.0", sampler="euler", steps="9"), tmp_path))
    facts = load_unet_model(tmp_path / "model").facts
    assert (facts.shift, facts.sampler, facts.steps, facts.guidance) == (5.0, "euler", 9, 3.0)


def test_a_recipe_says_how_its_model_is_used():
    said = {name: recipe.command for name, recipe in UNET_RECIPES.items() if "smoke" in name}
    assert list(said.values()) == ["generate PROMPT", "upscale FILM", "interpolate FILM"]
    assert recipe_of(**{"network.text_dim": "null"}).command == "generate"


def test_a_setting_that_is_not_there_is_refused():
    with pytest.raises(Refusal, match="no setting 'latents'"):
        recipe_of(latents="3")
