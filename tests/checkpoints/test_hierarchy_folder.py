"""A folder of several U-Nets: what is written is read again, by us and, where it is public, by diffusers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from mutoscope.checkpoints.hierarchy_folder import (
    HierarchyFacts,
    is_hierarchy_folder,
    load_hierarchy,
    save_hierarchy,
)
from mutoscope.pipelines import load, load_pipeline
from mutoscope.video import Refusal
from tiny_hierarchy import CHAIN, tiny_hierarchy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_hierarchy(tiny_hierarchy(), tmp_path_factory.mktemp("one") / "model", dtype=None)


def test_what_is_written_is_read_again(folder: Path):
    one, other = tiny_hierarchy(), load_hierarchy(folder)
    assert other.hierarchy == CHAIN and other.facts.size == one.facts.size
    for name in ("unet", "interpolation", "upscaler", "autoencoder"):
        before, after = getattr(one, name).state_dict(), getattr(other, name).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert other.fingerprint.startswith("sha256:")


def test_a_film_of_the_folder_is_that_of_the_model(folder: Path):
    from mutoscope.pipelines.hierarchy import Hierarchy

    settings = {"steps": 1, "frames": 3, "seed": 4}
    one = Hierarchy(tiny_hierarchy(), precision="float32", device="cpu").generate("a man", **settings)
    other = load(folder, precision="float32", device="cpu").generate("a man", **settings)
    assert torch.equal(one.frames, other.frames)


def test_parts_that_are_not_there_are_left_out(tmp_path: Path):
    save_hierarchy(tiny_hierarchy(parts=()), tmp_path / "keys")
    assert not (tmp_path / "keys" / "upscaler_unet").exists()
    found = load_hierarchy(tmp_path / "keys")
    assert found.interpolation is None and found.upscaler is None


@pytest.mark.oracle
def test_the_autoencoder_opens_in_diffusers(folder: Path):
    theirs = AutoencoderKLTemporalDecoder.from_pretrained(folder / "vae").eval()
    ours = load_hierarchy(folder).autoencoder.eval()
    z = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = theirs.decode(z[0].transpose(0, 1), num_frames=3).sample
        torch.testing.assert_close(made.transpose(0, 1)[None], ours.decode(z), rtol=1e-4, atol=1e-5)


def test_the_index_names_every_part(folder: Path):
    index = json.loads((folder / "model_index.json").read_text())
    assert is_hierarchy_folder(folder) and not is_hierarchy_folder(folder / "unet")
    parts = {path.name for path in folder.iterdir() if path.is_dir()}
    assert parts == index.keys() - {"_class_name"}
    assert index["vae"] == ["diffusers", "AutoencoderKLTemporalDecoder"]


def test_what_needs_one_network_refuses_a_hierarchy(folder: Path):
    with pytest.raises(Refusal, match="hierarchy of models"):
        load_pipeline(folder)
    with pytest.raises(Refusal, match="no weaker one guides it"):
        load(folder, weak=folder)


@pytest.mark.parametrize(
    "change", [{"overlap": 4}, {"context": 4}, {"span": 4}, {"every": 3}], ids=str
)
def test_a_chain_that_cannot_be_is_refused(change: dict[str, int]):
    chain = HierarchyFacts.model_validate(CHAIN.model_dump() | change)
    with pytest.raises(Refusal, match="one more than a multiple"):
        replace(tiny_hierarchy(), hierarchy=chain)


def test_parts_that_do_not_fit_are_refused(folder: Path):
    model = tiny_hierarchy()
    with pytest.raises(Refusal, match="makes 3 channels and vae z_dim is 4"):
        replace(model, interpolation=model.upscaler)


def test_a_folder_without_its_first_network_is_refused(tmp_path: Path):
    save_hierarchy(tiny_hierarchy(parts=()), tmp_path / "model")
    (tmp_path / "model" / "unet").rename(tmp_path / "away")
    with pytest.raises(Refusal, match="unet/ is missing"):
        load_hierarchy(tmp_path / "model")
