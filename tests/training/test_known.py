"""Every question is asked at its share, and no picture shows itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mutoscope.diffusion.known import Known
from mutoscope.diffusion.process import Process
from mutoscope.training.known import KnownSettings

SCHEDULE = Process().noising()


def clean(*, batch: int = 400, frames: int = 9, side: int = 4) -> Tensor:
    return torch.randn(batch, 1, frames, side, side, generator=torch.Generator().manual_seed(5))


def drawn(kind: Any, film: Tensor, *, pictures: int = 0, seed: int = 0, **settings: Any) -> Known:
    generator = torch.Generator().manual_seed(seed)
    asked = KnownSettings(kind=kind, **settings)
    return asked.draw(film, pictures=pictures, generator=generator, schedule=SCHEDULE)


def shown(known: Known) -> Tensor:
    """Which frames are known, "b f"."""
    assert torch.equal(known.mask.amin(dim=(1, 3, 4)), known.mask.amax(dim=(1, 3, 4)))  # whole frames
    return known.mask[:, 0, :, 0, 0].bool()


def test_prediction_knows_the_first_frames_each_number_as_often():
    counts = shown(drawn("prediction", clean())).sum(dim=1)
    for count in (0, 1, 2):
        assert float((counts == count).float().mean()) == pytest.approx(1 / 3, abs=0.08)
    which = shown(drawn("prediction", clean(), context=(3,)))
    assert which[:, :3].all() and not which[:, 3:].any()


def test_interpolation_knows_every_fourth_frame_and_both_ends():
    which = shown(drawn("interpolation", clean()))
    assert which.sum(dim=1).eq(3).all() and which[:, [0, 4, 8]].all()


def test_random_masks_ask_for_everything_but_always_ask():
    which = shown(drawn("random", clean()))
    counts = which.sum(dim=1)
    assert set(counts.tolist()) == set(range(9))  # never all nine
    assert which.float().mean(dim=0).sub(which.float().mean()).abs().max() < 0.08  # no frame is special


def test_a_small_version_is_that_of_every_frame():
    film = torch.full((2, 1, 3, 8, 8), 0.5)
    film[:, :, 1] = -0.25
    known = drawn("small", film, pictures=1)
    torch.testing.assert_close(known.value, film)
    assert known.mask.eq(1).all()


@pytest.mark.parametrize("kind", ["prediction", "interpolation", "random"])
def test_pictures_know_nothing_of_themselves(kind: str):
    which = shown(drawn(kind, clean(), pictures=4, context=(2,)))
    assert which[:, :5].any() and not which[:, 5:].any()


def test_of_a_share_nothing_is_known():
    for share in (0.0, 0.3, 1.0):
        which = shown(drawn("interpolation", clean(), unconditional=share))
        empty = float((~which.any(dim=1)).float().mean())
        assert empty == pytest.approx(share, abs=0.08 if 0 < share < 1 else 0)


def test_what_is_known_is_clean_unless_noise_is_asked_for():
    film = clean(batch=3)
    known = drawn("interpolation", film)
    assert torch.equal(known.value, film) and not known.t.any()


def test_noise_is_of_a_level_that_is_told_and_spread_evenly():
    film = clean()
    known = drawn("interpolation", film, noise=0.5)
    assert known.t.max() < 0.5 and float(known.t.mean()) == pytest.approx(0.25, abs=0.03)
    expected = film.std() ** 2 * SCHEDULE.alpha(known.t) ** 2 + SCHEDULE.sigma(known.t) ** 2
    late = known.t > 0.4
    found = known.value[late].var()
    torch.testing.assert_close(found, expected[late].mean(), rtol=0.05, atol=0)


def test_the_same_generator_draws_the_same():
    one, again, other = (drawn("random", clean(), noise=0.2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.value * one.mask, again.value * again.mask) and torch.equal(one.t, again.t)
    assert not torch.equal(one.mask, other.mask)
