"""E6: the closed form is the reference's, and our sampler meets it to 1e-3."""

import pytest
import torch
from benchmarks.exact import zero_snr
from benchmarks.exact.zero_snr import SIZES, closed_form, generated, schedules

from mutoscope.diffusion.betas import scaled_linear_betas

# Reference values to two digits: a 64x64 picture, 16x64x64 and 16x32x32 films.
REFERENCE = {
    "Stable Diffusion's betas": (0.61, 0.19, 0.36),
    "LVDM's betas": (0.90, 0.45, 0.71),
    "DDPM's betas": (0.99, 0.90, 0.97),
    "Stable Diffusion's, zero-terminal": (1.0, 1.0, 1.0),
    "cosine": (1.0, 1.0, 1.0),
}


@pytest.mark.parametrize("named", schedules(), ids=lambda named: named.name)
def test_the_closed_form_is_the_references(named):
    got = [closed_form(named.schedule, size) for size in SIZES]
    assert got == pytest.approx(REFERENCE[named.name], abs=0.0051)


@pytest.mark.oracle
def test_our_sampler_meets_the_closed_form():
    schedule = scaled_linear_betas()
    expected = torch.tensor([closed_form(schedule, size) for size in SIZES], dtype=torch.float64)
    torch.testing.assert_close(generated(schedule, steps=50), expected, atol=1e-3, rtol=0)
    assert expected[1] < expected[2] < expected[0]  # the larger the film, the worse


def test_a_row_for_every_schedule_and_size(monkeypatch):
    monkeypatch.setattr(zero_snr, "generated", lambda schedule: torch.zeros(3))
    rows = zero_snr.rows()
    assert len(rows) == 15 and {row.experiment for row in rows} == {"E6"}
    assert len({row.quantity for row in rows}) == 15
    assert rows[1].quantity == "brightness kept, Stable Diffusion's betas, 16x64x64"
    assert rows[1].stated == pytest.approx(0.1874, abs=1e-4) and rows[1].measured == 0
