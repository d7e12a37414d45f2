"""Training a hierarchy on a lent GPU, on a processor: taken away, gone on with elsewhere, and finished."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mutoscope.checkpoints.hierarchy_folder import load_hierarchy
from mutoscope.hierarchy_recipes import HIERARCHY_RECIPES


@pytest.fixture(scope="module")
def scripts() -> tuple[ModuleType, ModuleType, ModuleType]:
    from importlib import import_module

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks" / "gpu"))
        found = [import_module(name) for name in ("train_align", "ledger", "parcel")]
    return found[0], found[1], found[2]


def test_a_recipe_is_cut_by_what_is_done(scripts: tuple[ModuleType, ...]):
    train_align, ledger, _ = scripts
    recipe = HIERARCHY_RECIPES["align-gpu"]
    done = ledger.Ledger(
        {
            "autoencoder": ledger.Entry(steps=900, planned=900, finished=True),
            "pictures": ledger.Entry(steps=100, planned=500, seconds=60.0),
        }
    )
    left = train_align.rest(recipe, done)
    assert left.done == {"autoencoder"}
    assert left.recipe.pictures.train.minutes == pytest.approx(recipe.pictures.train.minutes - 1)
    assert left.recipe.model_copy(update={"pictures": recipe.pictures}) == recipe


def test_a_call_that_is_cut_short_goes_on_elsewhere_to_a_film(
    scripts: tuple[ModuleType, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The second machine has nothing but the parcel, and leaves out what the first had done."""
    train_align, ledger, parcel = scripts
    stages: list[str] = []

    def over() -> bool:
        return "between" in stages

    class Noting(ledger.Ledger):  # type: ignore[name-defined]
        def note(self, name: str, event: object, before: object) -> None:
            stages.append(name)
            super().note(name, event, before)

        def copy(self) -> "Noting":
            return Noting(dict(self.entries))

    call = train_align.Call(
        train_align.toy(), tmp_path / "one", tmp_path / "files", None, over, seconds=0.5
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_align, "Ledger", Noting)
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
    assert all(
        torch.equal(a, b) for a, b in zip(one.unet.parameters(), other.unet.parameters(), strict=True)
    )
    table = capsys.readouterr().out
    assert "larger clips" in table and " .." not in table.rsplit("stage", 1)[1]
