"""The model that ships: small enough, honest about itself, opened by diffusers, and it films."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from mutoscope.checkpoints.folder import load_model
from mutoscope.data.loader import WorldSource
from mutoscope.data.world import SMALL
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import Kind
from mutoscope.evaluation.probe import load_probe
from mutoscope.pipelines import PRETRAINED, Pipeline, load
from mutoscope.training.probe import accuracies

WORDS = "a man walking in the rain"


def test_it_fits_into_what_may_ship():
    files = [path for path in PRETRAINED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 64e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}


def test_its_card_names_what_a_user_must_know():
    card = (PRETRAINED / "README.md").read_text(encoding="utf-8").lower()
    for word in ("data", "recipe", "hardware", "time", "agreement", "fail"):
        assert word in card


def test_it_knows_the_words_of_its_world():
    pipeline = load()
    assert pipeline.remarks(pipeline.request(WORDS)) == []
    [remark] = pipeline.remarks(pipeline.request("an elephant in the rain"))
    assert "elephant" in remark


def test_same_words_and_seed_same_film():
    pipeline = load()
    first, second = (pipeline.generate(WORDS, seed=1, steps=2, frames=5) for _ in range(2))
    assert torch.equal(first.frames, second.frames)
    assert json.loads(first.notes["settings"])["steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("plan", get_args(Kind))
def test_it_films_under_every_plan(plan: Kind):
    """13 latent frames, 4 steps each, as finite latents; the same to the bit when asked again."""
    pipeline = load()
    request = pipeline.request(WORDS, seed=1, steps=4, frames=25, plan=plan)
    first, second = ([*pipeline.steps(request)][-1].latents for _ in range(2))
    assert first.shape[2] == 13 and first.isfinite().all() and first.std() > 0.3
    assert torch.equal(first, second)


@pytest.mark.oracle
def test_diffusers_opens_it_and_makes_the_same_film(tmp_path: Path):
    """Its own scheduler, its own text padding, float32: at least 40 dB."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.WanPipeline.from_pretrained(PRETRAINED)
    theirs.set_progress_bar_config(disable=True)
    model = load_model(PRETRAINED)
    noise = draw([3], (model.transformer.config.in_channels, 5, 8, 12))
    film = theirs(
        prompt=WORDS, negative_prompt="", width=96, height=64, num_frames=9, num_inference_steps=4,
        guidance_scale=3.0, latents=noise, output_type="np",
    ).frames[0]  # fmt: skip
    video = Pipeline(model, precision="float32", device="cpu").generate(WORDS, seed=3, steps=4, frames=9)
    error = (torch.from_numpy(film) - video.frames / 255).square().mean()
    assert film.std() > 0.05 and float(-10 * error.log10()) >= 40


def test_its_probe_reads_clips_it_never_saw():
    source = WorldSource(SMALL, frames=13, seed=4242, held_out=True)
    assert accuracies(load_probe(PRETRAINED / "probe"), source, count=40)["mean"] >= 0.95
