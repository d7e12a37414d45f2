"""Windows of a long film: nothing is lost, nothing is counted twice, and one window is nothing at all."""

import pytest
import torch

from mutoscope.diffusion.denoiser import Denoiser, GaussianDenoiser, NetworkDenoiser
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import Progressive
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.schedule import Cosine
from mutoscope.diffusion.windows import Windowed, fusion
from mutoscope.video import Refusal

CASES = [(16, 16, 4), (40, 16, 4), (41, 16, 4), (7, 3, 3), (8, 3, 3), (5, 16, 4), (9, 5, 1), (1, 4, 2)]


def noisy(frames, dtype=torch.float32):
    return draw([1, 2], (2, frames, 3, 4), dtype=dtype)


def per_frame(seen):
    """A network in which every frame is on its own, so that windows agree; it notes what it is shown."""

    def network(film, t, condition):
        seen.append((film.shape[2], t.shape[1], condition))
        return torch.sin(3 * film) + t[:, None, :, None, None]

    return NetworkDenoiser(network, prediction="clean")


@pytest.mark.parametrize(("frames", "window", "stride"), CASES)
def test_shares_are_a_partition_of_unity(frames, window, stride):
    shares = fusion(frames, window=window, stride=stride)
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(frames).double(), atol=1e-15, rtol=0)
    assert (shares >= 0).all()
    size = min(window, frames)
    assert ((shares > 0).sum(dim=1) == size).all()
    starts = (shares > 0).double().argmax(dim=1)
    assert starts[0] == 0 and starts[-1] == frames - size and (starts.diff() <= stride).all()


def test_weights_are_the_published_triangle():
    shares = fusion(20, window=16, stride=4)
    first = torch.tensor([*range(1, 9), *range(8, 0, -1), 0, 0, 0, 0]).double()
    torch.testing.assert_close(shares, torch.stack([first, first.roll(4)]) / (first + first.roll(4)))


@pytest.mark.parametrize("frames", [1, 5, 16])
def test_one_window_is_no_window(frames):
    seen, film, t = [], noisy(frames), torch.rand(2, frames, generator=torch.Generator().manual_seed(0))
    alone = per_frame([])(film, t, "rain")
    assert torch.equal(Windowed(per_frame(seen), window=16, stride=4)(film, t, "rain"), alone)
    assert seen == [(frames, frames, "rain")]


@pytest.mark.parametrize(("frames", "window", "stride"), CASES)
def test_guesses_that_agree_come_out_bit_for_bit(frames, window, stride):
    seen, film, t = [], noisy(frames), torch.rand(2, frames, generator=torch.Generator().manual_seed(0))
    fused = Windowed(per_frame(seen), window=window, stride=stride)(film, t, None)
    assert torch.equal(fused, per_frame([])(film, t, None))
    assert len(seen) == len(fusion(frames, window=window, stride=stride))


def test_guesses_that_differ_are_averaged_by_their_shares():
    """Against the sum over windows, with a denoiser whose frames look at each other."""

    def network(film, t, condition):
        return film + film.mean(dim=2, keepdim=True)

    film, t = noisy(23, torch.float64), torch.full((2, 23), 0.5, dtype=torch.float64)
    denoiser = NetworkDenoiser(network, prediction="clean")
    shares = fusion(23, window=8, stride=3)
    expected = torch.zeros_like(film)
    for share in shares:
        span = share > 0
        guess = denoiser(film[:, :, span], t[:, span], None)
        expected[:, :, span] += share[span][:, None, None] * guess
    fused = Windowed(denoiser, window=8, stride=3)(film, t, None)
    torch.testing.assert_close(fused, expected, atol=1e-14, rtol=0)


def test_it_goes_wherever_a_denoiser_goes():
    """Frames that know nothing of each other are sampled alike whole and in windows."""
    inner = GaussianDenoiser(torch.ones(6), torch.eye(6), Cosine())
    whole = GaussianDenoiser(torch.ones(14), torch.eye(14), Cosine())
    windowed = Windowed(inner, window=6, stride=4)
    assert isinstance(windowed, Denoiser) and windowed.schedule == Cosine()
    start, plan = noisy(14, torch.float64), full_sequence(6, 14)
    *_, one = sample(windowed, start, plan=plan)
    *_, other = sample(whole, start, plan=plan)
    torch.testing.assert_close(one.clean, other.clean, atol=1e-12, rtol=0)


def test_gradients_pass_through_the_windows():
    film = noisy(9, torch.float64).requires_grad_()
    inner = GaussianDenoiser(torch.zeros(4), Progressive().covariance(4))
    t = torch.full((2, 9), 0.5, dtype=torch.float64)
    windowed = Windowed(inner, window=4, stride=2)
    (slope,) = torch.autograd.grad(windowed(film, t, None).sum(), film)
    moved = windowed(film.detach() + 1.0, t, None) - windowed(film.detach(), t, None)
    torch.testing.assert_close(slope.sum(), moved.sum(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("window", "stride"), [(4, 5), (4, 0), (0, 0)])
def test_frames_that_nobody_would_see_are_refused(window, stride):
    with pytest.raises(Refusal, match=f"window {window}, stride {stride}"):
        fusion(9, window=window, stride=stride)


@pytest.mark.parametrize(("axis", "window", "calls"), [("h", 2, 2), ("w", 2, 3), ("w", 4, 1)])
def test_windows_lie_along_any_axis(axis, window, calls):
    """Rows and columns too: a network of single pixels cannot tell, and is shown no more than the window."""
    shown, film, t = [], noisy(5), torch.rand(2, 5, generator=torch.Generator().manual_seed(0))

    def network(film, t, condition):
        shown.append(dict(zip("bcfhw", film.shape, strict=True))[axis])
        return torch.sin(3 * film) + t[:, None, :, None, None]

    denoiser = NetworkDenoiser(network, prediction="clean")
    whole = denoiser(film, t, None)
    shown.clear()
    assert torch.equal(Windowed(denoiser, window, 1, axis=axis)(film, t, None), whole)
    assert shown == [window] * calls


def test_one_axis_in_the_other_is_a_tile_and_its_shares_are_a_product():
    film, t = noisy(2, torch.float64), torch.zeros(2, 2)

    def corner(film, t, condition):
        """Says nothing but in the first row and column of what it sees."""
        said = torch.zeros_like(film)
        said[..., 0, 0] = 1
        return said

    denoiser = NetworkDenoiser(corner, prediction="clean")
    fused = Windowed(Windowed(denoiser, 2, 1, axis="w"), 2, 1, axis="h")(film, t, None)
    row, column = (_of_the_first(fusion(side, window=2, stride=1)) for side in (3, 4))
    torch.testing.assert_close(fused, (row[:, None] * column).expand_as(fused), atol=1e-15, rtol=0)


def _of_the_first(shares):
    """How much of each place is the guess of the window that begins there."""
    own = torch.zeros(shares.shape[1], dtype=shares.dtype)
    for share in shares:
        first = int(share.nonzero()[0])
        own[first] = share[first]
    return own
