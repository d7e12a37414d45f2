"""What is known of a film, and how it reaches a network."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mutoscope.diffusion.denoiser import NetworkDenoiser
from mutoscope.diffusion.guidance import ClassifierFree
from mutoscope.diffusion.known import Condition, Conditioned, Known, enlarged, shrunk
from mutoscope.diffusion.prediction import Prediction, target
from mutoscope.diffusion.process import Process


def film(*, seed: int = 0, batch: int = 2, frames: int = 3, side: int = 8) -> Tensor:
    shape = (batch, 2, frames, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whose(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def beside(known: Known, noisy: Tensor) -> Tensor:
    """All channels that a network sees."""
    return torch.cat([known.placed(noisy), *known.told(noisy)], dim=1)


def test_nothing_known_adds_nothing_but_empty_channels():
    noisy = film()
    seen = beside(Known.nothing(noisy), noisy)
    assert torch.equal(seen[:, :2], noisy) and not seen[:, 2:].any() and seen.shape[1] == 5


def test_known_frames_stand_at_their_place_and_the_others_are_hidden():
    clean, noisy = film(), film(seed=1)
    seen = beside(Known.frames(clean, whose([1, 0, 0], [0, 1, 1])), noisy)
    assert torch.equal(seen[0, 2:4, 0], clean[0, :, 0]) and torch.equal(seen[1, 2:4, 1:], clean[1, :, 1:])
    assert not seen[0, 2:4, 1:].any() and not seen[1, 2:4, 0].any()
    assert seen[0, 4, 0].eq(1).all() and seen[1, 4, 0].eq(0).all()
    assert torch.equal(seen[0, :2, 0], clean[0, :, 0]) and torch.equal(seen[0, :2, 1:], noisy[0, :, 1:])


def test_known_frames_have_the_time_of_their_value_and_a_small_film_changes_none():
    t = torch.full((2, 3), 0.9, dtype=torch.float64)
    known = Known.frames(film(), whose([1, 0, 0], [0, 1, 1]))
    late = known.noised(torch.tensor([0.1, 0.2]), film(), schedule=Process().noising())
    expected = torch.tensor([[0.1, 0.9, 0.9], [0.9, 0.2, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(late.times(t), expected, rtol=0, atol=1e-6)
    small = Known.small(shrunk(film(), 2), height=8, width=8)
    assert torch.equal(small.times(t), t) and torch.equal(small.placed(film(seed=1)), film(seed=1))


def test_a_hidden_frame_cannot_be_seen_whatever_it_holds():
    noisy, which = film(), whose([1, 0, 0], [1, 0, 0])
    one, other = (Known.frames(film(seed=s), which) for s in (1, 2))
    other.value[:, :, 0] = one.value[:, :, 0]
    assert torch.equal(beside(one, noisy), beside(other, noisy))
    assert torch.equal(one.guess(), other.guess())


def test_samples_that_know_nothing():
    known = Known.frames(film(), whose([1, 1, 0], [1, 1, 0])).of(torch.tensor([True, False]))
    assert known.mask[0].sum() == 2 * 64 and not known.mask[1].any()


def test_a_small_film_is_seen_whole():
    clean = film()
    known = Known.small(shrunk(clean, 4), height=8, width=8)
    assert known.mask.eq(1).all() and known.value.shape == clean.shape


def test_shrinking_takes_means_and_enlarging_keeps_flat_films():
    clean = film()
    assert torch.allclose(shrunk(clean, 2)[0, 0, 0, 0, 0], clean[0, 0, 0, :2, :2].mean())
    assert shrunk(clean, 8).shape == (2, 2, 3, 1, 1)
    flat = torch.full((1, 1, 2, 2, 2), 0.3)
    larger = enlarged(flat, height=8, width=6)
    torch.testing.assert_close(larger, torch.full((1, 1, 2, 8, 6), 0.3))


def test_a_window_is_cut_of_value_and_mask_alike():
    clean = film()
    known = Known.frames(clean, whose([1, 0, 1], [0, 0, 1])).window(2, 4, height=4, width=3)
    assert torch.equal(known.value, clean[..., 2:6, 4:7]) and known.mask.shape == (2, 1, 3, 4, 3)


def test_noise_on_what_is_known_is_that_of_the_films_own_schedule():
    clean, noise, t = film(), film(seed=1), torch.tensor([0.0, 0.4], dtype=torch.float64)
    schedule = Process().noising()
    known = Known.frames(clean, whose([1, 1, 1], [1, 1, 1])).noised(t, noise, schedule=schedule)
    alpha, sigma = schedule.alpha(t[1]), schedule.sigma(t[1])
    torch.testing.assert_close(known.value[1], alpha * clean[1] + sigma * noise[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(known.value[0], clean[0], rtol=1e-4, atol=1e-3)  # a log-SNR of 20
    assert torch.equal(known.t, t)


class Heard:
    """A network that says its input back and keeps what it was told."""

    def __call__(self, noisy: Tensor, t: Tensor, **told: Any) -> Tensor:
        self.channels, self.t, self.told = noisy.shape[1], t, told
        return noisy[:, :2] * 0.5


def test_all_that_a_network_is_told_is_put_together_in_one_place():
    heard, images = Heard(), whose([0, 0, 1], [0, 0, 1])
    known = Known.nothing(film()).noised(torch.tensor([0.1, 0.2]), film(), schedule=Process().noising())
    condition = Condition("words", known, images)
    t = torch.full((2, 3), 0.5)
    Conditioned(heard, Process())(film(), t, condition)
    assert heard.channels == 5 and torch.equal(heard.t, 1000 * t)
    assert heard.told["text"] == "words" and torch.equal(heard.told["images"], images)
    torch.testing.assert_close(heard.told["labels"], torch.tensor([[100.0], [200.0]]))


def test_a_network_without_such_channels_sees_the_film_alone():
    heard = Heard()
    Conditioned(heard, Process())(film(), torch.ones(2, 3), Condition())
    assert heard.channels == 2 and heard.told == {"text": None, "images": None, "labels": None}


def test_a_process_that_knows_the_deviation_of_films_shows_the_network_variance_1():
    shown = {}

    def sees(noisy: Tensor, t: Tensor, **told: Any) -> Tensor:
        shown["film"] = noisy
        return noisy[:, :2]

    process = Process(deviation=0.4)
    schedule, generator = process.noising(), torch.Generator().manual_seed(0)
    white = [torch.randn(2, 2, 3, 64, 64, generator=generator, dtype=torch.float64) for _ in range(3)]
    clean, t = 0.4 * white[0], torch.tensor([[0.02, 0.5, 0.9], [0.3, 0.3, 0.3]], dtype=torch.float64)
    known = Known.small(clean, height=64, width=64).noised(t[:, 2], white[2], schedule=schedule)
    for given in (None, known):
        Conditioned(sees, process)(schedule.level(t).mix(clean, white[1]), t, Condition(known=given))
        deviations = shown["film"][:, :2].std(dim=(1, 3, 4))
        torch.testing.assert_close(deviations, torch.ones_like(deviations), rtol=0, atol=0.05)
    assert torch.equal(shown["film"][:, 2:], torch.cat([known.value, known.mask], dim=1))
    frames = Known.frames(clean, whose([1, 0, 0], [0, 0, 1]))
    Conditioned(sees, process)(white[1], torch.ones_like(t), Condition(known=frames))
    torch.testing.assert_close(shown["film"][0, :2, 0], white[0][0, :, 0], rtol=1e-6, atol=1e-6)


def test_known_frames_fade_into_each_other_and_nothing_known_is_no_guess():
    values = torch.tensor([0.0, 9, 2, 9, 9, 5, 9])
    clean = values.reshape(1, 1, 7, 1, 1).repeat(4, 2, 1, 1, 1)
    which = whose([1, 0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0] * 7, [1] * 7)
    expected = [[0, 1, 2, 3, 4, 5, 5], [2] * 7, [0] * 7, values.tolist()]
    guess = Known.frames(clean, which).guess()
    torch.testing.assert_close(guess[:, 1, :, 0, 0], torch.tensor(expected).float())
    late = Known.frames(clean, which).noised(
        torch.full((4,), 0.5), torch.randn(clean.shape), schedule=Process().noising()
    )
    assert torch.equal(late.guess(), guess), "what it guesses from is not noisy"


def test_a_small_film_is_the_guess_enlarged_and_clear_and_none_where_it_is_not_known():
    clean, noise = film(), film(seed=1)
    known = Known.small(shrunk(clean, 2), height=8, width=8)
    late = known.noised(torch.tensor([0.3, 0.3]), noise, schedule=Process().noising())
    assert torch.equal(late.guess(), known.value) and not torch.equal(late.value, known.value)
    assert not late.of(torch.tensor([True, False])).guess()[1].any()
    window = late.window(2, 4, height=4, width=3)
    assert torch.equal(window.guess(), known.value[..., 2:6, 4:7])


@pytest.mark.parametrize("kind", ["clean", "noise", "flow", "velocity", "score"])
@pytest.mark.parametrize("deviation", [None, 0.3])
def test_a_network_is_asked_for_what_the_guess_lacks(kind: Prediction, deviation: float | None):
    """It sees alpha (clean - guess) + sigma noise, and what it says is true of the film."""
    process, seen = Process(prediction=kind, deviation=deviation, guesses=True), {}
    clean, noise = film(), film(seed=1)
    known = Known.small(shrunk(clean, 2), height=8, width=8)
    missing, t = clean - known.guess(), torch.tensor([[0.1, 0.5, 0.9]] * 2, dtype=torch.float64)
    level = process.noising().level(t)

    def perfect(film: Tensor, t: Tensor, **told: Any) -> Tensor:
        seen["film"] = film[:, :2]
        return target(kind, clean=missing / (deviation or 1), noise=noise, level=process.seen(level))

    denoiser = process.denoiser(Conditioned(perfect, process))
    torch.testing.assert_close(denoiser(level.mix(clean, noise), t, Condition(known=known)), clean)
    expected = process.shown(level.mix(missing, noise), t)
    torch.testing.assert_close(seen["film"], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_it_is_the_network_of_a_denoiser_and_can_be_guided_by_its_context(scale: float):
    """Align Your Latents' context guidance: away from what is said where nothing is known."""

    def sees(noisy: Tensor, t: Tensor, **told: Any) -> Tensor:
        return noisy[:, 2:4]

    process, noisy, clean, t = Process(prediction="clean"), film(), film(seed=1), torch.full((2, 3), 0.7)
    denoiser = NetworkDenoiser(Conditioned(sees, process), process.noising(), process.prediction)
    known = Condition(known=Known.frames(clean, whose([1, 1, 1], [1, 1, 1])))
    guided = ClassifierFree(denoiser, scale, negative=Condition(known=Known.nothing(noisy)))
    torch.testing.assert_close(guided(noisy, t, known), scale * clean, rtol=1e-12, atol=1e-12)
