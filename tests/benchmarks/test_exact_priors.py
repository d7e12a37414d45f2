"""The experiments on noise priors come out as the reference states."""

import pytest
import torch
from benchmarks.exact.priors import FRAMES, distance, rows, sampled

from mutoscope.diffusion.drawings.gaussian import ar1
from mutoscope.diffusion.prior import Independent, Mixed, Progressive


def test_every_row_is_as_stated():
    """To half a unit of the last digit; the range of gains at variance 0.25 was stated without its steps."""
    table = rows()
    assert len({row.quantity for row in table}) == len(table) == 20
    for row in table:
        digits = len(str(row.stated).partition(".")[2])
        near = 0.06 if "gain" in row.quantity else 0.5 * 10**-digits
        assert row.measured == pytest.approx(row.stated, abs=near), row.quantity


def test_the_distance_falls_fourfold_where_steps_double():
    """A first-order error, squared."""
    for prior in (Independent(), Mixed(1.0), Progressive(2.0)):
        assert distance(prior, 32) / distance(prior, 64) == pytest.approx(4, abs=0.25)


def test_the_limit_is_the_truth_for_every_prior():
    """Films of 32 and 64 steps, carried on to steps without end: the first-order error goes."""
    for prior in (Independent(), Mixed(1.0), Progressive(2.0)):
        limit = 2 * sampled(prior, 64) - sampled(prior, 32)
        torch.testing.assert_close(limit, ar1(0.98, FRAMES), atol=0.006, rtol=0)
