"""What the trained experiments are judged by: films of known state, and what is read from their pixels."""

import pytest
import torch
from benchmarks.trained.discs import KINDS, Discs, hues
from benchmarks.trained.features import SEEDS, RandomFeatures, distance
from benchmarks.trained.state import colour_drift, flicker, kind_of, measured, speed_change

DISCS = Discs(frames=8)


@pytest.fixture(scope="module")
def sample():
    return DISCS.draw(3, 64)


# Discs


def test_films_are_a_function_of_their_seed(sample):
    again, other = DISCS.draw(3, 64), DISCS.draw(4, 64)
    assert torch.equal(sample.video, again.video) and not torch.equal(sample.video, other.video)
    assert sample.video.shape == (64, 3, 8, 16, 16) and sample.video.abs().max() <= 1


def test_a_disc_stays_in_the_box_and_flies_straight_at_its_speed_between_walls(sample):
    edge = DISCS.radius - 1e-4
    assert sample.place.min() >= edge and sample.place.max() <= DISCS.size - edge
    step = sample.place.diff(dim=1)
    straight = sample.place.diff(n=2, dim=1).norm(dim=-1) < 1e-4
    flown = step.norm(dim=-1)[:, 1:][straight]
    torch.testing.assert_close(flown, sample.speed[:, None].expand(-1, 6)[straight], atol=1e-4, rtol=0)
    assert 0.4 < straight.float().mean() < 1  # some meet a wall


def test_long_films_begin_as_short_ones_do(sample):
    longer = Discs(frames=72).draw(3, 64)
    torch.testing.assert_close(longer.video[:, :, :8], sample.video, atol=1e-5, rtol=0)


def test_discs_of_speed_zero_stand_still():
    video = Discs(frames=4, speed=(0.0, 0.0)).draw(0, 8).video
    assert torch.equal(video[:, :, :1].expand_as(video), video)


def test_hues_are_those_of_the_rainbow():
    expected = torch.tensor([[1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    torch.testing.assert_close(hues(torch.tensor([0, 1 / 6, 1 / 3, 2 / 3])), expected, atol=1e-5, rtol=0)


# What is read from pixels


def test_state_is_read_as_it_was_drawn(sample):
    state = measured(sample.video)
    assert (state.place - sample.place).norm(dim=-1).mean() < 0.1
    assert (state.amount / DISCS.amount - 1).abs().max() < 0.1
    torch.testing.assert_close(state.ground, sample.video[:, :, :, :1, :1].new_tensor(state.ground.tolist()))
    corners = sample.video[:, :, :, [0, 0, -1, -1], [0, -1, 0, -1]].median(dim=-1).values
    torch.testing.assert_close(state.ground, corners.transpose(1, 2), atol=1e-6, rtol=0)


def test_true_films_do_not_drift_or_flicker_and_turn_only_at_walls(sample):
    state = measured(sample.video)
    assert colour_drift(state).mean() < 0.01 and flicker(sample.video).max() < 1e-6
    turned = sample.place.diff(n=2, dim=1).norm(dim=-1).mean(dim=1)
    torch.testing.assert_close(speed_change(state), turned, atol=0.4, rtol=0)


def test_a_film_whose_colours_wander_drifts_by_as_much(sample):
    """The background and the disc brighten by 0.05 a frame together."""
    ramp = 0.05 * torch.arange(8.0)[:, None, None]
    assert colour_drift(measured(sample.video + ramp)).mean() == pytest.approx(0.05, abs=0.005)
    assert flicker(sample.video + ramp).mean() == pytest.approx(0.05, abs=0.005)


def test_half_a_disc_is_half_the_amount(sample):
    """Every pixel of the disc fades half-way to the background, but for one that shows its colour."""
    state = measured(sample.video)
    ground = state.ground.permute(0, 2, 1)[..., None, None]
    faded = sample.video.clone()
    faded[..., ::2, :] = ground.expand_as(faded)[..., ::2, :]  # every other line is background
    kept = measured(faded).amount / state.amount
    assert kept.mean() == pytest.approx(0.5, abs=0.05)


def test_kinds_are_read_from_colours_unless_hues_overlap():
    clear = Discs(spread=0.05).draw(1, 128)
    assert torch.equal(kind_of(measured(clear.video)), clear.kind) and set(clear.kind.tolist()) == set(
        range(KINDS)
    )
    mixed = Discs(spread=0.5).draw(1, 128)
    assert 0.5 < (kind_of(measured(mixed.video)) == mixed.kind).float().mean() < 0.9


def test_a_film_without_a_disc_gives_numbers():
    state = measured(torch.zeros(2, 3, 4, 16, 16))
    assert all(
        bool(torch.isfinite(part).all()) for part in (state.ground, state.disc, state.amount, state.place)
    )


# Distances


def test_features_are_fixed_by_their_seed_and_take_any_length():
    video = DISCS.draw(0, 4).video
    assert torch.equal(RandomFeatures(0)(video), RandomFeatures(0)(video))
    assert not torch.equal(RandomFeatures(0)(video), RandomFeatures(1)(video))
    assert RandomFeatures(0)(video[:, :, :1]).shape == RandomFeatures(0)(video).shape == (4, 40)


def test_the_distance_is_least_for_true_films_and_grows_with_what_is_done_to_them(sample):
    true, other = DISCS.draw(8, 64).video, DISCS.draw(9, 64).video
    floor = distance(other, true)
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(other.shape, generator=random)
    little, much = distance(other + 0.2 * noise, true), distance(other + 0.5 * noise, true)
    assert 0 < floor < little < much
    shuffled = other[:, :, torch.randperm(8, generator=random)]
    assert distance(shuffled, true) > floor  # it sees the order of frames
    assert distance(other, true, seeds=SEEDS[:1]) != floor
