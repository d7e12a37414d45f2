"""Every part of `diffusion` that a request may ask for reaches the film, and none waits for the device."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mutoscope.checkpoints.folder import Model
from mutoscope.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.noise import stream
from mutoscope.diffusion.plan import uniform
from mutoscope.diffusion.prior import Fresh, Independent, Mixed
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.request import Request, asked
from mutoscope.pipelines.sampling import SAMPLERS, Lengths, guided, plan_of, rolled, seen, walked
from mutoscope.video import Refusal
from tiny import FACTS, tiny_model

WORDS = "a man walking in the rain"
SHAPE = (2, 9, 2, 2)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_model(), precision="float32", device="cpu")


def request(**settings) -> Request:
    return asked(WORDS, FACTS, **settings)


def mixing(noisy, t, condition):
    return torch.tanh(noisy) + 0.3 * noisy.mean(dim=2, keepdim=True) + t[:, None, :, None, None]


def walk(asked_for: Request, network=mixing, *, seeds=(1, 2), prior=None, device="cpu"):
    lengths = Lengths(SHAPE[1], own=4, window=asked_for.method.window)
    fresh = Fresh(list(seeds), SHAPE, prior or asked_for.method.noise.prior(window=4), device=device)
    denoiser = seen(NetworkDenoiser(network), asked_for, lengths=lengths)
    denoiser = guided(denoiser, asked_for, frames=SHAPE[1], negative="")
    if asked_for.plan == "rolling":
        window = lengths.rolling(asked_for, shift=2.0)
        return list(rolled(denoiser, asked_for, window=window, condition="", fresh=fresh))
    plan = plan_of(asked_for, uniform(asked_for.steps), lengths=lengths)
    return list(walked(denoiser, asked_for, plan=plan, condition="", fresh=fresh))


@pytest.mark.parametrize(
    "settings",
    [
        {"noise": "mixed"}, {"noise": "progressive:3"}, {"passes": 2}, {"window": 4}, {"shift": 9.0},
        {"plan": "pyramid", "stabilise": 0.1}, {"guidance_kind": "zero-star"}, {"guidance_kind": "projected"},
        {"guidance_band": (0.1, 0.6)}, {"guidance_rescale": 0.7}, {"guidance_last": 9.0}, {"smoothness": 2.0},
        {"sampler": "sde3"}, {"sampler": "lcm"}, {"sampler": "churn"}, {"plan": "rolling"},
    ],
)  # fmt: skip
def test_every_setting_changes_the_film_and_says_so(pipeline: Pipeline, settings: dict) -> None:
    usual = {"steps": 4, "frames": 9} | ({"plan": "pyramid"} if "stabilise" in settings else {})
    plain, changed = pipeline.generate(WORDS, **usual), pipeline.generate(WORDS, **usual | settings)
    assert not torch.equal(plain.frames, changed.frames)
    for name in settings.keys() - {"plan", "sampler"}:
        assert f'"{name}": ' in changed.notes["settings"]
    assert torch.equal(changed.frames, pipeline.generate(WORDS, **usual | settings).frames)


def test_the_noise_is_the_models_own_at_the_start_and_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = FACTS.model_copy(update={"noise": request(noise="mixed:2").method.noise})
    own = Pipeline(replace(tiny_model(), facts=facts), precision="float32", device="cpu")
    drawn = []
    draw = Mixed.draw
    monkeypatch.setattr(Mixed, "draw", lambda self, *a, **k: drawn.append(self.a) or draw(self, *a, **k))
    film = own.generate(WORDS, steps=3, sampler="ddpm")
    assert drawn == [2, 2, 2], "the start, and two of three steps: the last lands on the clean film"
    told = Pipeline(tiny_model(), precision="float32", device="cpu").generate(
        WORDS, steps=3, sampler="ddpm", noise="mixed:2"
    )
    assert torch.equal(film.frames, told.frames)


def test_every_pass_begins_from_the_last_with_noise_of_its_own() -> None:
    once, twice = walk(request(steps=3)), walk(request(steps=3, passes=2))
    assert [(s.step, s.steps) for s in twice] == [(i, 6) for i in range(1, 7)]
    assert torch.equal(once[-1].clean, twice[2].clean)
    assert not torch.equal(once[-1].clean, twice[-1].clean)
    other = walk(request(steps=3), seeds=[stream(seed, "pass 1") for seed in (1, 2)])[-1].clean
    assert not torch.equal(other, twice[-1].clean)


def test_passes_keep_slow_noise_and_leave_unit_variance() -> None:
    """What a second pass begins from, seen through a denoiser that gives back what it is shown."""
    begun = []

    def network(noisy, t, condition):
        if bool((t == 1).all()):
            begun.append(noisy)
        return torch.zeros_like(noisy)

    walk(request(steps=1, passes=2, guidance=1), network, seeds=range(400))
    assert begun[1].var().item() == pytest.approx(1, abs=0.05)
    slow = torch.stack([noise.mean(dim=(2, 3, 4)).flatten() for noise in begun])
    assert torch.corrcoef(slow)[0, 1] > 0.95
    assert torch.corrcoef(torch.stack([noise.flatten() for noise in begun]))[0, 1] < 0.8


def test_rolling_finishes_frame_by_frame_and_a_longer_film_begins_with_the_shorter() -> None:
    states = walk(request(plan="rolling", steps=4))
    assert [state.clean.shape[2] for state in states] == list(range(1, 10))
    assert [(state.step, state.steps) for state in states] == [(i, 9) for i in range(1, 10)]
    for state in states:
        assert torch.equal(state.clean, states[-1].clean[:, :, : state.step])


def test_rolling_is_the_plan_that_is_drawn(pipeline: Pipeline) -> None:
    drawn = pipeline.drawn("rolling", frames=9, steps=6)
    assert drawn.frames == 9 and drawn.steps > 6
    lengths = Lengths(9, own=9)
    window = lengths.rolling(request(plan="rolling", steps=6), shift=1.0)
    assert (window.frames, window.context, window.steps) == (7, 2, 1)
    assert Lengths(40, own=9, window=20).rolling(request(plan="rolling"), shift=1.0).frames == 20


def test_frames_on_their_own_are_the_same_whole_in_windows_and_in_parts() -> None:
    def alone(noisy, t, condition):
        return noisy / (1 + noisy * noisy)

    whole = walk(request(steps=4), alone)[-1].clean
    windows = walk(request(steps=4, window=3), alone)[-1].clean
    torch.testing.assert_close(windows, whole, atol=1e-6, rtol=0)
    for window in (None, 6):
        rolling = walk(request(plan="rolling", steps=6, window=window), alone)[-1].clean
        assert rolling.shape == whole.shape
        assert rolling.std().item() == pytest.approx(whole.std().item(), rel=0.3)


def test_a_window_is_all_that_a_network_sees(pipeline: Pipeline) -> None:
    lengths = []

    def network(noisy, t, condition):
        lengths.append(noisy.shape[2])
        return torch.zeros_like(noisy)

    for settings in ({"window": 3}, {"plan": "rolling"}, {"plan": "rolling", "window": 6}):
        lengths.clear()
        walk(request(steps=2, **settings), network)
        assert max(lengths) <= 4 and min(lengths) >= 1


def test_a_film_beyond_the_models_positions_can_be_made_in_windows(pipeline: Pipeline) -> None:
    with pytest.raises(Refusal, match="or for a window"):
        pipeline.latent_shape(pipeline.request(WORDS, frames=9000))
    for settings in ({"plan": "rolling"}, {"window": 9}):
        assert pipeline.latent_shape(pipeline.request(WORDS, frames=9000, **settings))[1] == 2251


@pytest.mark.parametrize("plan", ["full", "rolling"])
def test_a_stream_is_the_film(pipeline: Pipeline, plan: str) -> None:
    asked_for = pipeline.request(WORDS, frames=21, plan=plan)
    chunks = list(pipeline.stream(asked_for))
    assert len(chunks) > 1
    difference = torch.cat(chunks).int() - pipeline.generate(WORDS, frames=21, plan=plan).frames.int()
    assert difference.abs().max() <= 1


def test_a_stream_of_rolling_decodes_before_the_film_is_sampled(pipeline: Pipeline) -> None:
    asked_for = pipeline.request(WORDS, frames=400, plan="rolling", guidance=1)
    assert len(next(pipeline.stream(asked_for))) < 20


def test_the_size_moves_the_grid(pipeline: Pipeline) -> None:
    own = pipeline.request(WORDS, shift="size")
    assert pipeline.shift_of(own) == pytest.approx(pipeline.shift) == 3
    longer = pipeline.request(WORDS, shift="size", frames=33)
    assert pipeline.shift_of(longer) == pytest.approx(3 * (9 / 3) ** 0.5)
    assert pipeline.shift_of(pipeline.request(WORDS, shift=7.0)) == 7


def test_a_weaker_model_guides_in_place_of_the_negative_words(pipeline: Pipeline) -> None:
    weak = replace(tiny_model(1), fingerprint="sha256:weak")
    both = Pipeline(tiny_model(), precision="float32", device="cpu", weak=weak)
    film = both.generate(WORDS, steps=3)
    assert "sha256:weak" in film.notes["settings"]
    assert not torch.equal(film.frames, pipeline.generate(WORDS, steps=3).frames)
    itself = Pipeline(tiny_model(), precision="float32", device="cpu", weak=tiny_model())
    plain = pipeline.generate(WORDS, steps=3, guidance=1)
    difference = itself.generate(WORDS, steps=3).frames.int() - plain.frames.int()
    assert difference.abs().max() <= 1, "a model is no weaker than itself"


def test_a_weak_model_of_other_latents_is_refused() -> None:
    model = tiny_model()
    config = model.transformer.config.model_copy(update={"in_channels": 8, "out_channels": 8})
    other = Model(type(model.transformer)(config), model.words, model.autoencoder, facts=FACTS)
    with pytest.raises(Refusal, match="latents of 8 channels, this one of 4"):
        Pipeline(model, device="cpu", weak=other)


def test_the_heaviest_guidance_of_an_exact_denoiser_is_its_own_film() -> None:
    """Both conditions say the same, so no guidance moves anything, whatever its kind."""
    covariance = 0.8 ** (torch.arange(9)[:, None] - torch.arange(9)).abs().double()
    exact = GaussianDenoiser(torch.zeros(9), covariance)
    fresh = Fresh([1], SHAPE, Independent())
    films = []
    for settings in ({"guidance": 1}, {"guidance": 5}, {"guidance_last": 9.0}, {"smoothness": 1.5}):
        asked_for = request(steps=4, **settings)
        plan = plan_of(asked_for, uniform(4), lengths=Lengths(9, own=9))
        made = guided(exact, asked_for, frames=9) if "smoothness" not in settings else exact
        films.append(list(walked(made, asked_for, plan=plan, condition=None, fresh=fresh))[-1].clean)
    for film in films[1:]:
        torch.testing.assert_close(film, films[0], atol=1e-5, rtol=0)


GUIDANCES = (
    {}, {"guidance_kind": "zero-star", "guidance_rescale": 0.7}, {"guidance_kind": "projected"},
    {"guidance_last": 9.0, "guidance_band": (0.2, 0.9)}, {"smoothness": 2.0},
)  # fmt: skip


@pytest.mark.parametrize(
    ("sampler", "guidance"), [*product(SAMPLERS, GUIDANCES[:1]), *product(["unipc"], GUIDANCES)]
)
def test_sampling_never_waits_for_the_device(sampler: str, guidance: dict) -> None:
    """On the meta device there are no values: what asks for one (item, bool, a copy to the host) fails."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(torch.ones(1, device="meta").any())
    for plan in ("full", "pyramid"):
        asked_for = request(sampler=sampler, steps=3, plan=plan, noise="mixed", **guidance)
        assert walk(asked_for, device="meta")[-1].clean.device.type == "meta"


@pytest.mark.parametrize("settings", [{"passes": 2}, {"window": 3}, {"plan": "pyramid", "stabilise": 0.1}])
def test_nor_do_long_films_and_further_passes(settings: dict) -> None:
    assert walk(request(steps=2, **settings), device="meta")[-1].clean.device.type == "meta"


@pytest.mark.parametrize("window", [None, 6])
def test_nor_does_rolling(window: int | None) -> None:
    states = walk(request(plan="rolling", steps=4, sampler="multistep", window=window), device="meta")
    assert states[-1].clean.device.type == "meta"


class Waits(TorchDispatchMode):
    """Counts reads of a tensor's value by the host: item(), bool(), float(), int()."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_nor_does_the_network() -> None:
    model = tiny_model()
    memory = model.transformer.remember(model.words.say([WORDS]))
    noisy, t = torch.randn(1, 4, 3, 4, 4), torch.full((1, 3), 0.5)
    with torch.no_grad(), Waits() as waits:
        model.transformer(noisy, t, text=memory)
        assert waits.count == 0
        assert bool(t.any()) and waits.count == 1, "what is counted is counted"
