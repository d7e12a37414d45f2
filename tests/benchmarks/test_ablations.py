"""The ablations of the U-Net papers, at toy size: what is trained, shown, filled in and measured."""

import os
import signal
import sys
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from benchmarks.ablations import (
    compressed,
    decoder,
    extension,
    guided,
    hierarchy,
    image_first,
    learner,
    perturbed,
    riders,
    time_layers,
    windows,
    worded,
)
from benchmarks.ablations.__main__ import BENCH
from benchmarks.ablations.scale import SCALES, narrower
from torch import Tensor, nn

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.drawings.gaussian import ar1
from mutoscope.diffusion.known import Condition, Known
from mutoscope.diffusion.schedule import Cosine
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig
from mutoscope.models.unet import UNet
from mutoscope.training.video_unet import UNetSettings, UNetTask

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))  # as Python does for a script there
script = import_module("ablations")

TOY = SCALES["toy"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """Trainings lie where the command is given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task(seed: int = 0, **changes) -> UNetTask:
    unet = learner.new_unet(learner.shape_of(TOY), seed=seed, device="cpu")
    asked = UNetSettings(**{"clips": 2, "frames": TOY.frames, "pictures": 2, "unconditional": 0} | changes)
    return UNetTask(
        unet, None, settings=asked, clips=learner.films(TOY.discs, seed),
        pictures=learner.pictures(TOY.discs, seed), seed=seed,
    )  # fmt: skip


def moved(module: nn.Module) -> nn.Module:
    """Layers that begin as nothing have something to say."""
    torch.manual_seed(0)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.1)
    return module.eval().requires_grad_(False)


# Trainings


def test_a_training_is_found_again_with_its_weights_and_its_seconds():
    one, other = task(), task()
    seconds = learner.trained(one, "name", TOY, seed=0)
    assert seconds > 0 and learner.trained(other, "name", TOY, seed=0) == seconds
    found = other.unet.state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in one.unet.state_dict().items())
    assert not other.unet.training and not any(w.requires_grad for w in other.unet.parameters())


def test_a_training_that_is_stopped_is_not_measured_and_goes_on():
    class Stopped(UNetTask):
        def loss(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
            if step == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(step, generator)

    def stopped() -> Stopped:
        whole = task()
        return Stopped(whole.unet, None, settings=whole.asked, clips=whole.clips, pictures=whole.pictures)

    with pytest.raises(SystemExit, match="goes on"):
        learner.trained(stopped(), "name", TOY, seed=0, steps=4)
    spent = learner.spent_in(learner.RUNS / "toy" / "name-0")
    unbroken, continued = task(), task()
    assert 0 < spent < learner.trained(continued, "name", TOY, seed=0, steps=4)
    learner.trained(unbroken, "unbroken", TOY, seed=0, steps=4)
    for one, other in zip(unbroken.unet.parameters(), continued.unet.parameters(), strict=True):
        assert torch.equal(one, other)


def test_arms_of_a_seed_start_alike_and_see_the_same_films():
    one, other = task(), task(pictures=0)
    for a, b in zip(one.unet.parameters(), other.unet.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.clips(3, 2).clean, other.clips(3, 2).clean)
    assert not torch.equal(one.clips(3, 2).clean[:, :, :1], one.pictures(3, 2).clean)


def test_measured_films_are_none_that_are_trained_on():
    true = learner.unseen(TOY.discs, 0, 2, device="cpu")
    assert not torch.equal(true, learner.unseen(TOY.discs, 0, 2, device="cpu", purpose="other"))
    assert not torch.equal(true, learner.films(TOY.discs, 0)(0, 2).clean)


# Long films


def test_a_film_is_made_window_by_window_of_the_frames_before():
    def fill(known: Tensor, number: int) -> Tensor:
        return torch.cat([known, known[:, :, -1:] + 1, known[:, :, -1:] + 2], dim=2)

    first = torch.zeros(1, 3, 4, 2, 2)
    film = windows.rolled(fill, first, past=2, length=9)
    assert film[0, 0, :, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5]
    assert windows.seams(4, past=2, length=9) == [4, 6, 8]


def test_a_seam_is_seen_where_it_is():
    true = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(2, 3, 8, 2, 2)
    broken = torch.where(torch.arange(8).view(1, 1, 8, 1, 1) >= 4, true + 1, true)
    assert windows.jump(true, true, [4]) == 1 and windows.jump(broken, true, [4]) == 4
    assert windows.jump(broken, true, [3]) == 1
    around = windows.around(broken, [2, 4, 7], frames=4)  # the last has no frames left after it
    assert around.shape[0] == 4 and around[2, 0, :, 0, 0].tolist() == [2, 3, 5, 6]


def test_straight_flight_does_not_swerve_and_true_films_lose_nothing():
    discs = replace(TOY.discs, frames=24, speed=(0.0, 0.0))
    still = discs.draw(0, 8).video
    assert windows.swerve(still, [8, 16]) < 0.05
    lost = windows.long_numbers(still, still, frames=8)
    assert max(lost.values()) < 0.01
    darker = torch.cat([still[:, :, :16], still[:, :, 16:] * 0.5], dim=2)
    assert windows.long_numbers(darker, still, frames=8)["colour drift at the end"] > 0.1


# A2


def test_an_extended_film_begins_with_its_first_block_and_reconstruction_closes_the_seam():
    """Exact denoiser of smooth Gaussian films: the jump of replacement is the larger one."""
    scale, frames = replace(TOY, size=2, walk=16, films=16), TOY.frames
    exact = GaussianDenoiser(torch.zeros(frames), ar1(0.97, frames).float(), schedule=Cosine(limit=20.0))
    root = torch.linalg.cholesky(ar1(0.97, frames)).float()
    first = torch.einsum("f g, b c g h w -> b c f h w", root, learner.noise_of(scale, 5))
    steps = {}
    for arm, way, _ in (extension._ways(scale)[0], extension._ways(scale)[3]):
        film = extension.extended(way, exact, first, scale=scale, seed=1)
        assert film.shape[2] == 4 * frames and torch.equal(film[:, :, :frames], first)
        at = [frame - 1 for frame in windows.seams(frames, past=frames // 2, length=4 * frames)]
        steps[arm] = float(film.diff(dim=2)[:, :, at].square().mean())
    assert steps["replacement"] > 1.5 * steps["reconstruction, w_r 2"]


# A1


def test_matched_arms_have_as_many_frames_a_step():
    scale = SCALES["cpu"]
    for pictures in (4, 8):
        assert riders.matched(scale, pictures) * scale.frames == scale.clips * (scale.frames + pictures)
    assert len(riders.UNITS) == 5


def test_numbers_of_true_films_are_small():
    true = TOY.discs.draw(0, 64).video
    numbers = riders.film_numbers(true, true)
    assert numbers["FD"] < 1e-6 and numbers["FD of single frames"] < 1e-6
    assert numbers["colour drift a frame"] < 0.02


# A3


def test_words_tell_the_kind_and_none_is_the_empty_caption():
    words = worded.new_words(list(worded.COLOURS), seed=0, device="cpu")
    unet = moved(worded.worded_unet(TOY, seed=0))
    asked = UNetSettings(clips=1, frames=TOY.frames)
    denoiser = worded.Kinds(unet, words, asked).as_denoiser()
    film, t = torch.randn(1, 3, TOY.frames, 16, 16), torch.full((1, TOY.frames), 0.5)
    red, green = (denoiser(film, t, torch.tensor([kind])) for kind in (0, 1))
    plain = learner.denoiser_of(unet, asked)
    empty = plain(film, t, Condition(worded.text_of(words, [""])))
    assert not torch.equal(red, green) and torch.equal(denoiser(film, t, None), empty)
    assert torch.equal(red, plain(film, t, Condition(worded.text_of(words, ["red"]))))


def test_captions_are_true():
    examples = worded.coloured(replace(TOY.discs, spread=0.0), 0)(0, 32)
    from benchmarks.trained.state import kind_of, measured

    kinds = kind_of(measured(examples.clean)).tolist()
    assert [worded.COLOURS[kind] for kind in kinds] == examples.captions and len(set(kinds)) == 4


def test_the_weak_network_is_half_as_wide():
    """In groups of 8: of 24 channels 16, of 64 they are 32."""
    assert [narrower(SCALES[name]).width for name in ("cpu", "gpu")] == [16, 32]
    assert max(guided.STRENGTHS) == 6.0


# A4 and A6


def test_a_frozen_image_model_makes_the_same_frames_while_only_time_is_trained():
    image, _ = image_first.image_model(TOY, 0)
    unet = image_first.grown(
        image, learner.shape_of(TOY, time=image_first.TIME), seed=0, device="cpu"
    )
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    image_first.on_films("frozen", unet, TOY, 0, alone=True)
    time = {id(weight) for weight in unet.temporal_parameters()}
    for name, weight in unet.named_parameters():
        assert id(weight) in time or torch.equal(weight, before[name])
    assert any(not torch.equal(weight, before[name]) for name, weight in unet.named_parameters())
    film, t = torch.randn(1, 3, 8, 16, 16), torch.full((1, 8), 500.0)
    alone = torch.ones(1, 8, dtype=torch.bool)
    torch.testing.assert_close(unet(film, t, images=alone), image(film, t))


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_both_kinds_of_layers_have_as_many_weights(name):
    counts = [
        sum(w.numel() for w in UNet(learner.shape_of(SCALES[name], time=time)).temporal_parameters())
        for time in time_layers.LAYERS.values()
    ]
    assert counts[1] / counts[0] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", SCALES)
def test_a_narrower_network_can_be_built_at_every_scale(name):
    scale = narrower(SCALES[name])
    UNet(learner.shape_of(scale))
    assert scale.width <= max(8, 2 * SCALES[name].width / 3)


# A5


def test_a_digest_is_of_every_bit_of_the_encoder_and_of_nothing_else():
    config = ImageAutoencoderConfig(widths=(8, 8), blocks=1, z_dim=2, groups=8, attention=False)
    autoencoder = ImageAutoencoder(config)
    before = decoder.digest(autoencoder)
    with torch.no_grad():
        autoencoder.decoder.first.weight.add_(1)
        assert decoder.digest(autoencoder) == before
        autoencoder.encoder.first.weight[0, 0, 0, 0] += 1e-6
    assert decoder.digest(autoencoder) != before


@pytest.mark.parametrize("name", SCALES)
def test_autoencoders_can_be_built_at_every_scale(name):
    scale = SCALES[name]
    ImageAutoencoder(decoder.shape_of(scale))
    assert all(compressed.new_autoencoder(deep, scale) for deep in (False, True))


def test_the_decoder_arms_keep_the_encoder():
    made = {unit: decoder.run(unit, TOY, 0).arms[unit] for unit in (decoder.PICTURES, decoder.TIME)}
    assert all(numbers["encoder unchanged"] == 1 for numbers in made.values())
    assert made[decoder.PICTURES]["error of a frame"] > 0


# A7


def test_latents_come_back_and_the_deep_ones_have_a_third_of_the_places():
    film, places = torch.randn(2, 3, 9, 16, 16), []
    for deep in (False, True):
        torch.manual_seed(0)
        autoencoder = compressed.new_autoencoder(deep, TOY)
        channels = autoencoder.config.z_dim
        mean, std = torch.full((1, channels, 1, 1, 1), 0.5), torch.full((1, channels, 1, 1, 1), 2.0)
        latents = compressed.Latents(autoencoder, mean, std, 0.0)
        found = latents.of(film)
        torch.testing.assert_close(2 * found + 0.5, autoencoder.encode(film).mode().detach())
        assert latents.film(found).shape == film.shape
        places.append(found[0, 0].numel())
    assert places[0] == 3 * places[1]


# A8


def filler() -> hierarchy.Filler:
    scale = replace(TOY, frames=9)
    words = worded.new_words([hierarchy.FULL, hierarchy.SPARSE], seed=0, device="cpu")
    unet = moved(hierarchy.filling_unet(scale, 0))
    asked = UNetSettings(clips=1, frames=9)
    linear = hierarchy.first_guess(scale, 0)
    return hierarchy.Filler(learner.denoiser_of(unet, asked, linear=linear), words, scale, 0)


def test_key_frames_stand_in_the_film_at_every_fourth_frame():
    made, start = filler(), torch.randn(TOY.films, 3, 1, 16, 16)
    film, keys = made.hierarchy(start), made.opening(start, rate=hierarchy.SPARSE)
    assert film.shape[2] == 33 and torch.equal(film[:, :, :: hierarchy.EVERY], keys)
    assert torch.equal(film[:, :, :1], start)  # as both ways begin
    assert torch.equal(made.opening(start, rate=hierarchy.FULL)[:, :, :1], start)
    assert all(not torch.equal(film[:, :, a], film[:, :, b]) for a, b in pairwise(range(33)))


def test_the_next_clip_begins_with_what_is_known_and_depends_on_it():
    made = filler()
    known = torch.randn(TOY.films, 3, 3, 16, 16)
    clip, other = made.onwards(known, 0), made.onwards(known + 1, 0)
    assert torch.equal(clip[:, :, :3], known) and not torch.equal(clip[:, :, 3:], other[:, :, 3:])
    assert not torch.equal(clip[:, :, 3:], made.onwards(known, 1)[:, :, 3:])  # noise of its own


def test_half_of_the_films_are_sparse_and_are_told_so():
    scale = replace(TOY, frames=9)
    examples = hierarchy.rates(scale, 0)(2, 4)
    assert examples.captions == [hierarchy.FULL] * 2 + [hierarchy.SPARSE] * 2
    assert examples.clean.shape == (4, 3, 9, 16, 16)
    whole = learner.films(replace(scale.discs, frames=33), 0, purpose=hierarchy.SPARSE)(2, 2).clean
    assert torch.equal(examples.clean[2:], whole[:, :, ::4])


# A9


def test_a_roll_out_keeps_its_past_and_shows_it_as_noisy_as_is_asked():
    seen = []

    class Looks(GaussianDenoiser):
        def __call__(self, noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
            seen.append(condition.known)
            return torch.zeros_like(noisy)

    exact = Looks(torch.zeros(8), torch.eye(8), schedule=Cosine(limit=20.0))
    true = torch.randn(TOY.films, 3, 16, 16, 16)
    for shown in (0.0, 0.1):
        seen.clear()
        film = perturbed.rolled_out(exact, true, shown=shown, scale=TOY, seed=0)
        assert film.shape == true.shape and torch.equal(film[:, :, :4], true[:, :, :4])
        known: Known = seen[0]
        assert known.which[0].tolist() == [True] * 4 + [False] * 4
        assert float(known.t[0]) == pytest.approx(shown)
        assert torch.equal(known.value[:, :, :4], true[:, :, :4]) == (shown == 0)


# All rows


@pytest.mark.slow
@pytest.mark.parametrize("row", list(BENCH.experiments))
def test_every_row_runs_at_toy_size(row, tmp_path):
    page = tmp_path / "page.md"
    asked = [row, "--scale", "toy", "--seeds", "1", "--out", str(tmp_path), "--report", str(page)]
    assert BENCH.main(asked) == 0
    experiment, record = BENCH.experiments[row], BENCH.record(row, tmp_path)
    assert record is not None and record.complete(experiment) == [0]
    values = [one.value(record.arms(0)) for one in experiment.comparisons]
    assert values and all(value == value for value in values)
    assert experiment.title in page.read_text()


def test_the_gpu_script_measures_keeps_and_goes_on(tmp_path, capsys):
    def call(out: str, *more: str) -> str:
        asked = ["--toy", "--rows", "A5", "--seeds", "1", "--out", str(tmp_path / out), *more]
        assert script.main(asked) == 0
        return capsys.readouterr().out

    assert "time is up" in call("first", "--budget-seconds", "-1")
    said = call("first", "--back", str(tmp_path / "back"))
    assert said.count("A5, seed 0") == 4 and "encoder unchanged" in said
    assert {path.name for path in (tmp_path / "back").iterdir()} == {"ablations_A5.json", "ablations.md"}
    assert "seed 0" not in call("second", "--start", str(tmp_path / "back"))


def test_without_a_gpu_the_script_says_so(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert script.main(["--out", str(tmp_path)]) == 2
    assert "--toy" in capsys.readouterr().err
