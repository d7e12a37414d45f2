"""Training a hierarchy on a lent GPU, on a processor: taken away, gone on with elsewhere, and finished."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mutoscope.checkpoints.hierarchy_folder import load_hierarchy
from mutoscope.data.loader import WorldSource
from mutoscope.hierarchy_recipes import HIERARCHY_RECIPES


@pytest.fixture
def scripts(gpu_script: Callable[[str], ModuleType]) -> tuple[ModuleType, ...]:
    return tuple(map(gpu_script, ("train_align", "ledger", "parcel")))


def test_a_recipe_is_cut_by_what_is_done(scripts: tuple[ModuleType, ...]):
    train_align, ledger, _ = scripts
    recipe = HIERARCHY_RECIPES["align-gpu"]
    done = ledger.Ledger(
        {
            "autoencoder": ledger.Entry(steps=900, planned=900, finished=True),
            "pictures": ledger.Entry(steps=100, planned=500, seconds=30.0),
        }
    )
    left = train_align.rest(recipe, done)
    assert left.done == {"autoencoder"}
    assert left.recipe.pictures.train.minutes == pytest.approx(recipe.pictures.train.minutes - 0.5)
    assert left.recipe.model_copy(update={"pictures": recipe.pictures}) == recipe


def test_a_trial_takes_a_share_of_the_minutes_and_of_the_clips(scripts: tuple[ModuleType, ...]):
    train_align, _, _ = scripts
    recipe = HIERARCHY_RECIPES["align-gpu"]
    trial = train_align.shortened(recipe, 0.5)
    assert trial.larger.clips.train.minutes == pytest.approx((recipe.larger.clips.train.minutes or 0) / 2)
    assert trial.latents == recipe.latents // 2 and train_align.shortened(recipe, 1.0) == recipe


def test_the_workers_clips_are_those_of_each_stage(
    scripts: tuple[ModuleType, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At the rate, length and size that are asked for; a pool gives shorter ones than its own."""
    train_align, _, _ = scripts
    monkeypatch.syspath_prepend(str(Path(train_align.__file__).parent))  # where the workers import from
    recipe = train_align.toy()
    small = {"workers": 1, "pool": 3, "large_pool": 2}
    call = train_align.ChainCall(recipe, tmp_path, tmp_path, None, lambda: False, **small)
    sources = train_align.ClipSources(call)
    try:
        slow = recipe.clips.model_copy(update={"fps": 2.0})
        sides = {"width": 2 * recipe.clips.width, "height": 2 * recipe.clips.height}
        large = recipe.clips.model_copy(update=sides)
        for clips, frames in ((slow, 3), (recipe.clips, 1), (large, 2)):
            source = sources(clips, frames, clips.seed)
            video = source.batch(0, 2).video
            assert video.shape == (2, 3, frames, clips.height, clips.width)
        assert sources(slow, 3, slow.seed).fps == 2.0
        drawn = sources(slow, 3, slow.seed).batch(1, 2)
        true = train_align.world_source(slow, 3, seed=slow.seed).batch(1, 2)
        assert drawn.captions == true.captions and (drawn.video - true.video).abs().max() <= 0.5 / 127
    finally:
        sources.close()


def test_a_call_that_is_cut_short_goes_on_elsewhere_to_a_film(
    scripts: tuple[ModuleType, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The second machine has nothing but the parcel, and leaves out what the first had done."""
    train_align, ledger, parcel = scripts
    stages: list[str] = []
    batch = WorldSource.batch

    def over() -> bool:
        return "between" in stages

    class Noting(ledger.Ledger):  # type: ignore[name-defined]
        def note(self, name: str, event: object, before: object) -> None:
            stages.append(name)
            super().note(name, event, before)

        def copy(self) -> "Noting":
            return Noting(dict(self.entries))

    one, files = tmp_path / "one", tmp_path / "files"
    call = train_align.ChainCall(train_align.toy(), one, files, None, over, seconds=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_align, "Ledger", Noting)
        # Latents are measured on 8 clips, not on 64: drawing those is a quarter of the call.
        patch.setattr(WorldSource, "batch", lambda self, step, count: batch(self, step, min(count, 8)))
        train_align.train(call)
    start = parcel.join(tmp_path / "files", tmp_path / "start")
    assert json.loads((start / "ledger.json").read_text())["decoder"]["finished"]
    again = ["--toy", "--out", str(tmp_path / "two"), "--parcel", str(tmp_path / "more"),
             "--start", str(start), "--seconds", "0.5", "--budget-seconds", "1000000"]  # fmt: skip
    assert train_align.main(again) == 0
    assert not (tmp_path / "two" / "pictures").exists() and (tmp_path / "two" / "between").exists()
    end = parcel.join(tmp_path / "more", tmp_path / "end")
    assert {"film.mp4", "film.json", "samples.png", "ledger.json"} <= {path.name for path in end.iterdir()}
    one, other = load_hierarchy(start / "model"), load_hierarchy(end / "model")
    assert all(torch.equal(a, b) for a, b in zip(one.unet.parameters(), other.unet.parameters(), strict=True))
    table = capsys.readouterr().out
    assert "larger clips" in table and " .." not in table.rsplit("stage", 1)[1]
