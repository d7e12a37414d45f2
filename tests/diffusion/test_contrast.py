"""Guidance between models and views: identities, equations, and how many calls they cost."""

from dataclasses import dataclass, field

import pytest
import torch

from mutoscope.diffusion.contrast import (
    Autoguidance,
    Framewise,
    HistoryGuidance,
    TemporalGuidance,
    View,
    noised,
)
from mutoscope.diffusion.denoiser import Denoiser, GaussianDenoiser
from mutoscope.diffusion.guidance import ClassifierFree
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, Schedule
from mutoscope.video import Refusal

T = torch.tensor([[0.1, 0.5, 0.9, 0.4]], dtype=torch.float64)
AR1 = 0.9 ** (torch.arange(4)[:, None] - torch.arange(4)).abs().double()


@dataclass
class Tell:
    """Says a different film for each condition, mixes frames, and remembers at what times it was asked."""

    gain: float = 1.0
    schedule: Schedule = STRAIGHT
    asked: list = field(default_factory=list)

    def __call__(self, noisy, t, condition):
        self.asked.append((condition, t.tolist()))
        words = {"rain": 2.0, "": 0.5}.get(condition, 1.0)
        return torch.sin(self.gain * words * noisy) + noisy.mean(dim=2, keepdim=True)


@pytest.fixture
def noisy():
    return torch.randn(1, 2, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def fresh(step, purpose):
    generator = torch.Generator().manual_seed(len(purpose) + step)
    return torch.randn(1, 2, 4, 2, 2, dtype=torch.float64, generator=generator)


# Autoguidance


def test_autoguidance_moves_away_from_the_weak(noisy):
    main, weak = Tell(1.0), Tell(0.7)
    good, bad = main(noisy, T, "rain"), weak(noisy, T, "rain")
    for scale in (0.0, 0.5, 2.1):
        close(Autoguidance(main, weak, scale)(noisy, T, "rain"), bad + scale * (good - bad))


def test_autoguidance_by_itself_is_the_identity(noisy):
    main = Tell()
    assert torch.equal(Autoguidance(main, Tell(), 3.0)(noisy, T, "rain"), main(noisy, T, "rain"))


def test_autoguidance_of_scale_one_or_out_of_its_band_asks_no_weak(noisy):
    main, weak = Tell(), Tell(0.7)
    assert torch.equal(Autoguidance(main, weak, 1.0)(noisy, T, ""), main(noisy, T, ""))
    assert torch.equal(Autoguidance(main, weak, 4.0, band=(0.9, 1.0))(noisy, T, ""), main(noisy, T, ""))
    assert weak.asked == []
    inside = Autoguidance(main, weak, 4.0, band=(0.3, 0.6))(noisy, T, "")
    full = Autoguidance(main, weak, 4.0)(noisy, T, "")
    assert torch.equal(inside[:, :, [1, 3]], full[:, :, [1, 3]])
    assert torch.equal(inside[:, :, [0, 2]], main(noisy, T, "")[:, :, [0, 2]])


def test_autoguidance_between_schedules_is_refused():
    with pytest.raises(Refusal, match="schedules must agree"):
        Autoguidance(Tell(), Tell(schedule=Cosine()), 2.0)
    with pytest.raises(Refusal, match="band"):
        Autoguidance(Tell(), Tell(), 2.0, band=(0.7, 0.1))


# Framewise and temporal guidance


def test_framewise_sees_one_frame_at_a_time(noisy):
    inner = Tell()
    out = Framewise(inner)(noisy, T, "rain")
    assert [t for _, t in inner.asked] == [[[0.1]], [[0.5]], [[0.9]], [[0.4]]]
    for frame in range(4):
        alone = Tell()(noisy[:, :, [frame]], T[:, [frame]], "rain")
        assert torch.equal(out[:, :, [frame]], alone)


def test_framewise_is_the_image_model_of_a_gaussian(noisy):
    """Frames of AR(1) films taken alone are standard normal."""
    image = Framewise(Alone(AR1[:1, :1]))
    close(image(noisy, T, None), GaussianDenoiser(torch.zeros(4), torch.eye(4))(noisy, T, None))


class Alone(GaussianDenoiser):
    def __init__(self, covariance):
        super().__init__(torch.zeros(len(covariance)), covariance)


def test_temporal_ends(noisy):
    video, still = Tell(), Framewise(Tell())
    image = TemporalGuidance(video, still, motion=0.0, scale=0.0, negative="")
    assert torch.equal(image(noisy, T, "rain"), still(noisy, T, ""))
    plain = TemporalGuidance(video, still, motion=1.0, scale=1.0, negative="")
    assert torch.equal(plain(noisy, T, "rain"), video(noisy, T, "rain"))
    assert torch.equal(
        TemporalGuidance(video, still, motion=1.0, scale=0.0, negative="")(noisy, T, "rain"),
        video(noisy, T, ""),
    )


def test_temporal_at_motion_one_is_classifier_free(noisy):
    video, still = Tell(), Tell()
    out = TemporalGuidance(video, still, motion=1.0, scale=5.0, negative="")(noisy, T, "rain")
    close(out, ClassifierFree(Tell(), 5.0, negative="")(noisy, T, "rain"))
    assert still.asked == [] and len(video.asked) == 2


def test_temporal_is_gen_1_s_equation(noisy):
    video, still = Tell(), Framewise(Tell())
    image, plain, asked = still(noisy, T, ""), video(noisy, T, ""), video(noisy, T, "rain")
    out = TemporalGuidance(video, still, motion=1.5, scale=6.0, negative="")(noisy, T, "rain")
    close(out, image + 1.5 * (plain - image) + 6 * (asked - plain))


def test_temporal_asks_only_what_counts(noisy):
    video, still = Tell(), Tell()
    TemporalGuidance(video, still, motion=2.0, scale=2.0, negative="")(noisy, T, "rain")
    assert [condition for condition, _ in video.asked] == ["rain"] and len(still.asked) == 1


def test_more_motion_guidance_is_smoother():
    """On AR(1) films the steps between frames shrink as the video model is driven from its image mode."""
    video, image = Alone(AR1), Framewise(Alone(AR1[:1, :1]))
    start = torch.randn(512, 1, 4, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = [
        [*sample(TemporalGuidance(video, image, motion=w), start, plan=full_sequence(16, 4))][-1].clean
        for w in (0.5, 1.0, 1.5)
    ]
    rough = [film.diff(dim=2).square().mean() / film.square().mean() for film in made]
    assert rough[0] > 1.2 * rough[1] and rough[1] > 1.2 * rough[2]


# History guidance


def history(denoiser, *views, known=(0, 1)):
    return HistoryGuidance(denoiser, known, views, fresh)


KNOWING = torch.tensor([[0.0, 0.0, 0.6, 0.6]], dtype=torch.float64)


def test_history_of_weight_one_is_the_denoiser_bit_for_bit(noisy):
    inner = Tell()
    assert torch.equal(history(inner, View(1.0, (0, 1)))(noisy, KNOWING, ""), Tell()(noisy, KNOWING, ""))
    assert len(inner.asked) == 1


def hidden(noisy, s):
    s = torch.tensor([s], dtype=torch.float64)
    return Tell()(noised(noisy, fresh(0, "history"), t=KNOWING, s=s, schedule=STRAIGHT), s, "")


def test_vanilla_history_guidance(noisy):
    inner = Tell()
    out = history(inner, View(3.0, (0, 1)))(noisy, KNOWING, "")
    nothing = hidden(noisy, [1.0, 1.0, 0.6, 0.6])
    close(out, nothing + 3 * (Tell()(noisy, KNOWING, "") - nothing))
    assert sorted(t[0] for _, t in inner.asked) == [[0.0, 0.0, 0.6, 0.6], [1.0, 1.0, 0.6, 0.6]]


def test_segments_and_levels_compose(noisy):
    views = [View(1.5, (0,)), View(2.0, (1,)), View(0.5, (0, 1), level=0.3)]
    inner = Tell()
    out = history(inner, *views)(noisy, KNOWING, "")
    nothing = hidden(noisy, [1.0, 1.0, 0.6, 0.6])
    seen = [hidden(noisy, [*levels, 0.6, 0.6]) for levels in ([0.0, 1.0], [1.0, 0.0], [0.3, 0.3])]
    expected = nothing + sum(view.weight * (film - nothing) for view, film in zip(views, seen, strict=True))
    close(out, expected)
    assert len(inner.asked) == 4


def test_views_alike_are_one_call(noisy):
    views = [
        View(1.0, (0, 1)),
        View(1.0, (1, 0)),
        View(0.7, (0,)),
        View(-0.7, (0,)),
        View(5.0, (0, 1), level=1.0),
    ]
    inner = Tell()
    out = history(inner, *views)(noisy, KNOWING, "")
    close(out, history(Tell(), View(2.0, (0, 1)))(noisy, KNOWING, ""))
    assert len(inner.asked) == 2  # the segment (0,) cancels, and hiding all is the base


def test_a_hidden_past_is_no_past_for_the_exact_denoiser(noisy):
    """Frames at pure noise tell a Gaussian denoiser nothing: what is left is the marginal of the others."""
    out = history(Alone(AR1), View(0.0, (0, 1)))(noisy, KNOWING, None)
    close(out[:, :, 2:], Alone(AR1[2:, 2:])(noisy[:, :, 2:], KNOWING[:, 2:], None))


def test_frames_that_are_noisier_than_a_view_stay_so(noisy):
    t = torch.tensor([[0.5, 0.0, 0.6, 0.6]], dtype=torch.float64)
    inner = Tell()
    history(inner, View(1.0, (0, 1), level=0.2))(noisy, t, "")
    assert inner.asked[0][1] == [[0.5, 0.2, 0.6, 0.6]]


@pytest.mark.parametrize("view", [View(1.0, (2,)), View(1.0, (0,), level=1.5)])
def test_impossible_views_are_refused(view):
    with pytest.raises(Refusal, match="among the known"):
        history(Tell(), view)


@pytest.mark.parametrize("schedule", [STRAIGHT, Cosine(), Cosine(limit=20.0)])
def test_taken_on_by_the_forward_process(schedule):
    """From t on to s is as if from clean to s, in mean and variance; times that stay are untouched."""
    t, s = torch.tensor([[0.2, 0.0, 0.7, 0.4]]).double(), torch.tensor([[0.5, 1.0, 0.7, 0.9]]).double()
    one, none = torch.ones(1, 1, 4, 1, 1).double(), torch.zeros(1, 1, 4, 1, 1).double()
    through = noised(one, none, t=t, s=s, schedule=schedule).flatten()
    added = noised(none, one, t=t, s=s, schedule=schedule).flatten()
    close(through * schedule.alpha(t)[0], schedule.alpha(s)[0])
    close((through * schedule.sigma(t)[0]) ** 2 + added**2, schedule.sigma(s)[0] ** 2)
    assert through[2] == 1 and added[2] == 0


def test_all_are_denoisers():
    made = [
        Autoguidance(Tell(), Tell(), 2.0),
        Framewise(Tell()),
        TemporalGuidance(Tell(), Tell(), motion=1.0),
        history(Tell()),
    ]
    assert all(isinstance(denoiser, Denoiser) and denoiser.schedule == STRAIGHT for denoiser in made)
