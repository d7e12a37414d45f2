"""Disturbances keep what a clip shows, stay in range, and come from the generator alone."""

import torch
from torch import Tensor

from mutoscope.training.disturb import Disturbance, disturb, mirror, smeared, softer

NONE = Disturbance(soft=0, smear=0, tone=0, contrast=0, noise=0)


def clips(b: int = 3, *, seed: int = 0) -> Tensor:
    return torch.rand(b, 3, 4, 6, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_changes_when_every_effect_is_off() -> None:
    torch.testing.assert_close(disturb(clips(), NONE, generator=generator()), clips())


def test_the_same_generator_disturbs_alike_and_another_otherwise() -> None:
    one, again, other = (disturb(clips(), Disturbance(), generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.allclose(one, other)


def test_the_result_stays_in_range_and_near() -> None:
    made = disturb(clips(), Disturbance(noise=0.5, tone=0.9), generator=generator())
    assert made.min() >= -1 and made.max() <= 1
    mild = disturb(clips(8), Disturbance(), generator=generator())
    flat = torch.full((8, 3, 4, 6, 8), 0.2)  # nothing to soften: only tone and noise are left
    assert (disturb(flat, Disturbance(noise=0), generator=generator()) - flat).abs().max() < 0.12
    assert mild.shape == (8, 3, 4, 6, 8)


def test_clips_are_disturbed_differently() -> None:
    same = clips(1).expand(4, -1, -1, -1, -1)
    made = disturb(same, Disturbance(), generator=generator())
    assert not torch.allclose(made[0], made[1])


def test_draws_do_not_depend_on_the_strength() -> None:
    """So a run with one effect switched off sees the same noise, and its loss can be compared."""
    after = []
    for strength in (NONE, Disturbance()):
        stream = generator()
        disturb(clips(), strength, generator=stream)
        after.append(torch.rand(1, generator=stream))
    assert torch.equal(*after)


def test_a_mirror_turns_only_the_chosen() -> None:
    real = clips()
    made = mirror(real, torch.tensor([True, False, True]))
    assert torch.equal(made[0], real[0].flip(-1)) and torch.equal(made[1], real[1])
    assert torch.equal(mirror(made, torch.tensor([True, False, True])), real)


def test_softening_keeps_flat_clips_and_means_and_takes_detail() -> None:
    flat = torch.full((1, 3, 2, 6, 8), 0.4)
    torch.testing.assert_close(softer(flat), flat)
    checks = (torch.arange(6)[:, None] + torch.arange(8)).remainder(2).float().expand(1, 3, 2, 6, 8)
    torch.testing.assert_close(softer(checks), torch.full_like(checks, 0.5))


def test_odd_sizes_are_softened_too() -> None:
    assert softer(torch.zeros(2, 3, 2, 5, 7)).shape == (2, 3, 2, 5, 7)


def test_smearing_is_the_mean_of_neighbours_in_time() -> None:
    flash = torch.zeros(1, 3, 5, 2, 2)
    flash[:, :, 2] = 0.9
    torch.testing.assert_close(smeared(flash)[0, 0, :, 0, 0], torch.tensor([0, 0.3, 0.3, 0.3, 0]))
    still = clips(1)[:, :, :1].expand(1, 3, 4, 6, 8)
    torch.testing.assert_close(smeared(still), still)
