"""What a step of the denoiser looks at, and that it learns from it."""

from collections import Counter

import pytest
import torch

from mutoscope.data.captions import every_wording
from mutoscope.data.latents import LatentCache
from mutoscope.data.world import SMALL
from mutoscope.diffusion.objective import TrainingTimes, Weighting
from mutoscope.diffusion.prior import PriorSettings
from mutoscope.diffusion.process import Process
from mutoscope.models.text import TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.models.words import Words
from mutoscope.training.denoiser import DenoiserTask, JointSettings

TOKENIZER = Tokenizer.train(every_wording(SMALL), 400)
JOINT = JointSettings(lengths={1: 0.5, 3: 0.5}, frames_a_step=12, padded_to=32)


def cache(*, frames: int = 3, count: int = 8) -> LatentCache:
    """Clips that can be told apart by their first value, with the figure in a corner."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(count, 4, frames, 4, 4, generator=generator)
    clean[:, 0, 0, 0, 0] = torch.arange(count)
    figure = torch.zeros(count, frames, 4, 4)
    figure[..., :2, :2] = 1
    return LatentCache(clean.bfloat16(), figure.bfloat16(), list(SMALL.scenes(0, 0, count)))


def task_of(*, frames: int = 3, seed: int = 0, **changes) -> DenoiserTask:
    torch.manual_seed(0)
    transformer = Transformer(
        TransformerConfig(
            heads=2, head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32,
            layers=1, patch_size=(1, 2, 2),
        )
    )  # fmt: skip
    encoder = TextEncoder(
        TextEncoderConfig(
            vocabulary=TOKENIZER.vocabulary_size, width=16, layers=1, heads=2, head_dim=8, ffn_dim=16
        )
    )
    words = Words(TOKENIZER, encoder, padded_to=32)
    joint = JOINT.model_copy(update=changes)
    return DenoiserTask(transformer, words, cache=cache(frames=frames), settings=joint, seed=seed)


def test_the_loss_falls_in_a_few_steps():
    task = task_of(figure=0.0)
    weights = [weight for module in task.modules.values() for weight in module.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    found = []
    for _ in range(40):
        loss = task.loss(0, torch.Generator().manual_seed(0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.8 * found[0]


def test_both_networks_get_a_gradient():
    task = task_of(unconditional=0.0)
    task.loss(0, torch.Generator().manual_seed(0))["loss"].backward()
    assert set(task.modules) == {"transformer", "text_encoder"}
    for module in task.modules.values():
        assert any(w.grad is not None and bool(w.grad.isfinite().all()) for w in module.parameters())


def test_a_step_is_a_function_of_seed_and_step():
    one, again, other = task_of(), task_of(), task_of(seed=1)
    for step in (0, 5, 1):
        a, b = one.examples(step), again.examples(step)
        assert torch.equal(a.clean, b.clean) and torch.equal(a.tokens.ids, b.tokens.ids)
    differing = [k for k in range(4) if not torch.equal(one._choose(k).index, other._choose(k).index)]
    assert len(differing) >= 3


def test_lengths_come_at_their_shares():
    task = task_of(lengths={1: 0.25, 2: 0.25, 3: 0.5})
    counts = Counter(task._choose(step).length for step in range(400))
    assert counts[1] / 400 == pytest.approx(0.25, abs=0.07)
    assert counts[3] / 400 == pytest.approx(0.5, abs=0.07)


def test_lengths_beyond_the_clips_are_left_out():
    task = task_of(frames=2, lengths={1: 0.5, 2: 0.25, 7: 0.25})
    assert {task._choose(step).length for step in range(60)} == {1, 2}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_every_step_has_about_the_same_number_of_latent_frames(length: int):
    examples = task_of(lengths={length: 1.0}).examples(0)
    assert examples.clean.shape == (12 // length, 4, length, 4, 4)
    assert len(examples.tokens.ids) == 12 // length


def test_a_step_has_at_least_one_clip():
    assert len(task_of(frames_a_step=1, lengths={3: 1.0}).examples(0).clean) == 1


def test_a_shorter_clip_is_the_beginning_of_a_longer_one():
    task = task_of(lengths={2: 1.0})
    clean = task.examples(0).clean
    index = clean[:, 0, 0, 0, 0].long()  # the clips are numbered there
    assert torch.equal(clean, task.cache.clean[index, :, :2].float())


def test_the_share_without_a_caption():
    empty = TOKENIZER.encode([""], length=JOINT.text_length).ids[0]
    for share in (0.0, 0.3, 1.0):
        task = task_of(unconditional=share)
        ids = torch.cat([task._choose(step).tokens.ids for step in range(60)])
        found = float((ids == empty).all(1).float().mean())
        assert found == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)


def test_weights_have_mean_one_and_favour_the_figure():
    weight = task_of(figure=2.0).examples(0).weight
    assert float(weight.mean()) == pytest.approx(1)
    assert float(weight[..., 0, 0].mean()) == pytest.approx(3 * float(weight[..., 3, 3].mean()))
    assert (task_of(figure=0.0).examples(0).weight == 1).all()


def test_errors_of_images_and_of_clips_are_told_apart():
    for length, name in ((1, "images"), (3, "clips_3")):
        found = task_of(lengths={length: 1.0}).loss(0, torch.Generator().manual_seed(0))
        assert set(found) == {"loss", name} and not found[name].requires_grad


def test_the_settings_do_not_tell_whether_it_is_compiled():
    """A run may go on with or without a compiler."""
    task = task_of()
    assert "compiled" not in task.settings["joint"] and task.settings["transformer"]["heads"] == 2
    assert task.batch == 8  # the mean of 12 images and 4 clips of three frames


def test_all_blocks_of_both_networks_are_compiled_for_each_length_by_itself(monkeypatch):
    compiled: list[tuple[torch.nn.Module, bool | None]] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, *, dynamic=None: compiled.append((module, dynamic))
    )
    task = task_of(compiled=True)
    blocks = [*task.transformer.blocks, *task.words.encoder.blocks]
    assert compiled == [(block, False) for block in blocks] and len(blocks) >= 2
    task_of()
    assert len(compiled) == len(blocks)


def by_hand(task: DenoiserTask, step: int, seed: int) -> torch.Tensor:
    """The loss of a flow under independent noise, written out."""
    generator, examples = torch.Generator().manual_seed(seed), task.examples(step)
    clean = examples.clean
    noise = torch.randn(clean.shape, generator=generator)
    t = task.joint.times.draw(len(clean), clean.shape[2], generator=generator)
    noisy = (1 - t)[:, None, :, None, None] * clean + t[:, None, :, None, None] * noise
    flow = task.transformer(noisy, t, text=task.words(examples.tokens))
    return ((flow - (noise - clean)).square() * examples.weight).mean()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_usual_loss_is_that_of_the_flow_to_the_bit(step: int):
    task = task_of()
    assert torch.equal(task.loss(step, torch.Generator().manual_seed(9))["loss"], by_hand(task, step, 9))


def shown_of(task: DenoiserTask, monkeypatch: pytest.MonkeyPatch, *, steps: int) -> list[torch.Tensor]:
    """The noisy films that the network is shown."""
    shown, forward = [], Transformer.forward

    def watched(self, noisy, t, **words):
        shown.append(noisy)
        return forward(self, noisy, t, **words)

    monkeypatch.setattr(Transformer, "forward", watched)
    for step in range(steps):
        task.loss(step, torch.Generator().manual_seed(step))
    return shown


@pytest.mark.parametrize(
    ("name", "correlation"), [("independent", 0.0), ("mixed", 0.5), ("progressive", 0.8944)]
)
def test_the_noise_of_frames_is_related_as_the_prior_says(monkeypatch, name: str, correlation: float):
    """Near pure noise the network is shown little else."""
    settings = {"noise": PriorSettings(name=name), "times": TrainingTimes(shift=1e6), "lengths": {3: 1.0}}
    shown = torch.cat(shown_of(task_of(frames_a_step=300, **settings), monkeypatch, steps=4))
    pair = torch.corrcoef(shown[:, :, :2].transpose(0, 2).flatten(1))[0, 1].item()
    assert pair == pytest.approx(correlation, abs=0.03)


@pytest.mark.parametrize("name", ["min_snr", "sigmoid", "fused_snr"])
def test_errors_are_weighted_by_their_level(name: str):
    plain, weighted = (task_of(weighting=Weighting(name=n)) for n in ("none", name))
    a, b = (task.loss(0, torch.Generator().manual_seed(0)) for task in (plain, weighted))
    assert a["loss"] != b["loss"] and b["loss"].isfinite()
    others = a.keys() - {"loss"}
    assert all(torch.equal(a[key], b[key]) for key in others), "what is reported stays comparable"


@pytest.mark.parametrize("prediction", ["velocity", "noise", "clean"])
def test_other_predictions_are_learnt_on_the_cosine(prediction: str):
    task = task_of(process=Process(schedule="cosine", prediction=prediction), figure=0.0)
    assert task.joint.process.prediction == prediction
    ahead = task.loss(0, torch.Generator().manual_seed(0))["loss"]
    ahead.backward()
    assert ahead.isfinite() and all(w.grad is not None for w in task.transformer.head.parameters())


@pytest.mark.parametrize(
    ("schedule", "prediction"), [("straight", "velocity"), ("cosine", "flow"), ("linear", "noise")]
)
def test_a_process_that_no_public_scheduler_has_is_refused_before_training(schedule: str, prediction: str):
    with pytest.raises(ValueError, match="no public scheduler samples that; take flow on straight"):
        JointSettings(process=Process(schedule=schedule, prediction=prediction))


def test_what_is_usual_is_not_stored_so_that_older_runs_go_on():
    assert not {"noise", "weighting", "process"} & task_of().settings["joint"].keys()
    stored = task_of(noise=PriorSettings(name="mixed")).settings["joint"]
    assert stored["noise"]["name"] == "mixed" and "weighting" not in stored
