"""`mutoscope evaluate agreement` of every family of models, by the probe that ships; and plain refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mutoscope import cli
from mutoscope.checkpoints.folder import save_model
from mutoscope.checkpoints.hierarchy_folder import save_hierarchy
from mutoscope.checkpoints.unet_folder import StageFacts, save_unet_model
from tiny import tiny_model, tiny_unet_model
from tiny_hierarchy import CHAIN, tiny_hierarchy

FEW = ["--prompts", "2", "--seeds", "1", "--steps", "1", "--sampler", "heun"]


def of_the_world(model: Any, **facts: Any) -> Any:
    return replace(model, facts=model.facts.model_copy(update={"vocabulary": "small", **facts}))


def saved(kind: str, folder: Path) -> str:
    """A model that reads the made world's words, and makes films of three frames."""
    if kind == "hierarchy":
        chain = CHAIN.model_copy(update={"rounds": 1})
        return str(save_hierarchy(of_the_world(tiny_hierarchy(chain=chain), frames=3), folder))
    if kind == "U-Net on pixels":
        return str(save_unet_model(of_the_world(tiny_unet_model(), frames=3), folder))
    return str(save_model(of_the_world(tiny_model(), frames=3), folder))


@pytest.mark.parametrize("kind", ["transformer", "U-Net on pixels", "hierarchy"])
def test_films_of_any_family_are_asked_whether_they_show_the_words(kind: str, tmp_path: Path):
    model, out = saved(kind, tmp_path / "model"), tmp_path / "out"
    shift = [] if kind == "hierarchy" else ["--shift", "7"]
    assert cli.main(["evaluate", "agreement", "--model", model, "--out", str(out), *FEW, *shift]) == 0
    facts = json.loads((out / "agreement.json").read_text())
    settings = facts["settings"]
    assert settings["clips"] == 2 and settings["sampler"] == "heun"
    assert kind == "hierarchy" or settings["method"]["shift"] == 7
    assert 0 <= facts["agreement"]["mean"]["share"] <= 1
    assert facts["ceilings"].keys() == {"drawn"} | ({"autoencoder"} if kind == "transformer" else set())
    assert not (tmp_path / "model" / "probe").exists()


def silent() -> Any:
    return of_the_world(tiny_unet_model(words=False))


def stage() -> Any:
    return of_the_world(replace(tiny_unet_model(known=True), stage=StageFacts()))


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (silent, [], "reads no words"),
        (tiny_unet_model, [], "reads other words than the made world's"),
        (stage, [], "mutoscope upscale FILM"),
        (lambda: of_the_world(tiny_unet_model()), ["--plan", "pyramid"], "plan is pyramid"),
        (lambda: of_the_world(tiny_unet_model()), ["--shift", "-1"], "shift"),
    ],
    ids=["no words", "other words", "stage", "plan", "shift"],
)
def test_a_model_that_cannot_be_asked_is_refused_in_a_line(make, options, said, tmp_path, capsys):
    model = str(save_unet_model(make(), tmp_path / "model"))
    out = ["--out", str(tmp_path / "out")]
    assert cli.main(["evaluate", "agreement", "--model", model, *out, *FEW, *options]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("mutoscope: ") and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_only_a_transformers_autoencoder_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for model in (saved("hierarchy", tmp_path / "one"), saved("U-Net on pixels", tmp_path / "two")):
        assert cli.main(["evaluate", "autoencoder", "--model", model]) == 2
        assert "only the autoencoder of a transformer is measured" in capsys.readouterr().err
