"""Training times are what they say, a sample's loss is its own, a weight means the same in all words."""

import math

import pytest
import torch
from pydantic import ValidationError

from mutoscope.diffusion.betas import linear_betas, zero_terminal
from mutoscope.diffusion.denoiser import Preconditioning
from mutoscope.diffusion.objective import TrainingTimes, Weighting, corrupt, fused, loss, squares
from mutoscope.diffusion.prediction import convert, target
from mutoscope.diffusion.schedule import Cosine, Edm, Level, RectifiedFlow, shift


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


def test_edms_sigma_is_log_normal():
    t = TrainingTimes(distribution="log_normal", mean=-1.2, std=1.2).draw(
        20000, 2, generator=seeded(), schedule=Edm(sigma_min=0.0)
    )
    logs = Edm(sigma_min=0.0).sigma(t[:, 0].double()).log()
    assert t.dtype == torch.float32
    assert logs.mean() == pytest.approx(-1.2, abs=4 * 1.2 / math.sqrt(20000))
    assert logs.std() == pytest.approx(1.2, abs=4 * 1.2 / math.sqrt(40000))


def test_a_log_normal_on_the_straight_line_is_the_logit_normal():
    """sigma / alpha = t / (1 - t), whose logarithm is the logit of t."""
    settings = {"mean": 0.3, "std": 1.4, "independent": 0.5, "shift": 2.0}
    torch.testing.assert_close(
        drawn(2000, 3, distribution="log_normal", **settings),
        drawn(2000, 3, **settings),
        atol=3e-7,
        rtol=1e-5,
    )


def test_times_of_published_runs_stay():
    """To the bit: the shipped model's training depends on them."""
    got = TrainingTimes(shift=2.0, independent=0.25).draw(2, 2, generator=seeded())
    assert got.tolist() == [
        [0.5993213057518005, 0.5993213057518005],
        [0.8762736320495605, 0.8762736320495605],
    ]


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


def flow_loss(prediction, **settings):
    return loss(prediction, kind="flow", level=RectifiedFlow().level(T[: len(prediction)]), **settings)


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


KINDS = ["clean", "noise", "flow", "velocity", "score"]
NAMES = ["min_snr", "sigmoid", "edm", "fused_snr"]
LEVELS = [RectifiedFlow(), Cosine(), Cosine(limit=20.0), Edm(), zero_terminal(linear_betas())]
T = torch.rand(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 0.98 + 0.01
each_level = pytest.mark.parametrize("schedule", LEVELS, ids=lambda schedule: type(schedule).__name__)


def snr_of(level):
    return (level.alpha / level.sigma) ** 2


def test_min_snr_is_the_published_one():
    """2303.09556, section 3.4: for the clean film, the noise and the velocity."""
    level = Cosine().level(T)
    snr = snr_of(level)
    cut = snr.clamp(max=5)
    for kind, expected in {"clean": cut, "noise": cut / snr, "velocity": cut / (snr + 1)}.items():
        got = Weighting(name="min_snr")(kind, level)
        torch.testing.assert_close(got, expected, atol=0, rtol=1e-12)


def test_the_sigmoid_weight_is_the_published_one():
    """2410.19324: sigmoid(b - log-SNR) on the noise's error, with b = ln gamma."""
    level = Cosine().level(T)
    got = Weighting(name="sigmoid", gamma=math.exp(-3))("noise", level)
    torch.testing.assert_close(got, torch.sigmoid(-3 - snr_of(level).log()), atol=0, rtol=1e-12)


def test_edms_weight_is_the_published_one():
    level = Edm().level(T)
    published = (level.sigma**2 + 0.6**2) / (level.sigma * 0.6) ** 2
    got = Weighting(name="edm", std=0.6)("clean", level)
    torch.testing.assert_close(got, published, atol=0, rtol=1e-12)


@each_level
def test_edms_weight_is_1_for_its_own_network(schedule):
    """I5: lambda c_out^2 = 1 at every level."""
    level = schedule.level(T)
    ones = Weighting(name="edm", std=0.6)("clean", level) * Preconditioning(level, std=0.6).out ** 2
    torch.testing.assert_close(ones, torch.ones_like(T), atol=1e-12, rtol=0)


@each_level
def test_edms_weight_is_1_over_the_error_of_a_first_guess(schedule):
    """What the best linear guess of a pixel lacks, std says; of another guess it is told."""
    level = schedule.level(T)
    error = Preconditioning(level, std=0.6).out ** 2
    edm = Weighting(name="edm", std=0.6)("flow", level)
    torch.testing.assert_close(Weighting(name="edm")("flow", level, error=error), edm)
    torch.testing.assert_close(Weighting(name="edm")("flow", level, error=2 * error), edm / 2)
    assert (Weighting()("flow", level, error=error) == 1).all()


@each_level
@pytest.mark.parametrize("name", ["min_snr", "sigmoid", "edm"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_says_the_same_of_every_prediction(films, kind, name, schedule):
    """The same wrong guess costs the same, in whatever words the network said it."""
    said, clean, noise = (film[:2].double() for film in films)
    level = schedule.level(T[:2])
    weighting = Weighting(name=name)
    noisy = level.mix(clean, noise)
    spoken = convert(said, noisy, source="flow", to=kind, level=level)
    settings = {"clean": clean, "noise": noise, "level": level}
    got = loss(spoken, kind=kind, weight=weighting(kind, level), **settings)
    in_flow = loss(said, kind="flow", weight=weighting("flow", level), **settings)
    torch.testing.assert_close(got, in_flow, atol=0, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_no_weighting_is_1_throughout(kind):
    assert (Weighting()(kind, Cosine().level(T)) == 1).all()


@pytest.mark.parametrize("name", ["min_snr", "sigmoid", "fused_snr"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", [RectifiedFlow(), Cosine(), zero_terminal(linear_betas())])
def test_weights_are_finite_at_both_ends_and_between(schedule, kind, name):
    """I30: any mix of clean frames, frames of pure noise and frames between."""
    t = torch.tensor([[0, 1, 0.5, 0, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=torch.float64)
    weight = Weighting(name=name)(kind, schedule.level(t))
    assert weight.isfinite().all() and (weight >= 0).all()


def test_edms_weight_is_finite_for_a_velocity():
    t = torch.tensor([[0, 0.5, 1]], dtype=torch.float64)
    torch.testing.assert_close(
        Weighting(name="edm")("velocity", Cosine().level(t))[:, [0, 2]], torch.tensor([[1.0, 4.0]]).double()
    )


def diffusion_forcing(snr, kind, decay=0.96, clip=5.0):
    """2407.01392, as its equations stand: one clip, frame by frame, variance kept."""
    weights, memory = [], 0.0
    for frame, value in enumerate(snr):
        cut = min(value, clip) / clip
        known = 1 - (1 - decay * memory) * (1 - cut)
        whole = 1 - (1 - decay * memory) * (1 - value / clip)
        weights.append(
            {"noise": known / whole, "clean": clip * known, "velocity": clip * known / (clip * whole + 1)}[
                kind
            ]
        )
        memory = cut if frame == 0 else decay * memory + (1 - decay) * cut
    return weights


@pytest.mark.parametrize("kind", ["noise", "clean", "velocity"])
def test_the_fused_weight_is_diffusion_forcings(kind):
    level = Cosine().level(T)
    expected = [diffusion_forcing(row.tolist(), kind) for row in snr_of(level)]
    got = Weighting(name="fused_snr")(kind, level)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), atol=0, rtol=1e-11)


@each_level
@pytest.mark.parametrize("kind", KINDS)
def test_with_no_history_the_fused_weight_is_min_snr(kind, schedule):
    """I30: the first frame always, and a frame whose past is pure noise."""
    level = schedule.level(T)
    fresh, plain = Weighting(name="fused_snr")(kind, level), Weighting(name="min_snr")(kind, level)
    torch.testing.assert_close(fresh[:, 0], plain[:, 0], atol=0, rtol=1e-11)
    past = Level(alpha=torch.zeros(1, 4).double(), sigma=torch.ones(1, 4).double())
    joined = Level(
        alpha=torch.cat([past.alpha.expand(6, 4), level.alpha[:, :1]], dim=1),
        sigma=torch.cat([past.sigma.expand(6, 4), level.sigma[:, :1]], dim=1),
    )
    after = Weighting(name="fused_snr")(kind, joined)
    torch.testing.assert_close(after[:, 4], plain[:, 0], atol=0, rtol=1e-11)


@each_level
def test_history_only_helps_and_only_later_frames(schedule):
    level = schedule.level(T)
    gained = fused(level, gamma=5.0, decay=0.9)
    before, after = snr_of(level), snr_of(gained)
    torch.testing.assert_close(after[:, 0], before[:, 0], atol=0, rtol=1e-11)
    assert (after[:, 1:] > before[:, 1:])[before[:, 1:] < 5].all()
    torch.testing.assert_close(
        torch.hypot(gained.alpha, gained.sigma), torch.hypot(level.alpha, level.sigma), atol=0, rtol=1e-12
    )
    other = Level(alpha=level.alpha.clone(), sigma=level.sigma.clone())
    other.alpha[:, 3] *= 0.5
    assert torch.equal(fused(other, decay=0.9).alpha[:, :3], gained.alpha[:, :3])
    assert not torch.equal(fused(other, decay=0.9).alpha[:, 4], gained.alpha[:, 4])


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"decay": 1.0}, {"std": 0.0}, {"name": "p2"}, {"k": 1}])
def test_other_weightings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Weighting(**wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_any_prediction_is_0_when_it_is_right(films, kind):
    _, clean, noise = films
    level = Cosine().level(T[:4])
    perfect = target(kind, clean=clean, noise=noise, level=level)
    assert (loss(perfect, kind=kind, clean=clean, noise=noise, level=level) == 0).all()
    off = loss(perfect + 0.5, kind=kind, clean=clean, noise=noise, level=level)
    torch.testing.assert_close(off, torch.full_like(off, 0.25), atol=0, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_error_of_a_flow_is_the_difference_to_the_bit(films, dtype):
    prediction, clean, noise = films.to(dtype)
    got = squares(prediction, kind="flow", clean=clean, noise=noise, level=RectifiedFlow().level(T[:4]))
    assert torch.equal(got, (prediction.float() - (noise.float() - clean.float())).square())


def test_any_loss_of_a_sample_knows_no_neighbours(films):
    prediction, clean, noise = films.double()
    level = Cosine().level(T[:4])
    settings = {"kind": "velocity", "clean": clean, "noise": noise, "level": level}
    weight = Weighting(name="fused_snr")("velocity", level)
    together = loss(prediction, weight=weight, **settings)
    prediction[1:] = 1e6
    assert torch.equal(loss(prediction, weight=weight, **settings)[0], together[0])
    first = Level(alpha=level.alpha[:1], sigma=level.sigma[:1])
    assert torch.equal(Weighting(name="fused_snr")("velocity", first)[0], weight[0])
