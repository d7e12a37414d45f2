"""Training the layers of time in a decoder: these alone, less flicker, and the same run after a break."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mutoscope.checkpoints import store
from mutoscope.data.loader import Batch, WorldSource
from mutoscope.data.world import SMALL
from mutoscope.evaluation.fidelity import flicker_at_rest
from mutoscope.models.image_autoencoder import (
    ImageAutoencoder,
    ImageAutoencoderConfig,
    add_time,
    temporal_weights,
)
from mutoscope.training.autoencoder import ReconstructionSettings
from mutoscope.training.decoder import DecoderTask
from mutoscope.training.loop import TrainSettings, train
from mutoscope.training.optimizer import OptimizerSettings
from mutoscope.video import Refusal

SOURCE = WorldSource(SMALL, frames=4, size=(32, 32), seed=1)
TINY = ImageAutoencoderConfig(widths=(8, 8), blocks=1, z_dim=4, groups=4)
ADAM = OptimizerSettings(muon_lr=0, adamw_lr=3e-3)


def batches(step: int) -> Batch:
    return SOURCE.batch(step, 2)


def film() -> ImageAutoencoder:
    torch.manual_seed(0)
    return add_time(ImageAutoencoder(TINY))


def task_of(autoencoder: ImageAutoencoder | None = None, **terms) -> DecoderTask:
    return DecoderTask(autoencoder or film(), batches, settings=ReconstructionSettings(**terms))


def run(task: DecoderTask, folder: Path, *, steps: int = 2, stop: int = 99) -> None:
    settings = TrainSettings(steps=steps, warmup_steps=0, decay_share=0, optimizer=ADAM)
    for progress in train(task, settings, folder):
        if progress.step == stop:
            return


def weights(folder: Path) -> dict[str, Tensor]:
    return store.load(folder / "checkpoints").tensors()


@pytest.mark.parametrize("adversary", [0.0, 0.1])
def test_two_steps_move_the_layers_of_time_and_nothing_else(adversary, tmp_path):
    autoencoder = film()
    before = {name: weight.clone() for name, weight in autoencoder.state_dict().items()}
    task = task_of(autoencoder, adversary=adversary, adversary_from=0)
    judge = [w.clone() for name, m in task.modules.items() if name != "autoencoder" for w in m.parameters()]
    run(task, tmp_path)
    temporal = {name for name, _ in temporal_weights(autoencoder)}
    moved = {n for n, w in autoencoder.state_dict().items() if not torch.equal(w, before[n])}
    # The first step finds the branches zero, the second moves what stands before them too.
    assert moved == temporal
    after = [w for name, m in task.modules.items() if name != "autoencoder" for w in m.parameters()]
    assert bool(after) == bool(adversary)
    assert all(not torch.equal(a, b) for a, b in zip(judge, after, strict=True))


def test_an_interrupted_run_is_the_unbroken_one(tmp_path):
    run(task_of(adversary=0.1, adversary_from=0), tmp_path / "whole", steps=3)
    run(task_of(adversary=0.1, adversary_from=0), tmp_path / "broken", steps=3, stop=1)
    run(task_of(adversary=0.1, adversary_from=0), tmp_path / "broken", steps=3)
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_it_unlearns_a_flicker_that_an_image_decoder_cannot_know_of(tmp_path):
    """Every frame's latents carry their own noise, so every picture of a still film errs on its own."""
    autoencoder = film()
    still = Batch(torch.zeros(1, 3, 8, 8, 8), ["nothing"], torch.zeros(1, 8, 8, 8))
    with torch.no_grad():
        # Chance alone tells the frames apart: the best picture is a mean over frames.
        autoencoder.after_encoder.bias[TINY.z_dim :] = 0.0
        autoencoder.decoder.last.weight.mul_(10)
    task = DecoderTask(autoencoder, lambda step: still, settings=ReconstructionSettings())

    def found() -> tuple[float, Tensor]:
        with torch.no_grad():
            latents = autoencoder.encode(still.video).sample(generator=torch.Generator().manual_seed(9))
            made = autoencoder.decode(latents)
            alone = autoencoder.decode(latents, images=torch.ones(1, 8, dtype=torch.bool))
        return flicker_at_rest(made, still.video).item(), alone

    before, picture = found()
    run(task, tmp_path, steps=30)
    after, same = found()
    assert after < 0.7 * before
    assert torch.equal(picture, same), "images are decoded as before"


def test_an_autoencoder_of_pictures_has_nothing_to_train():
    with pytest.raises(Refusal, match="add_time"):
        task_of(ImageAutoencoder(TINY))


def test_the_settings_say_what_is_trained():
    task = task_of(batch=3)
    assert task.batch == 3 and task.settings["terms"]["frozen_encoder"] is True
    assert task.settings["trains"] == "layers of time" and task.settings["model"]["temporal"] is True
