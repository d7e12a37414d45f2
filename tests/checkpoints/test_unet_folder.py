"""A folder of a U-Net holds all of it, and a damaged one is refused in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mutoscope.checkpoints.folder import save_model
from mutoscope.checkpoints.unet_folder import (
    StageFacts,
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
