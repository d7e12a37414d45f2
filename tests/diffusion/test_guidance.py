"""Guidance laws: what scale 1, 0, a band and a rescale mean."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.guidance import ClassifierFree
from mutoscope.diffusion.plan import Plan
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import RectifiedFlow
from mutoscope.video import Refusal

T = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.7, 0.2]], dtype=torch.float64)


@dataclass
class Tell:
    """Says a different film for each condition, and remembers what it was asked."""

    schedule: RectifiedFlow = field(default_factory=RectifiedFlow)
    asked: list = field(default_factory=list)

    def __call__(self, noisy, t, condition):
        self.asked.append(condition)
        return torch.tanh(noisy * (2.0 if condition == "rain" else 0.5)) + 0.1


@pytest.fixture
def noisy():
    return torch.randn(2, 2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def says(noisy, condition):
    return Tell()(noisy, T, condition)


def guided(noisy, scale, **settings):
    return ClassifierFree(Tell(), scale, negative="", **settings)(noisy, T[: len(noisy)], "rain")


def test_scale_one_is_one_call_and_bit_for_bit_the_denoiser(noisy):
    inner = Tell()
    assert torch.equal(ClassifierFree(inner, 1.0, negative="")(noisy, T, "rain"), says(noisy, "rain"))
    assert inner.asked == ["rain"]


def test_scale_zero_is_the_negative_and_more_is_linear(noisy):
    positive, negative = says(noisy, "rain"), says(noisy, "")
    assert torch.equal(guided(noisy, 0.0), negative)
    for scale in (0.5, 3.0, 7.5):
        expected = negative + scale * (positive - negative)
        torch.testing.assert_close(guided(noisy, scale), expected, atol=1e-12, rtol=0)


def test_one_scale_a_frame(noisy):
    out = guided(noisy, [1.0, 0.0, 4.0])
    assert torch.equal(out[:, :, 0], says(noisy, "rain")[:, :, 0])
    assert torch.equal(out[:, :, 1], says(noisy, "")[:, :, 1])
    assert torch.equal(out[:, :, 2], guided(noisy, 4.0)[:, :, 2])
    with pytest.raises(Refusal, match="2 guidance scales for 3 frames"):
        guided(noisy, [1.0, 2.0])


def test_a_full_band_is_plain_and_an_empty_band_is_one_call(noisy):
    assert torch.equal(guided(noisy, 4.0, band=(0.0, 1.0)), guided(noisy, 4.0))
    inner = Tell()
    out = ClassifierFree(inner, 4.0, negative="", band=(0.5, 0.5))(noisy, T, "rain")
    assert torch.equal(out, says(noisy, "rain")) and inner.asked == ["rain"]


def test_a_band_gates_every_frame_by_its_own_time(noisy):
    out = guided(noisy, 4.0, band=(0.3, 0.7))
    inside = ((T > 0.3) & (T <= 0.7))[:, None, :, None, None]
    assert torch.equal(out, torch.where(inside, guided(noisy, 4.0), says(noisy, "rain")))
    assert inside.any() and not inside.all()


def test_rescale_draws_the_deviation_back(noisy):
    plain, full = guided(noisy, 6.0), guided(noisy, 6.0, rescale=1.0)
    assert torch.equal(guided(noisy, 6.0, rescale=0.0), plain)
    wanted = says(noisy, "rain").flatten(1).std(dim=1)
    torch.testing.assert_close(full.flatten(1).std(dim=1), wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(guided(noisy, 6.0, rescale=0.7), 0.7 * full + 0.3 * plain, atol=1e-12, rtol=0)
    torch.testing.assert_close(guided(noisy[:1], 6.0, rescale=0.7), guided(noisy, 6.0, rescale=0.7)[:1])


@pytest.mark.parametrize("settings", [{"band": (0.7, 0.3)}, {"band": (0.0, 1.5)}, {"rescale": 1.5}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(Refusal, match="guidance"):
        ClassifierFree(Tell(), 2.0, **settings)


@dataclass
class TwoGaussians:
    """N(0, 1) under the condition, N(0, 2^2) without: guidance has a closed form here."""

    schedule: RectifiedFlow = field(default_factory=RectifiedFlow)

    def __call__(self, noisy, t, condition):
        variance = torch.tensor([[1.0 if condition == "rain" else 4.0]], dtype=torch.float64)
        return GaussianDenoiser(torch.zeros(1), variance)(noisy, t, condition)


def ratio(scale, band, edges):
    """How much a sample of one unit of noise shrinks or grows on the way from edges[0] to edges[1] (noise /
    clean)."""
    hi, lo = edges
    levels = torch.logspace(math.log10(hi), math.log10(lo), 200, dtype=torch.float64)
    t = torch.cat([levels / (1 + levels), torch.zeros(1, dtype=torch.float64)])[:, None]
    band = (0.0, 1.0) if band is None else (band[0] / (1 + band[0]), band[1] / (1 + band[1]))
    denoiser = ClassifierFree(TwoGaussians(), scale, negative="", band=band)
    start = torch.full((1, 1, 1, 1, 1), hi / (1 + hi), dtype=torch.float64)
    return [*sample(denoiser, start, plan=Plan(t), condition="rain", sampler=Heun())][-1].clean.item()


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_guidance_contracts_by_the_closed_form(scale):
    """d ln x / d ln r = r^2 [w / (1 + r^2) + (1 - w) / (4 + r^2)], r = sigma / alpha: std = sc^w su^(1-w)."""
    expected = 1000 * (1 / (1 + 1e6)) ** (scale / 2) * (4 / (4 + 1e6)) ** ((1 - scale) / 2)
    assert ratio(scale, None, (1000.0, 1e-4)) == pytest.approx(expected, rel=0.01)
    assert expected == pytest.approx(2 ** (1 - scale), rel=1e-4)


def test_a_band_keeps_more_of_the_spread():
    lo, hi, scale = 0.3, 3.0, 4.0
    inside = (1 + lo**2) * (4 + hi**2) / ((1 + hi**2) * (4 + lo**2))
    expected = inside ** ((scale - 1) / 2)
    assert ratio(scale, (lo, hi), (1000.0, 1e-4)) == pytest.approx(expected, rel=0.02)
    assert expected > 1.5 * 2 ** (1 - scale)
