"""Reading a public folder: strict, one clear line for everything that is wrong, nothing unpickled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mutoscope.checkpoints.card import Card, settings_from, some
from mutoscope.video import Refusal

WEIGHTS = "diffusion_pytorch_model.safetensors"


class Settings(BaseModel):
    width: int = 3


class Small(nn.Module):
    def __init__(self, config: Settings) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(2, config.width)
        self.gain = nn.Parameter(torch.rand(config.width))


CARD = Card(
    class_name="PublicSmall",
    build=Small,
    to_public=lambda name: name.replace("first", "linear_1"),
    to_ours=lambda name: None if name == "rope" else name.replace("linear_1", "first"),
    write_config=lambda config: {"_class_name": "PublicSmall", "width": config.width},
    read_config=lambda config: settings_from(Settings, config),
    public_shape=lambda name, shape: (*shape, 1) if name == "gain" else shape,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    CARD.save(Small(Settings()), tmp_path)
    return tmp_path


def rewrite(folder: Path, **change: torch.Tensor | None) -> None:
    """The same weights with some replaced, added, or (None) left out."""
    tensors = load_file(folder / WEIGHTS) | change
    save_file({n: x for n, x in tensors.items() if x is not None}, folder / WEIGHTS)


def refusal(folder: Path) -> str:
    with pytest.raises(Refusal) as error:
        CARD.load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_holds_public_names_and_shapes_and_comes_back(tmp_path):
    module = Small(Settings(width=5))
    CARD.save(module, tmp_path / "deep" / "folder")
    with safe_open(tmp_path / "deep" / "folder" / WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == {"linear_1.weight", "linear_1.bias", "gain"}
        assert file.get_slice("gain").get_shape() == [5, 1]
        assert file.metadata() == {"format": "pt"}
    again = CARD.load(tmp_path / "deep" / "folder")
    assert not again.training
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in module.state_dict().items())
    assert {path.name for path in (tmp_path / "deep" / "folder").iterdir()} == {WEIGHTS, "config.json"}


def test_half_precision_files_are_read_as_float32(tmp_path):
    module = Small(Settings())
    CARD.save(module, tmp_path, dtype=torch.bfloat16)
    assert load_file(tmp_path / WEIGHTS)["gain"].dtype == torch.bfloat16
    assert torch.equal(CARD.load(tmp_path).state_dict()["gain"], module.gain.detach().bfloat16().float())


def test_saving_leaves_the_old_file_when_it_fails(folder):
    before = (folder / "config.json").read_bytes()

    def broken(config: Settings) -> dict:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        replace(CARD, write_config=broken).save(Small(Settings()), folder)
    assert (folder / "config.json").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, "config.json"}


def test_missing_weights_are_named_as_in_the_file(folder):
    rewrite(folder, **{"linear_1.bias": None})
    assert "1 missing: linear_1.bias" in refusal(folder)


def test_unknown_weights_are_named(folder):
    rewrite(folder, lora=torch.ones(1), other=torch.ones(1))
    assert "2 unknown: lora, other" in refusal(folder)


def test_weights_of_no_use_are_passed_over(folder):
    rewrite(folder, rope=torch.ones(7))
    assert CARD.load(folder).state_dict().keys() == {"first.weight", "first.bias", "gain"}


def test_another_shape_is_refused_even_with_as_many_numbers(folder):
    rewrite(folder, gain=torch.ones(1, 3))
    line = refusal(folder)
    assert "gain" in line and "(1, 3)" in line and "(3, 1)" in line


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_files_are_refused(folder, keep):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:keep])
    assert WEIGHTS in refusal(folder)


def test_bytes_that_are_no_safetensors_are_refused(folder):
    (folder / WEIGHTS).write_bytes(b"\x80\x04not a tensor" * 20)
    assert WEIGHTS in refusal(folder)


def test_pickles_are_never_opened(folder):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    assert "pickled" in refusal(folder)


def test_a_folder_without_weights_or_config_says_which(folder):
    (folder / WEIGHTS).unlink()
    assert WEIGHTS in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_broken_config_is_refused(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert "config.json" in refusal(folder)


def test_settings_of_a_wrong_type_are_refused_by_name(folder):
    (folder / "config.json").write_text(json.dumps({"width": "wide"}))
    line = refusal(folder)
    assert "config.json" in line and "width" in line


@pytest.mark.parametrize("named", [{"_class_name": "Other"}, {"architectures": ["Other"]}])
def test_another_class_is_refused(folder, named):
    (folder / "config.json").write_text(json.dumps({"width": 3} | named))
    line = refusal(folder)
    assert "'Other'" in line and "'PublicSmall'" in line


def shard(folder: Path, second: str) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    save_file({"gain": tensors.pop("gain")}, folder / "a.safetensors")
    save_file(tensors, folder / "b.safetensors")
    names = {"gain": "a.safetensors"} | dict.fromkeys(tensors, second)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": names}))


def test_shards_are_read_together(folder):
    whole = CARD.load(folder).state_dict()
    shard(folder, "b.safetensors")
    assert all(torch.equal(whole[name], x) for name, x in CARD.load(folder).state_dict().items())


@pytest.mark.parametrize("name", ["../b.safetensors", "/etc/b.safetensors", "x\\b.safetensors", "b.bin"])
def test_an_index_cannot_point_elsewhere(folder, name):
    shard(folder, name)
    assert "no file name" in refusal(folder)


def test_a_missing_shard_is_named(folder):
    shard(folder, "c.safetensors")
    assert "c.safetensors" in refusal(folder)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": {}}', '{"weight_map": {"gain": 3}}'])
def test_an_index_without_files_is_refused(folder, index):
    (folder / WEIGHTS).rename(folder / "a.safetensors")
    (folder / f"{WEIGHTS}.index.json").write_text(index)
    assert "weight_map" in refusal(folder)


def test_long_lists_are_cut():
    assert some(["d", "c", "b", "a"]) == "a, b, c and 1 more"
    assert some(["b", "a"]) == "a, b"
