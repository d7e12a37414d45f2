"""Training times are what they say, and a sample's loss is its own."""

import math

import pytest
import torch
from pydantic import ValidationError

from mutoscope.diffusion.objective import TrainingTimes, corrupt, flow_loss
from mutoscope.diffusion.schedule import Cosine, shift


def seeded():
    return torch.Generator().manual_seed(0)


def drawn(batch=20000, frames=2, **settings):
    return TrainingTimes(**settings).draw(batch, frames, generator=seeded())


def test_logit_normal_is_one():
    t = drawn(mean=0.4, std=0.8)[:, 0].double()
    logits = torch.logit(t)
    assert logits.mean() == pytest.approx(0.4, abs=4 * 0.8 / math.sqrt(20000))
    assert logits.std() == pytest.approx(0.8, abs=4 * 0.8 / math.sqrt(40000))


def test_uniform_is_flat():
    t = drawn(distribution="uniform")[:, 0]
    counts = torch.histc(t, bins=10, min=0, max=1)
    assert ((counts - 2000).abs() < 4 * math.sqrt(1800)).all()


@pytest.mark.parametrize("distribution", ["uniform", "logit_normal"])
def test_shift_moves_the_same_draws(distribution):
    plain, moved = drawn(distribution=distribution), drawn(distribution=distribution, shift=3.0)
    assert torch.equal(moved, shift(plain, 3.0))
    assert moved.dtype == torch.float32 and (moved >= 0).all() and (moved <= 1).all()


def test_the_share_with_a_time_for_every_frame():
    same = (drawn(independent=0.3)[:, 0] == drawn(independent=0.3)[:, 1]).double()
    assert same.mean() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 20000))
    assert (drawn(independent=0.0)[:, 0] == drawn(independent=0.0)[:, 1]).all()
    alone = drawn(independent=1.0)
    assert abs(torch.corrcoef(alone.T)[0, 1]) < 4 / math.sqrt(20000)


def test_generators_are_explicit():
    generator = seeded()
    first, second = (TrainingTimes().draw(4, 3, generator=generator) for _ in range(2))
    assert torch.equal(first, drawn(4, 3)) and not torch.equal(first, second)


@pytest.mark.parametrize(
    "wrong", [{"shift": 0.0}, {"independent": 1.1}, {"std": -1.0}, {"distribution": "x"}, {"sd": 1}]
)
def test_other_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TrainingTimes(**wrong)


def test_corrupt_gives_every_frame_its_level():
    clean, noise = torch.randn(2, 2, 3, 4, 2, 2, generator=seeded(), dtype=torch.float64)
    t = torch.rand(2, 4, dtype=torch.float64)
    t[0, 0], t[1, 1] = 0, 1
    noisy = corrupt(clean, noise, t=t)
    for b in range(2):
        for f in range(4):
            expected = (1 - t[b, f]) * clean[b, :, f] + t[b, f] * noise[b, :, f]
            assert torch.equal(noisy[b, :, f], expected)
    assert torch.equal(noisy[0, :, 0], clean[0, :, 0]) and torch.equal(noisy[1, :, 1], noise[1, :, 1])
    circle = corrupt(clean, noise, t=t, schedule=Cosine())
    angle = math.pi / 2 * t[0, 1]
    expected = math.cos(angle) * clean[0, :, 1] + math.sin(angle) * noise[0, :, 1]
    torch.testing.assert_close(circle[0, :, 1], expected)


def test_equal_times_are_ordinary_video_diffusion():
    clean, noise = torch.randn(2, 2, 3, 4, 2, 2, generator=seeded())
    t = torch.tensor([0.25, 0.8])
    ordinary = (1 - t).view(-1, 1, 1, 1, 1) * clean + t.view(-1, 1, 1, 1, 1) * noise
    assert torch.equal(corrupt(clean, noise, t=t[:, None].expand(2, 4)), ordinary)


@pytest.fixture
def films():
    return torch.randn(3, 4, 3, 5, 4, 4, generator=seeded())


def test_the_loss_of_a_sample_knows_no_neighbours(films):
    prediction, clean, noise = films
    together = flow_loss(prediction, clean=clean, noise=noise)
    assert together.shape == (4,)
    prediction[1:] = 1e6
    assert torch.equal(flow_loss(prediction, clean=clean, noise=noise)[0], together[0])
    alone = flow_loss(prediction[:1], clean=clean[:1], noise=noise[:1])
    torch.testing.assert_close(alone[0], together[0], atol=0, rtol=1e-6)


def test_the_loss_is_the_mean_squared_error_of_the_flow(films):
    prediction, clean, noise = films.double()
    expected = ((prediction - (noise - clean)) ** 2).flatten(1).mean(dim=1)
    torch.testing.assert_close(flow_loss(prediction, clean=clean, noise=noise), expected, atol=1e-14, rtol=0)
    assert (flow_loss(noise - clean, clean=clean, noise=noise) == 0).all()


def test_weights_are_per_frame(films):
    prediction, clean, noise = films
    only_last = torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0]).expand(4, 5)
    expected = ((prediction - (noise - clean)) ** 2)[:, :, 4].flatten(1).mean(dim=1)
    torch.testing.assert_close(flow_loss(prediction, clean=clean, noise=noise, weight=only_last), expected)
    plain = flow_loss(prediction, clean=clean, noise=noise)
    assert torch.equal(flow_loss(prediction, clean=clean, noise=noise, weight=torch.ones(4, 5)), plain)


def test_the_loss_of_a_bf16_prediction_is_float32_and_differentiable(films):
    prediction = films[0].bfloat16().requires_grad_()
    loss = flow_loss(prediction, clean=films[1], noise=films[2])
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()
