"""A sample's noise is a function of its seed alone."""

import pytest
import torch

from mutoscope.diffusion.noise import SEEDS, draw, endless, stream
from mutoscope.video import Refusal

SHAPE = (3, 5, 4, 6)


def test_the_batch_does_not_matter():
    together = draw([7, 1, 7, 2**62], SHAPE)
    assert together.shape == (4, *SHAPE)
    assert torch.equal(together[0], together[2])
    for row, seed in enumerate([7, 1, 7, 2**62]):
        assert torch.equal(together[row], draw([seed], SHAPE)[0])


def test_the_dtype_does_not_change_the_film():
    assert torch.equal(draw([3], SHAPE, dtype=torch.float64), draw([3], SHAPE).double())
    assert torch.equal(draw([3], SHAPE, dtype=torch.bfloat16), draw([3], SHAPE).bfloat16())


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    draw([5], SHAPE)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.oracle
def test_equals_what_public_pipelines_draw_for_a_list_of_generators():
    from diffusers.utils.torch_utils import randn_tensor

    generators = [torch.Generator().manual_seed(seed) for seed in (4, 9)]
    assert torch.equal(draw([4, 9], SHAPE), randn_tensor((2, *SHAPE), generator=generators))


def test_it_is_standard_normal_across_seeds():
    values = draw(range(400), (1, 1, 4, 4)).double()
    assert abs(values.mean()) < 4 / values.numel() ** 0.5
    assert abs(values.var() - 1) < 4 * (2 / values.numel()) ** 0.5
    neighbours = torch.corrcoef(torch.stack([values[:-1].flatten(), values[1:].flatten()]))[0, 1]
    assert abs(neighbours) < 4 / values.numel() ** 0.5


def test_streams_are_apart_and_stay_the_same():
    seeds = {stream(seed, purpose) for seed in range(20) for purpose in ("step 1", "step 2", "churn")}
    assert len(seeds) == 60 and all(0 <= seed < SEEDS for seed in seeds)
    assert stream(7, "step 1") == stream(7, "step 1") == 1_701_724_815_234_000_984
    assert stream(1, "1 x") != stream(11, " x")


@pytest.mark.parametrize("seed", [-1, SEEDS])
def test_other_seeds_are_refused(seed):
    with pytest.raises(Refusal, match=f"seed {seed}"):
        draw([seed], SHAPE)
    with pytest.raises(Refusal, match="no seeds"):
        draw([], SHAPE)


def test_frames_without_end_are_the_same_whatever_the_batch():
    together = [frame for frame, _ in zip(endless([7, 2], (2, 3, 4)), range(5), strict=False)]
    alone = [frame for frame, _ in zip(endless([2], (2, 3, 4)), range(3), strict=False)]
    assert all(torch.equal(frame[1:], one) for frame, one in zip(together, alone, strict=False))
    assert len({frame[0, 0, 0, 0].item() for frame in together}) == 5
    assert together[0].shape == (2, 2, 3, 4)
