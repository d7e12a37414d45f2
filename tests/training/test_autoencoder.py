"""The autoencoder's task: its terms, its adversary, and a decoder that trains alone."""

import copy

import pytest
import torch
from torch import Tensor

from mutoscope.data.loader import Batch, WorldSource
from mutoscope.data.world import SMALL
from mutoscope.models.autoencoder import Autoencoder, AutoencoderConfig
from mutoscope.models.image_autoencoder import ImageAutoencoder, ImageAutoencoderConfig
from mutoscope.training.autoencoder import (
    AutoencoderTask,
    PatchDiscriminator,
    ReconstructionSettings,
    differences,
    measure_latents,
    structure,
)

SOURCE = WorldSource(SMALL, frames=5, size=(32, 32), seed=1)


def batches(step: int) -> Batch:
    return SOURCE.batch(step, 2)


def tiny() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        AutoencoderConfig(
            residual=True, patch_size=4, base_dim=8, decoder_base_dim=8, z_dim=4, num_res_blocks=1,
            dim_mult=(1, 1), temporal_downsample=(True,),
        )
    )  # fmt: skip


def task_of(autoencoder: Autoencoder | None = None, **terms) -> AutoencoderTask:
    return AutoencoderTask(autoencoder or tiny(), batches, settings=ReconstructionSettings(**terms))


def losses(task: AutoencoderTask, step: int = 0, *, seed: int = 0) -> dict[str, Tensor]:
    return task.loss(step, torch.Generator().manual_seed(seed))


def trained(task: AutoencoderTask, steps: int) -> list[float]:
    weights = [w for module in task.modules.values() for w in module.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=3e-3)
    found = []
    for _ in range(steps):
        loss = losses(task)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def test_the_loss_falls_in_a_few_steps():
    found = trained(task_of(), 12)
    assert found[-1] < 0.85 * found[0]


def test_the_loss_is_a_function_of_step_and_generator():
    task = task_of()
    assert torch.equal(losses(task)["loss"], losses(task)["loss"])
    assert not torch.equal(losses(task)["loss"], losses(task, 1)["loss"])
    assert not torch.equal(losses(task)["l1"], losses(task, seed=1)["l1"])  # the latents are sampled


def test_the_loss_is_the_weighted_sum_of_its_parts():
    found = losses(task_of(square=3.0, structure=0.5, kl=0.25))
    expected = found["l1"] + 3 * found["square"] + 0.5 * found["structure"] + 0.25 * found["kl"]
    torch.testing.assert_close(found["loss"], expected)


def test_structure_sees_edges_and_flicker_and_no_constant():
    error = torch.zeros(1, 3, 3, 8, 8)
    assert structure(error) == structure(error + 0.5) == 0
    flicker, blob = error.clone(), error.clone()
    flicker[:, :, 1] = 1
    blob[..., 3, 3] = 1
    assert structure(flicker) > 0 and structure(blob) > 0
    torch.testing.assert_close(structure(3 * blob), 3 * structure(blob))


def test_structure_of_an_image_has_no_time():
    error = torch.randn(1, 3, 1, 8, 8)
    assert len(differences(error)) == 2 and len(differences(error.expand(-1, -1, 2, -1, -1))) == 3
    assert structure(error).isfinite()


def test_errors_on_the_figure_weigh_more():
    figure = torch.zeros(1, 2, 8, 8)
    figure[..., :4] = 1
    on, off = torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 3, 2, 8, 8)
    on[..., :4], off[..., 4:] = 1, 1
    task, nothing = task_of(figure=2.0), torch.zeros(1, 3, 2, 8, 8)
    heavy, light = (task.reconstruction(made, nothing, figure=figure) for made in (on, off))
    torch.testing.assert_close(heavy["l1"], 3 * light["l1"])
    torch.testing.assert_close(heavy["l1"] + light["l1"], torch.tensor(1.0))  # weights have mean 1
    even = task_of(figure=0.0)
    assert even.reconstruction(on, nothing, figure=figure)["l1"] == 0.5


def test_the_adversary_sends_each_gradient_to_its_own_weights():
    task = task_of(adversary=0.5, adversary_from=0)
    video = batches(0).video
    made = torch.rand_like(video).requires_grad_()
    verdicts = task._verdicts(made, video, 0)
    judge = list(task.discriminator.parameters())

    verdicts["adversary"].backward(retain_graph=True)
    assert made.grad is not None and made.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in judge)  # pleasing the judge does not bend it

    made.grad = None
    verdicts["judge"].backward()
    assert made.grad is None  # judging well does not spoil the film
    assert all(weight.grad is not None for weight in judge)


def test_the_verdict_counts_from_its_step_on():
    task = task_of(adversary=0.5, adversary_from=3)
    early, late = (task._verdicts(batches(0).video, batches(1).video, step) for step in (2, 3))
    assert early["adversary"] == 0 != late["adversary"]
    assert torch.equal(early["judge"], late["judge"])


def test_a_judge_is_trained_only_where_there_is_one():
    assert set(task_of().modules) == {"autoencoder"}
    task = task_of(adversary=0.1)
    assert set(task.modules) == {"autoencoder", "discriminator"}
    assert {"judge", "adversary"} <= losses(task).keys()
    assert PatchDiscriminator()(batches(0).video).shape == (2, 1, 5, 4, 4)


def test_a_frozen_encoder_stays_bit_identical_while_the_decoder_learns():
    autoencoder = tiny()
    before = copy.deepcopy(autoencoder.state_dict())
    found = trained(task_of(autoencoder, frozen_encoder=True), 6)
    assert found[-1] < found[0]
    encoding = ("encoder.", "after_encoder.")
    for name, weight in autoencoder.state_dict().items():
        if name.startswith(encoding):
            assert torch.equal(weight, before[name]), name
    moved = [n for n, w in autoencoder.state_dict().items() if not torch.equal(w, before[n])]
    assert any(name.startswith("decoder.") for name in moved)


@pytest.mark.parametrize("frames", [1, 3])
def test_it_trains_an_image_autoencoder_on_single_frames_and_on_clips(frames: int):
    torch.manual_seed(0)
    image = ImageAutoencoder(ImageAutoencoderConfig(widths=(8, 8), blocks=1, groups=4))
    source = WorldSource(SMALL, frames=frames, size=(16, 16), seed=1)
    settings = ReconstructionSettings(adversary=0.1, adversary_from=0)
    task = AutoencoderTask(image, lambda step: source.batch(step, 2), settings=settings)
    found = trained(task, 12)
    assert found[-1] < 0.85 * found[0]
    latents = measure_latents(image, lambda step: source.batch(step, 2), count=1)
    assert latents.mean.shape == latents.std.shape == (4,)


def test_an_encoder_is_thawed_by_a_task_that_trains_it():
    autoencoder = tiny()
    task_of(autoencoder, frozen_encoder=True)
    assert not any(weight.requires_grad for weight in autoencoder.encoder.parameters())
    task_of(autoencoder)
    assert all(weight.requires_grad for weight in autoencoder.parameters())


@pytest.mark.parametrize("count", [1, 3])
def test_measured_latents_are_those_of_all_batches_together(count: int):
    autoencoder = tiny()
    found = measure_latents(autoencoder, batches, count=count)
    with torch.no_grad():
        latents = torch.cat([autoencoder.encode(batches(step).video).mean for step in range(count)])
    torch.testing.assert_close(found.mean, latents.mean((0, 2, 3, 4)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.std, latents.std((0, 2, 3, 4), correction=0), atol=1e-5, rtol=1e-3)


def test_the_settings_name_model_and_terms():
    task = task_of(kl=0.5)
    assert task.settings["terms"]["kl"] == 0.5 and task.settings["model"]["z_dim"] == 4
    assert task.batch == ReconstructionSettings().batch
