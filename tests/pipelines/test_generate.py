"""Films of a tiny random model: the same for the same request, whatever was asked beside it."""

from pathlib import Path

import pytest
import torch

from mutoscope.checkpoints.folder import save_model
from mutoscope.pipelines import Pipeline, load
from mutoscope.video import Refusal
from tiny import tiny_model

WORDS = "a man walking in the rain"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_model(), precision="float32", device="cpu")


def test_a_film_is_what_was_asked_for(pipeline: Pipeline) -> None:
    video = pipeline.generate(WORDS)
    assert (len(video), video.size, video.fps) == (9, (32, 32), 12)
    assert video.notes["prompt"] == WORDS
    assert video.frames.float().std() > 5  # random weights paint something


def test_the_same_request_is_the_same_film_bit_for_bit(pipeline: Pipeline) -> None:
    first, second = pipeline.generate(WORDS, seed=3), pipeline.generate(WORDS, seed=3)
    assert torch.equal(first.frames, second.frames)


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"steps": 2},
        {"guidance": 5.0},
        {"negative": "snow"},
        {"sampler": "heun"},
        {"sampler": "multistep"},
        {"sampler": "unipc"},
        {"sampler": "ddpm"},
        {"sampler": "ancestral"},
        {"sampler": "sde"},
    ],
)
def test_every_setting_changes_the_film(pipeline: Pipeline, settings: dict) -> None:
    usual = {"steps": 5, "frames": 1}
    changed = pipeline.generate(WORDS, **usual | settings)
    assert not torch.equal(pipeline.generate(WORDS, **usual).frames, changed.frames)


@pytest.mark.parametrize("plan", ["autoregressive", "pyramid", "blocks", "keyframes"])
def test_every_plan_makes_a_film_of_its_own_and_says_so(pipeline: Pipeline, plan: str) -> None:
    usual, film = pipeline.generate(WORDS, frames=21), pipeline.generate(WORDS, frames=21, plan=plan)
    assert torch.equal(film.frames, pipeline.generate(WORDS, frames=21, plan=plan).frames)
    assert not torch.equal(film.frames, usual.frames)
    assert f'"plan": "{plan}"' in film.notes["settings"] and "plan" not in usual.notes["settings"]
    assert [*pipeline.steps(pipeline.request(WORDS, frames=21, plan=plan))][-1].steps > 3


def test_a_plan_of_one_frame_is_the_usual_one(pipeline: Pipeline) -> None:
    """It is told the same time in another shape."""
    usual, alone = (pipeline.generate(WORDS, frames=1, plan=plan) for plan in ("full", "pyramid"))
    assert torch.equal(alone.frames, usual.frames)


def test_the_words_change_the_film(pipeline: Pipeline) -> None:
    assert not torch.equal(pipeline.generate(WORDS).frames, pipeline.generate("a child at night").frames)


@pytest.mark.parametrize(
    ("frames", "size"),
    [(1, (32, 32)), (2, (16, 16)), (6, (40, 24)), (8, (33, 47)), (13, (8, 8)), (5, (31, 32))],
)
def test_any_length_and_size_is_made_and_cut_back(
    pipeline: Pipeline, frames: int, size: tuple[int, int]
) -> None:
    video = pipeline.generate(WORDS, frames=frames, size=size, steps=1)
    assert (len(video), video.size) == (frames, size)


def test_what_is_cut_back_is_the_beginning_of_the_larger_film(pipeline: Pipeline) -> None:
    larger = pipeline.generate(WORDS, frames=9, size=(32, 32))
    smaller = pipeline.generate(WORDS, frames=7, size=(30, 25))
    assert torch.equal(smaller.frames, larger.frames[:7, :25, :30])


def test_many_are_single_ones_with_the_next_seeds(pipeline: Pipeline) -> None:
    films = list(pipeline.generate_many(WORDS, count=3, seed=5, frames=5))
    for i, film in enumerate(films):
        assert film == pipeline.generate(WORDS, seed=5 + i, frames=5)


def test_a_film_does_not_depend_on_its_batch(pipeline: Pipeline) -> None:
    prompts = [WORDS, "a child", "a woman in a red coat running in the snow"]
    requests = [pipeline.request(prompt, seed=i) for i, prompt in enumerate(prompts)]
    *_, together = pipeline.steps(*requests)
    for i, request in enumerate(requests):
        *_, alone = pipeline.steps(request)
        torch.testing.assert_close(together.latents[i], alone.latents[0], rtol=1e-4, atol=1e-4)


def test_films_come_in_order_from_batches(pipeline: Pipeline) -> None:
    requests = [pipeline.request(WORDS, seed=i, frames=1) for i in range(3)]
    batched = list(pipeline.films(requests, batch=2))
    assert [film.notes["seed"] for film in batched] == ["0", "1", "2"]
    for film, single in zip(batched, pipeline.films(requests), strict=True):
        assert (film.frames.int() - single.frames.int()).abs().max() <= 1


def test_requests_of_another_shape_do_not_go_into_one_batch(pipeline: Pipeline) -> None:
    with pytest.raises(Refusal, match="differ in frames"):
        pipeline.steps(pipeline.request(WORDS, frames=1), pipeline.request(WORDS, frames=5))
    with pytest.raises(Refusal, match="no requests"):
        pipeline.steps()


def test_steps_are_seen_one_by_one_with_a_preview(pipeline: Pipeline) -> None:
    request = pipeline.request(WORDS)
    steps = list(pipeline.steps(request))
    assert [(step.step, step.steps) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    previews = [step.preview for step in steps]
    assert previews[0].shape == (32, 32, 3) and previews[0].dtype == torch.uint8
    assert not torch.equal(previews[0], previews[2])
    assert steps[0].preview is previews[0]  # decoded once


def test_a_preview_has_the_size_asked_for(pipeline: Pipeline) -> None:
    step = next(pipeline.steps(pipeline.request(WORDS, size=(20, 12), frames=1)))
    assert step.preview.shape == (12, 20, 3)


def test_guidance_one_asks_the_network_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    network = pipeline._networks.flow(together=True)
    counted = lambda *, together: lambda *seen: calls.append(1) or network(*seen)  # noqa: E731
    monkeypatch.setattr(pipeline._networks, "flow", counted)
    pipeline.generate(WORDS, steps=4, guidance=1.0)
    assert len(calls) == 4
    pipeline.generate(WORDS, steps=4, guidance=2.0)
    assert len(calls) == 4 + 8


def test_decoding_streams(pipeline: Pipeline) -> None:
    request = pipeline.request(WORDS, frames=17)
    *_, last = pipeline.steps(request)
    chunks = list(pipeline.decode(last.latents[0], request))
    assert len(chunks) > 1
    assert torch.equal(torch.cat(chunks), pipeline.generate(WORDS, frames=17).frames)


def test_half_precision_makes_nearly_the_same_film(pipeline: Pipeline) -> None:
    fast = Pipeline(tiny_model(), precision="bfloat16", device="cpu").generate(WORDS)
    difference = (fast.frames.float() - pipeline.generate(WORDS).frames.float()).abs().mean()
    assert 0 < difference < 12


def test_the_model_that_is_given_stays_as_it_is() -> None:
    model = tiny_model()
    Pipeline(model, precision="bfloat16", device="cpu").generate(WORDS, frames=1, steps=1)
    assert {p.dtype for p in model.transformer.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in model.autoencoder.parameters())


def test_unknown_words_are_named_beside_the_known_ones(pipeline: Pipeline) -> None:
    [remark] = pipeline.remarks(pipeline.request("an elephant walking in the rain"))
    assert "'elephant'" in remark and "coat" in remark
    assert pipeline.remarks(pipeline.request(WORDS)) == []


def test_words_that_do_not_fit_are_said(pipeline: Pipeline) -> None:
    [remark] = pipeline.remarks(pipeline.request("rain " * 40))
    assert "cut" in remark and "24" in remark


def test_a_film_beyond_the_models_positions_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(Refusal, match="1024 places"):
        pipeline.generate(WORDS, frames=5000)


def test_latents_of_nothing_are_refused(pipeline: Pipeline) -> None:
    request = pipeline.request(WORDS, frames=1)
    with pytest.raises(Refusal, match="NaN"):
        list(pipeline.decode(torch.full((4, 1, 4, 4), torch.nan), request))


def test_load_opens_a_folder(pipeline: Pipeline, tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "m", dtype=None)
    opened = load(tmp_path / "m", precision="float32", device="cpu")
    assert torch.equal(opened.generate(WORDS).frames, pipeline.generate(WORDS).frames)
    assert opened.generate(WORDS, frames=1).notes["weights"].startswith("sha256:")


def test_without_a_model_inside_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mutoscope.pipelines.PRETRAINED", tmp_path)
    with pytest.raises(Refusal, match="--model"):
        load()
