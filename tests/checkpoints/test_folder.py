"""Model folders: back as they went, readable by diffusers, and refused in one line where something is
wrong."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from mutoscope.checkpoints.folder import (
    FLOW,
    ModelFacts,
    fingerprint,
    load_model,
    save_model,
    scheduler_of,
)
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.prediction import to_clean
from mutoscope.diffusion.prior import PriorSettings
from mutoscope.diffusion.process import Process
from mutoscope.pipelines import Pipeline
from mutoscope.video import Refusal
from tiny import FACTS, tiny_model

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_model(), tmp_path_factory.mktemp("models") / "tiny", dtype=None, card="# Tiny\n")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_model_comes_back_as_it_went(saved: Path) -> None:
    model, back = tiny_model(), load_model(saved)
    assert (back.shift, back.facts, back.words.padded_to) == (3.0, FACTS, 24)
    pairs = (
        (model.transformer, back.transformer),
        (model.autoencoder, back.autoencoder),
        (model.words, back.words),
    )
    for ours, theirs in pairs:
        state = theirs.state_dict()
        assert ours.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    assert back.words.tokenizer.words == model.words.tokenizer.words


def test_it_holds_what_the_plan_says(saved: Path) -> None:
    names = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert names == {
        "README.md", "model_index.json", "mutoscope.json", "scheduler/scheduler_config.json",
        "text_encoder/config.json", "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "tokenizer/words.json",
        f"transformer/{WEIGHTS}", "transformer/config.json", f"vae/{WEIGHTS}", "vae/config.json",
    }  # fmt: skip
    assert saved.stat().st_mode & 0o077 == 0o777 & ~current_umask() & 0o077


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_weights_are_bf16_on_the_disk_unless_told_otherwise(tmp_path: Path) -> None:
    path = save_model(tiny_model(), tmp_path / "half")
    tensors = load_file(path / "transformer" / WEIGHTS)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_saving_over_a_model_replaces_it_and_leaves_nothing(folder: Path) -> None:
    before = fingerprint(folder)
    save_model(tiny_model(1), folder, dtype=None)
    assert fingerprint(folder) != before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_failed_save_leaves_the_old_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(folder)
    monkeypatch.setattr("mutoscope.checkpoints.umt5.save", fail)
    with pytest.raises(Refusal, match="No space left"):
        save_model(tiny_model(1), folder)
    assert fingerprint(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def fail(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(Refusal, match="no model folder"):
        save_model(tiny_model(), tmp_path / "letters")
    assert (tmp_path / "letters" / "mother.txt").read_text() == "dear"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="cannot be written"):
        save_model(tiny_model(), tmp_path / "file" / "model")


def test_a_public_folder_has_the_facts_of_wan(folder: Path) -> None:
    (folder / "mutoscope.json").unlink()
    facts = load_model(folder).facts
    assert facts == ModelFacts(name="tiny")
    assert (facts.fps, facts.size, facts.frames, facts.padded_to) == (16, (832, 480), 81, 512)


def test_the_shift_of_a_unipc_folder_is_read(folder: Path) -> None:
    scheduler = {
        "_class_name": "UniPCMultistepScheduler",
        "prediction_type": "flow_prediction",
        "flow_shift": 5.0,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    assert load_model(folder).shift == 5.0


@pytest.mark.parametrize(("name", "value"), [("deviation", 0.4), ("guesses", True), ("colours", "opponent")])
def test_a_process_that_latents_do_not_have_is_refused(folder: Path, name: str, value: Any) -> None:
    facts = json.loads((folder / "mutoscope.json").read_text())
    facts["process"][name] = value
    (folder / "mutoscope.json").write_text(json.dumps(facts))
    with pytest.raises(Refusal, match=rf"{name} (is )?{value}"):
        load_model(folder)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(Refusal, match=f"{part}/ missing"):
        load_model(folder)


@pytest.mark.parametrize(
    "name",
    ["model_index.json", f"transformer/{WEIGHTS}", "vae/config.json", "text_encoder/model.safetensors"],
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Refusal, match=Path(name).name.split(".")[0]):
        load_model(folder)


@pytest.mark.parametrize(
    "name", [f"transformer/{WEIGHTS}", f"vae/{WEIGHTS}", "text_encoder/model.safetensors"]
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_weights_are_refused_by_name(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(Refusal, match=name) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline"},
            "StableDiffusionPipeline.*WanPipeline",
        ),
        ("model_index.json", {"transformer_2": ["diffusers", "WanTransformer3DModel"]}, "two transformers"),
        ("mutoscope.json", {"fps": -1}, "mutoscope.json: fps"),
        ("mutoscope.json", {"sampler": "magic"}, "mutoscope.json: sampler"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "DDIMScheduler"},
            "DDIMScheduler does not walk a flow",
        ),
        ("scheduler/scheduler_config.json", {"shift": 0}, "shift is 0"),
    ],
)
def test_what_cannot_be_read_is_refused(folder: Path, name: str, values: dict[str, Any], match: str) -> None:
    edit(folder / name, **values)
    with pytest.raises(Refusal, match=match):
        load_model(folder)


def test_parts_that_do_not_belong_together_are_refused(folder: Path, tmp_path: Path) -> None:
    edit(folder / "transformer" / "config.json", text_dim=24)
    weights = load_file(folder / "transformer" / WEIGHTS)
    name = "condition_embedder.text_embedder.linear_1.weight"
    weights[name] = torch.zeros(weights[name].shape[0], 24)
    save_file(weights, folder / "transformer" / WEIGHTS)
    with pytest.raises(Refusal, match="text_dim is 24 and text encoder d_model is 16"):
        load_model(folder)


def test_a_number_changed_by_a_hair_changes_the_fingerprint(folder: Path) -> None:
    before = fingerprint(folder)
    weights = load_file(folder / "vae" / WEIGHTS)
    next(iter(weights.values())).view(-1)[0] += 1e-3
    save_file(weights, folder / "vae" / WEIGHTS)
    assert before.startswith("sha256:") and fingerprint(folder) != before


def test_the_fingerprint_does_not_depend_on_the_place(saved: Path, folder: Path) -> None:
    (folder / "README.md").write_text("another card")
    assert fingerprint(folder) == fingerprint(saved) == load_model(folder).fingerprint


def test_large_weights_are_told_by_their_headers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutoscope.checkpoints.folder.HASHED_WHOLE", 1000)
    before = fingerprint(folder)
    weights = load_file(folder / "vae" / WEIGHTS)
    save_file({f"{name}x": value for name, value in weights.items()}, folder / "vae" / WEIGHTS)
    assert before.startswith("headers:") and fingerprint(folder) != before


@pytest.mark.oracle
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_diffusers_makes_the_same_film(saved: Path, guidance: float) -> None:
    """Same folder, starting latents, steps and guidance; its own scheduler and text padding."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.WanPipeline.from_pretrained(saved)
    theirs.set_progress_bar_config(disable=True)
    noise = draw([7], (4, 3, 4, 4))
    words = "a woman in a red coat running in the snow"
    film = theirs(
        prompt=words, negative_prompt="rain", width=32, height=32, num_frames=9, num_inference_steps=4,
        guidance_scale=guidance, latents=noise, max_sequence_length=24, output_type="np",
    ).frames[0]  # fmt: skip
    ours = Pipeline(load_model(saved), precision="float32", device="cpu")
    video = ours.generate(words, negative="rain", seed=7, steps=4, guidance=guidance)
    assert film.std() > 0.05  # a film of one colour would prove nothing
    assert psnr(torch.from_numpy(film), video.frames / 255) >= 50


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of pictures in [0, 1]; 8-bit rounding alone is about 59 dB."""
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.oracle
def test_diffusers_makes_the_same_film_of_the_shift_on_the_disk(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    path = save_model(replace(tiny_model(), shift=1.0), tmp_path / "tiny", dtype=None)
    theirs = diffusers.WanPipeline.from_pretrained(path)
    assert theirs.scheduler.config.shift == 1.0
    assert (
        theirs.tokenizer("a man walking").input_ids
        == load_model(path).words.tokenizer.encode(["a man walking"]).ids[0].tolist()
    )


def test_noise_and_process_travel_with_the_model(tmp_path: Path) -> None:
    process = Process(schedule="cosine", prediction="velocity")
    made = FACTS.model_copy(update={"noise": PriorSettings(name="mixed", a=1.5), "process": process})
    back = load_model(save_model(replace(tiny_model(), facts=made), tmp_path / "m"))
    assert (back.facts, back.shift) == (made, 3.0)
    film = Pipeline(back, device="cpu").generate("rain", frames=1, steps=2)
    assert film.notes["settings"].count("mixed") == 1


def test_a_folder_that_does_not_speak_of_them_has_independent_noise_and_a_flow(folder: Path) -> None:
    path = folder / "mutoscope.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({name: facts[name] for name in facts.keys() - {"noise", "process"}}))
    back = load_model(folder)
    assert back.facts == FACTS and (back.facts.process, back.facts.noise) == (FLOW, PriorSettings())


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("prediction", "kind"), [("velocity", "v_prediction"), ("noise", "epsilon"), ("clean", "sample")]
)
def test_what_is_predicted_on_the_cosine_means_the_same_to_diffusers(
    tmp_path: Path, prediction: Any, kind: str
) -> None:
    """One step of theirs to the clean film is our clean film, at every one of their times."""
    process = Process(schedule="cosine", prediction=prediction)
    scheduler = DDIMScheduler.from_config(scheduler_of(process, shift=3.0))
    assert scheduler.config["prediction_type"] == kind
    noisy, said = draw([0, 1], (4, 3, 2, 2), dtype=torch.float64)[:, None]
    scheduler.set_timesteps(1000)
    for step in (999, 500, 20):
        t = torch.full((1, 3), step / 1000, dtype=torch.float64)
        ours = to_clean(prediction, said, noisy=noisy, level=process.noising().level(t))
        theirs = scheduler.step(said, step, noisy).pred_original_sample
        scale = ours.abs().max()
        assert (ours - theirs).abs().max() <= 2e-3 * scale, "their table is float32"


def test_other_processes_have_no_public_scheduler() -> None:
    with pytest.raises(Refusal, match="take flow on straight, or velocity, noise, clean on cosine"):
        scheduler_of(Process(schedule="linear", prediction="noise"), shift=1.0)
