"""Guidance laws: what scale 1, 0, a band and a rescale mean."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.guidance import ClassifierFree, Conditional, Projected, ZeroStar, band_of
from mutoscope.diffusion.plan import Plan, full_sequence
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import Cosine, RectifiedFlow
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


def dots(one, other):
    return (one * other).flatten(1).sum(dim=1)[:, None, None, None, None]


def test_vdm_s_one_plus_w_is_a_scale_of_one_more(noisy):
    """(1 + w) eps(c) - w eps() in VDM's convention, said of the clean film, which is affine in the noise."""
    positive, negative = says(noisy, "rain"), says(noisy, "")
    torch.testing.assert_close(guided(noisy, 3.0), 3 * positive - 2 * negative, atol=1e-12, rtol=0)


@pytest.mark.parametrize("made", [ClassifierFree, Projected, ZeroStar])
def test_guidances_are_siblings(made):
    assert not made.__subclasses__() and Conditional in made.__bases__
    with pytest.raises(TypeError, match="abstract"):
        Conditional(Tell(), 2.0)


@pytest.mark.parametrize("made", [Projected, ZeroStar])
def test_variants_are_one_call_at_scale_one(made, noisy):
    inner = Tell()
    assert torch.equal(made(inner, 1.0, negative="")(noisy, T, "rain"), says(noisy, "rain"))
    assert inner.asked == ["rain"]


@pytest.mark.parametrize("made", [Projected, ZeroStar])
def test_variants_keep_the_scale_per_frame(made, noisy):
    out = made(Tell(), [1.0, 4.0, 4.0], negative="")(noisy, T, "rain")
    torch.testing.assert_close(out[:, :, 0], says(noisy, "rain")[:, :, 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(out[:, :, 1:], made(Tell(), 4.0, negative="")(noisy, T, "rain")[:, :, 1:])


def projected(noisy, **settings):
    return Projected(Tell(), 5.0, negative="", **settings)(noisy, T[: len(noisy)], "rain")


def test_projected_with_everything_let_through_is_plain(noisy):
    torch.testing.assert_close(projected(noisy, parallel=1.0), guided(noisy, 5.0), atol=1e-12, rtol=0)


def test_projected_moves_at_right_angles_to_the_positive(noisy):
    positive, plain = says(noisy, "rain"), guided(noisy, 5.0)
    moved = projected(noisy) - positive
    assert dots(moved, positive).abs().max() < 1e-10 and dots(plain - positive, positive).abs().min() > 1
    # What is missing from the plain change is a multiple of the positive guess, one a sample.
    lost = plain - positive - moved
    torch.testing.assert_close(lost, dots(lost, positive) / dots(positive, positive) * positive)
    half = projected(noisy, parallel=0.5) - positive
    torch.testing.assert_close(half, moved + lost / 2, atol=1e-12, rtol=0)


def test_projected_shortens_what_is_too_long(noisy):
    positive, change = says(noisy, "rain"), says(noisy, "rain") - says(noisy, "")
    norms = dots(change, change).sqrt()
    short = projected(noisy, parallel=1.0, longest=0.5) - positive
    torch.testing.assert_close(dots(short, short).sqrt(), torch.full_like(norms, 4 * 0.5), atol=1e-12, rtol=0)
    limit = norms.min().item() * 1.0001  # between the two samples: one is shortened and one is not
    kept = (projected(noisy, parallel=1.0, longest=limit) - positive) / 4
    shorter = norms <= limit
    assert shorter.any() and not shorter.all()
    torch.testing.assert_close(kept, torch.where(shorter, change, change * limit / norms))


def flow(clean, noisy):
    """The velocity of RectifiedFlow, (noisy - clean) / t."""
    return (noisy - clean) / T[:, None, :, None, None]


def test_zero_star_is_the_paper_s_equation(noisy):
    """v = s v() + w (v(c) - s v()), s = <v(c), v()> / |v()|^2 by sample (2503.18886, Algorithm 1)."""
    yes, no = flow(says(noisy, "rain"), noisy), flow(says(noisy, ""), noisy)
    best = dots(yes, no) / dots(no, no)
    expected = best * no + 4 * (yes - best * no)
    out = ZeroStar(Tell(), 4.0, negative="")(noisy, T, "rain")
    torch.testing.assert_close(flow(out, noisy), expected, atol=1e-11, rtol=0)
    # s is the number that brings them closest: the rest is at right angles to the negative's flow.
    assert dots(yes - best * no, no).abs().max() < 1e-10 and (best - 1).abs().min() > 0.01


def test_zero_star_is_plain_where_the_flows_agree_in_length(noisy):
    """A negative that is the positive: s is 1 and no scale changes anything."""
    inner = Tell()
    out = ZeroStar(inner, 7.0, negative="rain")(noisy, T, "rain")
    torch.testing.assert_close(out, says(noisy, "rain"), atol=1e-12, rtol=0)


def test_zero_star_rests_at_pure_noise(noisy):
    t = torch.ones_like(T)
    inner = Tell()
    assert torch.equal(ZeroStar(inner, 4.0, negative="")(noisy, t, "rain"), noisy) and inner.asked == []
    t[:, 1] = 0.6  # one frame of three has begun: it is guided, the others wait
    out = ZeroStar(inner, 4.0, negative="")(noisy, t, "rain")
    assert torch.equal(out[:, :, [0, 2]], noisy[:, :, [0, 2]]) and inner.asked == ["rain", ""]
    never = ZeroStar(inner, 4.0, negative="", rest_from=math.inf)(noisy, t, "rain")
    assert torch.equal(out[:, :, 1], never[:, :, 1]) and not torch.equal(out, never)


def test_a_first_step_of_zero_star_changes_nothing(noisy):
    plan = full_sequence(4, 3)
    walked = [*sample(ZeroStar(Tell(), 4.0, negative=""), noisy, plan=plan, condition="rain")]
    torch.testing.assert_close(walked[0].noisy, noisy, atol=1e-12, rtol=0)
    assert (walked[1].noisy - noisy).abs().max() > 0.1


def test_known_frames_do_not_count_in_zero_star(noisy):
    t = T.clone()
    t[:, 0] = 0
    out = ZeroStar(Tell(), 4.0, negative="")(noisy, t, "rain")
    assert out.isfinite().all()
    without = ZeroStar(Tell(), 4.0, negative="")(noisy[:, :, 1:], t[:, 1:], "rain")
    torch.testing.assert_close(out[:, :, 1:], without, atol=1e-12, rtol=0)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Cosine(), Cosine(limit=20.0)])
def test_a_band_of_noise_levels(schedule):
    lo, hi = band_of(schedule, lo=0.28, hi=1.61)
    ratios = (schedule.sigma(torch.tensor([lo, hi])) / schedule.alpha(torch.tensor([lo, hi]))).tolist()
    assert ratios == pytest.approx([0.28, 1.61], rel=1e-5)
    assert band_of(RectifiedFlow(), lo=1.0, hi=3.0) == pytest.approx((0.5, 0.75), abs=1e-12)
    assert band_of(RectifiedFlow(), lo=0.0, hi=math.inf) == pytest.approx((0.0, 1.0), abs=1e-12)
