"""The layers of time in a decoder: the identity at first and for images, and a film among itself."""

import pytest
import torch
from torch import Tensor

from mutoscope.models.temporal import Frames
from mutoscope.models.temporal_decoder import DecoderTime, LastInTime
from tiny import stirred

FILM = Frames(5)
LAYERS = {"block": lambda: DecoderTime(8, groups=4), "last": lambda: LastInTime(8)}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(make) -> torch.nn.Module:
    layer = make().double()
    stirred(layer)
    return layer


@layers
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_begins_as_the_identity_bit_for_bit(make, dtype):
    layer, x = make().to(dtype), noise(10, 8, 3, 4).to(dtype)
    assert torch.equal(layer(x, FILM), x)
    stirred(layer)
    assert not torch.allclose(layer(x, FILM), x, atol=1e-2)


def test_a_share_of_zero_is_the_identity_whatever_the_branch():
    layer, x = trained(LAYERS["block"]), noise(10, 8, 3, 4)
    layer.mix.data.fill_(-torch.inf)
    assert torch.equal(layer(x, FILM), x)


def test_a_fresh_block_learns_from_the_first_step():
    layer = DecoderTime(8, groups=4)
    layer(noise(10, 8, 3, 4).float(), FILM).square().sum().backward()
    assert layer.conv2.weight.grad is not None and layer.conv2.weight.grad.abs().max() > 0


@layers
def test_images_pass_untouched_and_teach_nothing(make):
    layer, x = trained(make), noise(10, 8, 3, 4).requires_grad_()
    y = layer(x, Frames(5, 0))
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in layer.parameters())


@layers
def test_a_film_is_the_same_with_images_behind_it(make):
    layer, x = trained(make), noise(10, 8, 3, 4)
    together = layer(x, Frames(5, 3)).unflatten(0, (2, 5))
    alone = layer(x.unflatten(0, (2, 5))[:, :3].flatten(0, 1), Frames(3)).unflatten(0, (2, 3))
    torch.testing.assert_close(together[:, :3], alone, rtol=0, atol=1e-10)
    assert torch.equal(together[:, 3:], x.unflatten(0, (2, 5))[:, 3:])


@layers
def test_no_gradient_crosses_between_film_and_images(make):
    layer, x = trained(make), noise(5, 8, 3, 4).requires_grad_()
    y = layer(x, Frames(5, 3))
    (film,) = torch.autograd.grad(y[:3].square().sum(), x, retain_graph=True)
    (image,) = torch.autograd.grad(y[3].square().sum(), x)
    assert not film[3:].any() and all(film[k].any() for k in range(3))
    assert image[3].any() and not image[[0, 1, 2, 4]].any()


def test_a_still_film_moves_at_its_ends_only():
    """Zeros stand before and after the film in the public layout, so its ends know that they are ends."""
    block, still = trained(LAYERS["block"]), noise(1, 8, 3, 4).expand(9, -1, -1, -1)
    y = block(still, Frames(9))
    # Means and variances of the second norm are those of all frames, and equal for them.
    torch.testing.assert_close(y[2:7], y[2:3].expand(5, -1, -1, -1), rtol=0, atol=1e-10)
    assert (y[0] - y[4]).abs().max() > 1e-2 and (y[8] - y[4]).abs().max() > 1e-2
    fresh = DecoderTime(8, groups=4).double()(still, Frames(9))
    assert torch.equal(fresh, still)
