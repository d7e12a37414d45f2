"""A folder of a U-Net holds all of it, and a damaged one is refused in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mutoscope.checkpoints.folder import save_model
from mutoscope.checkpoints.unet_folder import (
    StageFacts,
    UNetModel,
    is_unet_folder,
    load_unet_model,
    read_stage,
    save_unet_model,
)
from mutoscope.video import Refusal
from tiny import tiny_model, tiny_unet_model


@pytest.mark.parametrize("words", [True, False], ids=["words", "no words"])
@pytest.mark.parametrize("known", [True, False], ids=["known frames", "plain"])
def test_what_is_written_is_read_again(tmp_path: Path, words: bool, known: bool):
    model = tiny_unet_model(known=known, words=words)
    back = load_unet_model(save_unet_model(model, tmp_path / "model", dtype=None))
    assert back.unet.config == model.unet.config and back.facts == model.facts
    for name, weight in model.unet.state_dict().items():
        assert torch.equal(back.unet.state_dict()[name], weight)
    assert (back.words is None) == (not words)
    if back.words is not None and model.words is not None:
        one, two = (text.say(["a man in the rain"]).rows for text in (back.words, model.words))
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("known", [True, False], ids=["known frames", "plain"])
def test_the_first_guess_is_read_as_it_was_written(tmp_path: Path, known: bool):
    model = tiny_unet_model(linear=True, known=known)
    back = load_unet_model(save_unet_model(model, tmp_path / "model"))
    assert model.linear is not None and back.linear is not None
    assert (back.linear.patch, back.told) == (4, known)
    for name in ("mean", "directions", "still", "change"):
        assert torch.equal(getattr(back.linear, name), getattr(model.linear, name))
    assert back.fingerprint != load_unet_model(_with_other_linear(model, tmp_path)).fingerprint


def _with_other_linear(model: UNetModel, folder: Path) -> Path:
    assert model.linear is not None
    other = replace(model.linear, still=model.linear.still + 1)
    return save_unet_model(replace(model, linear=other), folder / "other")


@pytest.mark.parametrize("damage", ["cut", "a weight too few", "other shapes", "no patch"])
def test_a_damaged_first_guess_is_refused(tmp_path: Path, damage: str):
    folder = save_unet_model(tiny_unet_model(linear=True), tmp_path / "model")
    path = folder / "linear" / "linear.safetensors"
    tensors = load_file(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "a weight too few":
        save_file({n: x for n, x in tensors.items() if n != "still"}, path, metadata={"patch": "4"})
    elif damage == "other shapes":
        save_file({**tensors, "still": tensors["still"][1:].clone()}, path, metadata={"patch": "4"})
    else:
        save_file(tensors, path)
    with pytest.raises(Refusal, match=r"linear\.safetensors: (no linear guess|damaged)"):
        load_unet_model(folder)


def test_a_network_that_cannot_see_a_first_guess_has_none():
    linear = tiny_unet_model(linear=True).linear
    with pytest.raises(Refusal, match="takes 3 channels; one that sees a first guess takes 9, or 13"):
        replace(tiny_unet_model(), linear=linear)


@pytest.mark.parametrize("facts", [{"factor": 4, "noise": 0.2}, {"kind": "between"}], ids=str)
def test_a_stage_of_a_cascade_says_so(tmp_path: Path, facts: dict[str, Any]):
    model = replace(tiny_unet_model(known=True), stage=StageFacts(**facts))
    folder = save_unet_model(model, tmp_path / "stage")
    assert read_stage(folder) == load_unet_model(folder).stage == model.stage
    other = save_unet_model(tiny_unet_model(known=True), tmp_path / "model")
    assert read_stage(other) is load_unet_model(other).stage is None


def test_the_fingerprint_is_that_of_the_weights(tmp_path: Path):
    first, same, other = (
        load_unet_model(save_unet_model(tiny_unet_model(seed), tmp_path / name)).fingerprint
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == same != other and first.startswith("sha256:")


def test_families_are_told_apart_by_their_index(tmp_path: Path):
    assert is_unet_folder(save_unet_model(tiny_unet_model(), tmp_path / "unet"))
    assert not is_unet_folder(save_model(tiny_model(), tmp_path / "transformer"))
    assert not is_unet_folder(tmp_path / "nothing")


def test_a_model_replaces_an_older_one_and_nothing_else(tmp_path: Path):
    save_unet_model(tiny_unet_model(0), tmp_path / "model", card="the first")
    save_unet_model(tiny_unet_model(words=False), tmp_path / "model")
    assert not (tmp_path / "model" / "tokenizer").exists() and not (tmp_path / "model" / "README.md").exists()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mother.txt").write_text("dear")
    with pytest.raises(Refusal, match="no model folder"):
        save_unet_model(tiny_unet_model(), tmp_path / "letters")


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path):
    save_unet_model(tiny_unet_model(words=False), tmp_path / "model")
    other = save_unet_model(tiny_unet_model(), tmp_path / "other")
    for part in ("text_encoder", "tokenizer"):
        (other / part).rename(tmp_path / "model" / part)
    with pytest.raises(Refusal, match="text_dim is None and text encoder d_model 16"):
        load_unet_model(tmp_path / "model")
    (other / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(Refusal, match="diffusion_pytorch_model"):
        load_unet_model(other)
