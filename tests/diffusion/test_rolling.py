"""Endless films: the published local times, frames in bounded memory, and the pyramid that they are."""

import weakref
from itertools import count, islice

import pytest
import torch

from mutoscope.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.multistep import Multistep2
from mutoscope.diffusion.noise import endless
from mutoscope.diffusion.plan import autoregressive, full_sequence, pyramid, staggered, uniform
from mutoscope.diffusion.rolling import Partitioned, Stabilised, Window, rolling
from mutoscope.diffusion.sampler import Heun, sample
from mutoscope.diffusion.schedule import STRAIGHT, Cosine, shift
from mutoscope.video import Refusal

SEEDS, SHAPE = [3, 4], (2, 2, 2)


class Watched:
    """A denoiser in which frames are on their own unless mixed; keeps the times it was shown."""

    schedule = STRAIGHT

    def __init__(self, mixing: float = 0.0):
        self.times, self.conditions, self.mixing = [], [], mixing

    def __call__(self, noisy, t, condition):
        self.times.append(t[0])
        self.conditions.append(condition)
        blurred = self.mixing * noisy.mean(dim=2, keepdim=True)
        # Plain arithmetic, which rounds alike wherever in memory a frame lies; a vectorised sine does not.
        return noisy / (1 + noisy * noisy) + t[:, None, :, None, None].to(noisy) + blurred


def taken(denoiser, window, *, frames, noise=None, **settings):
    frames = islice(rolling(denoiser, noise or endless(SEEDS, SHAPE), window=window, **settings), frames)
    return torch.stack(list(frames), dim=2)


def start(frames):
    return torch.stack(list(islice(endless(SEEDS, SHAPE), frames)), dim=2)


@pytest.mark.parametrize(("window", "steps"), [(4, 1), (3, 5), (1, 4), (6, 2)])
def test_local_times_are_the_published_ones(window, steps):
    """(w + t) / W, after a start-up of clip(w / W + t), t running from 1 to 0."""
    watched = Watched()
    taken(watched, Window(window, steps=steps), frames=4)
    w, total = torch.arange(window), window * steps
    starting, sliding = watched.times[:total], watched.times[total:]
    assert len(sliding) == 3 * steps, "one slide a frame"
    for t, row in zip(torch.arange(total, 0, -1) / total, starting, strict=True):
        torch.testing.assert_close(row.float(), (w / window + t).clamp(0, 1))
    for t, row in zip((torch.arange(steps, 0, -1) / steps).repeat(3), sliding, strict=True):
        torch.testing.assert_close(row.float(), (w + t) / window)


def test_start_up_begins_in_noise_and_ends_where_rolling_begins():
    window = Window(4, steps=3, shift=2.0)
    assert (window.times(window.total, held=4) == 1).all()
    before, after = window.times(3, held=4), window.times(0, held=4)
    torch.testing.assert_close(after[0], shift(torch.arange(4).double() / 4, 2.0))
    assert torch.equal(before[0, :3], after[0, 1:]) and before[0, 3] == 1


@pytest.mark.parametrize("sampler", [None, Heun()])
def test_frames_on_their_own_are_those_of_any_plan(sampler):
    film = taken(Watched(), Window(3, steps=2, shift=3.0), frames=7, sampler=sampler)
    grid = uniform(6, shift=3.0)
    for lag in (0, 1, 2, 6):
        *_, last = sample(Watched(), start(7), plan=staggered(grid, 7, lag=lag), sampler=sampler)
        assert torch.equal(film, last.clean)


@pytest.mark.parametrize("sampler", [None, Heun(), Multistep2()])
@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_the_pyramid_of_the_endless_film(steps, sampler):
    """With every finished frame in sight; frames of pure noise tell an exact denoiser nothing."""
    covariance = 0.9 ** (torch.arange(9)[:, None] - torch.arange(9)).abs().double()

    def film(noisy, t, condition):
        frames = noisy.shape[2]
        denoiser = GaussianDenoiser(torch.zeros(frames), covariance[:frames, :frames], Cosine())
        return denoiser(noisy, t, condition)

    denoiser = NetworkDenoiser(film, Cosine(), "clean")
    noise = start(9).double()
    window = Window(4, steps=steps, context=9)
    rolled = taken(denoiser, window, frames=9, noise=noise.unbind(2), sampler=sampler)
    *_, last = sample(denoiser, noise, plan=pyramid(4 * steps, 9, lag=steps), sampler=sampler)
    torch.testing.assert_close(rolled, last.clean, atol=1e-10, rtol=0)


def test_where_one_stops_does_not_matter():
    film = taken(Watched(mixing=0.5), Window(4, steps=2, context=2), frames=9)
    assert torch.equal(taken(Watched(mixing=0.5), Window(4, steps=2, context=2), frames=5), film[:, :, :5])
    alone = islice(rolling(Watched(0.5), endless([4], SHAPE), window=Window(4, steps=2, context=2)), 9)
    torch.testing.assert_close(torch.stack(list(alone), dim=2), film[1:])


def test_n_frames_after_n_slides_and_n_in_all():
    watched = Watched()
    frames = rolling(watched, start(6).unbind(2), window=Window(4), condition="rain")
    for number, _ in enumerate(frames, start=1):
        assert len(watched.times) == 4 + number - 1
    assert number == 6 and set(watched.conditions) == {"rain"}
    assert [len(row) for row in watched.times] == [4, 4, 4, 4, 4, 4, 3, 2, 1][: len(watched.times)]
    assert list(rolling(watched, [], window=Window(4))) == []
    assert len(list(rolling(watched, start(2).unbind(2), window=Window(4)))) == 2


def test_memory_does_not_grow():
    alive = weakref.WeakSet()

    def noise():
        for number in count():
            frame = torch.full((1, 1, 1, 1), float(number), dtype=torch.float64)
            alive.add(frame)
            yield frame

    watched, most = Watched(), 0
    for _ in islice(rolling(watched, noise(), window=Window(3, context=2)), 60):
        most = max(most, len(alive))
    assert most <= 3 + 1
    assert max(len(row) for row in watched.times) == 3 + 2


def test_context_is_shown_as_finished_and_left_alone():
    watched = Watched(mixing=0.5)
    taken(watched, Window(3, context=2), frames=6)
    assert [int((row == 0).sum()) for row in watched.times] == [0, 0, 0, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"frames": 2, "steps": 0}, {"frames": 2, "context": -1}])
def test_impossible_windows_are_refused(wrong):
    with pytest.raises(Refusal, match="a frame and a step or more"):
        Window(**wrong)


@pytest.mark.parametrize(("frames", "shown"), [(8, [4, 4]), (10, [4, 4, 2]), (3, [3])])
def test_parts_are_seen_alone(frames, shown):
    watched = Watched(mixing=0.5)
    noisy, t = start(frames), torch.linspace(0.1, 1, frames).expand(2, -1)
    guess = Partitioned(watched, 4)(noisy, t, "rain")
    assert [len(row) for row in watched.times] == shown
    end = Watched(mixing=0.5)(noisy[:, :, -4:], t[:, -4:], "rain")
    assert torch.equal(guess[:, :, -4:], end)


def test_lookahead_keeps_the_noisier_half():
    watched, noisy, t = Watched(mixing=0.5), start(8), torch.linspace(0.1, 1, 8).expand(2, -1)
    guess = Partitioned(watched, 4, lookahead=True)(noisy, t, None)
    assert [len(row) for row in watched.times] == [4, 4, 4, 2]
    for end in (8, 6, 4):
        seen = slice(end - 4, end)
        alone = Watched(mixing=0.5)(noisy[:, :, seen], t[:, seen], None)
        assert torch.equal(guess[:, :, end - 2 : end], alone[:, :, 2:])


@pytest.mark.parametrize("lookahead", [False, True])
def test_parts_of_frames_on_their_own_are_the_whole(lookahead):
    """FIFO over three partitions is then bit for bit the film of any other plan."""
    parts = Partitioned(Watched(), 2, lookahead=lookahead)
    film = taken(parts, Window(6, context=1), frames=5)
    *_, last = sample(Watched(), start(5), plan=full_sequence(6, 5))
    assert torch.equal(film, last.clean)


@pytest.mark.parametrize("sampler", [None, Heun(), Multistep2()])
def test_stabilised_histories_change_what_is_seen_and_not_the_frames(sampler):
    watched = Watched(mixing=0.5)
    plan, noise = autoregressive(3, 4).knowing([0]), start(4)
    states = list(sample(Stabilised(watched, 0.1), noise, plan=plan, sampler=sampler))
    assert torch.equal(states[-1].clean[:, :, 0], noise[:, :, 0]), "a known frame stays"
    assert torch.equal(states[-1].clean[:, :, 1], states[3].noisy[:, :, 1]), "a finished frame stays"
    assert all(row[0] == 0.1 and (row > 0).all() for row in watched.times)


def test_a_stabilised_frame_is_scaled():
    seen = []

    def network(noisy, t, condition):
        seen.append(noisy)
        return noisy

    noisy, t = start(3), torch.tensor([[0.0, 0.3, 1.0]]).expand(2, -1)
    Stabilised(NetworkDenoiser(network, Cosine(), "clean"), 0.2)(noisy, t, None)
    scale = Cosine().alpha(torch.tensor(0.2))
    torch.testing.assert_close(seen[0][:, :, 0], scale * noisy[:, :, 0])
    assert torch.equal(seen[0][:, :, 1:], noisy[:, :, 1:])


def test_level_nothing_is_no_stabilisation_and_one_is_refused():
    plan = pyramid(3, 4)
    *_, plain = sample(Watched(0.5), start(4), plan=plan)
    *_, same = sample(Stabilised(Watched(0.5), 0.0), start(4), plan=plan)
    assert torch.equal(plain.clean, same.clean)
    with pytest.raises(Refusal, match="stabilisation level of 1"):
        Stabilised(Watched(), 1.0)
