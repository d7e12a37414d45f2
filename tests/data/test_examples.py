"""Examples are a function of the step, and windows are what stands in the cache."""

import pytest
import torch

from mutoscope.data.examples import clips_of, windows_of
from mutoscope.data.latents import LatentCache
from mutoscope.data.loader import WorldSource
from mutoscope.data.world import SMALL
from mutoscope.video import Refusal


def cache(*, count: int = 5, frames: int = 9) -> LatentCache:
    """Every frame holds 100 times its clip plus its place, and its figure the same over a thousand."""
    number = 100 * torch.arange(count)[:, None] + torch.arange(frames)
    clean = number[:, None, :, None, None].float().expand(-1, 2, -1, 2, 2)
    figure = number[:, :, None, None].expand(-1, -1, 2, 2) / 1000
    return LatentCache(clean.clone(), figure, [f"clip {n}" for n in range(count)])


def test_a_sources_clips_come_with_their_captions():
    source = WorldSource(SMALL, frames=2, size=(32, 32), seed=3)
    found, batch = clips_of(source)(4, 2), source.batch(4, 2)
    assert torch.equal(found.clean, batch.video) and found.captions == batch.captions
    assert found.figure is not None and torch.equal(found.figure, batch.figure) and found.figure.any()


@pytest.mark.parametrize(("frames", "every"), [(1, 1), (4, 1), (3, 4), (9, 1)])
def test_windows_are_frames_of_one_clip_in_order_and_its_caption(frames: int, every: int):
    found = windows_of(cache(), frames=frames, every=every)(0, 64)
    numbers = found.clean[:, 0, :, 0, 0]
    assert found.clean.shape == (64, 2, frames, 2, 2)
    assert (numbers.diff(dim=1) == every).all()
    assert [f"clip {int(first) // 100}" for first in numbers[:, 0]] == found.captions
    assert found.figure is not None and torch.equal(found.figure[..., 0, 0] * 1000, numbers)


def test_windows_lie_anywhere_in_their_clips():
    starts = windows_of(cache(), frames=4)(0, 200).clean[:, 0, 0, 0, 0]
    assert {int(start) % 100 for start in starts} == set(range(6))
    assert {int(start) // 100 for start in starts} == set(range(5))


def test_the_same_step_is_the_same_examples():
    one, again, other = windows_of(cache(), frames=3), windows_of(cache(), frames=3), windows_of(
        cache(), frames=3, seed=1
    )  # fmt: skip
    assert torch.equal(one(7, 8).clean, again(7, 8).clean) and one(7, 8).captions == again(7, 8).captions
    assert not torch.equal(one(7, 8).clean, one(8, 8).clean)
    assert not torch.equal(one(7, 8).clean, other(7, 8).clean)


@pytest.mark.parametrize(("frames", "every"), [(10, 1), (4, 3), (0, 1)])
def test_windows_longer_than_the_clips_are_refused(frames: int, every: int):
    with pytest.raises(Refusal, match="that needs clips of"):
        windows_of(cache(), frames=frames, every=every)
