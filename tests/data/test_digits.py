"""Digits fly straight, stay on the frame, and are named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mutoscope.data.digits import DigitSource
from mutoscope.video import Refusal

PICTURES = torch.zeros(10, 28, 28, dtype=torch.uint8)
PICTURES[:, 13:15, 13:15] = 255


def source(**settings) -> DigitSource:
    return DigitSource(PICTURES, list(range(10)), **{"frames": 40, "digits": 1} | settings)


def test_a_batch_is_grey_films_in_range_with_their_names():
    batch = source(digits=2, frames=5, size=(48, 32)).batch(0, 3)
    assert batch.video.shape == (3, 3, 5, 32, 48) and batch.figure.shape == (3, 5, 32, 48)
    assert batch.video.min() == -1 and batch.video.max() <= 1 and batch.figure.max() > 0.1
    assert torch.equal(batch.video[:, 0], batch.video[:, 2])
    for caption in batch.captions:
        assert caption.startswith("the digits ") and caption.endswith(" bounce around")


def test_the_same_step_is_the_same_batch_and_another_is_not():
    one, again, other = source().batch(3, 2), source().batch(3, 2), source().batch(4, 2)
    assert torch.equal(one.video, again.video) and one.captions == again.captions
    assert not torch.equal(one.video, other.video)
    assert not torch.equal(one.video, source(seed=1).batch(3, 2).video)


def centres(light: torch.Tensor) -> torch.Tensor:
    """Where the light is, "f 2"."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    weight = light / light.sum(dim=(1, 2), keepdim=True)
    return torch.stack([(weight * columns).sum((1, 2)), (weight * rows).sum((1, 2))], dim=1)


def test_a_digit_flies_straight_and_is_thrown_back_by_the_edges():
    for clip in source().batch(0, 8).figure:
        places = centres(clip)
        assert places.min() >= 13 and places.max() <= 50  # half a digit from the edge
        steps = places.diff(dim=0).abs()
        typical = steps.median(dim=0).values
        straight = (steps - typical).abs() <= 1.01  # corners stand on whole pixels
        assert straight.float().mean() > 0.8 and (places.diff(dim=0) < -0.5).any()
        assert steps.max() < 6.5


def test_the_words_of_all_captions_are_known():
    said = source(digits=2)
    assert set(said.batch(0, 20).captions) <= set(said.words)


def test_an_archive_is_read_and_anything_else_refused(tmp_path: Path):
    np.savez(tmp_path / "mnist.npz", x_train=PICTURES.numpy(), y_train=np.arange(10))
    assert DigitSource.read(tmp_path / "mnist.npz", frames=2).batch(0, 1).video.shape == (1, 3, 2, 64, 64)
    np.savez(tmp_path / "other.npz", pictures=PICTURES.numpy())
    with pytest.raises(Refusal, match="x_train"):
        DigitSource.read(tmp_path / "other.npz")
    with pytest.raises(Refusal, match="no archive"):
        DigitSource.read(tmp_path / "nothing.npz")
