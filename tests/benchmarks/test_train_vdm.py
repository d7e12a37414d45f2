"""Training a VDM on a lent GPU, on a processor: taken away, gone on with elsewhere, finished and judged."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mutoscope.checkpoints.unet_folder import load_unet_model
from mutoscope.unet_recipes import UNET_RECIPES


@pytest.fixture
def scripts(gpu_script: Callable[[str], ModuleType]) -> tuple[ModuleType, ...]:
    return tuple(map(gpu_script, ("train_vdm", "ledger", "parcel")))


def test_a_recipe_is_cut_by_what_is_done(scripts: tuple[ModuleType, ...]):
    train_vdm, ledger, _ = scripts
    recipe = UNET_RECIPES["vdm-gpu"]
    begun = ledger.Entry(steps=100, planned=900, seconds=60.0)
    done = {"unet-1": ledger.Entry(steps=9, planned=9, finished=True), "unet-2": begun}
    left = train_vdm.rest(recipe, ledger.Ledger(done))
    assert [piece.unet for piece in left.pieces] == [recipe.pieces[1].unet]
    assert left.pieces[0].train.minutes == pytest.approx(recipe.pieces[1].train.minutes - 1)
    assert train_vdm.rest(recipe, ledger.Ledger()) == recipe
    begun.finished = True
    assert train_vdm.rest(recipe, ledger.Ledger(done)) is None


def test_a_trial_takes_a_share_of_the_minutes(scripts: tuple[ModuleType, ...]):
    train_vdm, _, _ = scripts
    recipe = UNET_RECIPES["vdm-gpu"]
    trial = train_vdm.shortened(recipe, 0.5)
    assert [2 * p.train.minutes for p in trial.pieces] == [p.train.minutes for p in recipe.pieces]
    assert train_vdm.shortened(recipe, 1.0) == recipe


def test_the_workers_draw_every_clip_and_pictures_are_frames_of_a_pool(
    scripts: tuple[ModuleType, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train_vdm, _, _ = scripts
    monkeypatch.syspath_prepend(str(Path(train_vdm.__file__).parent))  # where the workers import from
    monkeypatch.setattr(train_vdm, "AHEAD", 2)
    recipe = train_vdm.toy()
    clips, frames = recipe.clips, recipe.pieces[-1].unet.frames
    sources = train_vdm.ClipSources(
        train_vdm.PixelCall(recipe, tmp_path, tmp_path, None, lambda: False, workers=1, pool=3)
    )
    try:
        drawn = sources(clips, frames, clips.seed).batch(1, 2)
        true = train_vdm.world_source(clips, frames, seed=clips.seed).batch(1, 2)
        assert drawn.captions == true.captions and (drawn.video - true.video).abs().max() <= 0.5 / 127
        pictures = sources(clips, 1, clips.seed + 1000).batch(0, 5)
        own = train_vdm.world_source(clips, frames, seed=clips.seed + 1000).batch(0, 3)
        assert pictures.video.shape == (5, 3, 1, clips.height, clips.width)
        told = zip(pictures.video, pictures.captions, pictures.scenes, strict=True)
        for picture, caption, scene in told:
            clip = own.scenes.index(scene)
            assert (own.video[clip] - picture).abs().amax(dim=(0, 2, 3)).min() <= 0.5 / 127
            assert scene.subject in caption
    finally:
        sources.close()


def test_a_call_that_is_cut_short_goes_on_elsewhere_and_is_judged(
    scripts: tuple[ModuleType, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The second machine has nothing but the parcel; a third finds all of it done."""
    train_vdm, _, parcel = scripts
    asked = iter([False, False, True])
    train_vdm.train(
        train_vdm.PixelCall(train_vdm.toy(), tmp_path / "one", tmp_path / "files", None, lambda: next(asked))
    )
    start = parcel.join(tmp_path / "files", tmp_path / "start")
    entries = json.loads((start / "ledger.json").read_text())
    assert entries["unet-1"]["finished"] and not entries["unet-2"]["finished"]
    assert not (start / "agreement.json").exists()
    capsys.readouterr()
    more = ["--toy", "--prompts", "2", "--seeds", "1", "--budget-seconds", "1000000"]
    run = ["--out", str(tmp_path / "two"), "--parcel", str(tmp_path / "more"), "--start", str(start)]
    assert train_vdm.main([*more, *run]) == 0
    end = parcel.join(tmp_path / "more", tmp_path / "end")
    assert json.loads((end / "agreement.json").read_text())["settings"]["clips"] == 2
    assert " .." not in capsys.readouterr().out.rsplit("stage", 1)[1]
    again = ["--out", str(tmp_path / "three"), "--parcel", str(tmp_path / "last"), "--start", str(end)]
    assert train_vdm.main([*more, *again]) == 0
    last = parcel.join(tmp_path / "last", tmp_path / "same")
    one, other, same = (load_unet_model(folder / "model").unet for folder in (start, end, last))
    pairs = list(zip(one.parameters(), other.parameters(), same.parameters(), strict=True))
    assert all(torch.equal(b, c) for _, b, c in pairs) and not all(torch.equal(a, b) for a, b, _ in pairs)
