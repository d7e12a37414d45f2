"""Settings of a process are the schedules they name, and the clock is what public models are told."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from mutoscope.diffusion.betas import linear_betas, scaled_linear_betas, zero_terminal
from mutoscope.diffusion.denoiser import Preconditioning
from mutoscope.diffusion.prediction import Prediction, target
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.schedule import STRAIGHT

TIMES = torch.linspace(0, 1, 11, dtype=torch.float64)


def test_the_default_is_the_cosine_of_video_diffusion_models():
    """lambda(t) = -2 ln tan(a t + b), b = arctan(exp(-10)), a = arctan(exp(10)) - b."""
    b = math.atan(math.exp(-10))
    a = math.atan(math.exp(10)) - b
    expected = -2 * torch.tan(a * TIMES + b).log()
    torch.testing.assert_close(Process().noising().log_snr(TIMES), expected, rtol=1e-10, atol=1e-8)
    assert Process().prediction == "velocity"


def test_the_straight_line_is_the_one_of_everything_else_here():
    assert Process(schedule="straight").noising() == STRAIGHT


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_tables_are_those_of_their_makers(name: str, terminal: bool):
    make = linear_betas if name == "linear" else scaled_linear_betas
    table = make(50, start=0.001, end=0.03)
    process = Process(schedule=name, betas=(0.001, 0.03), steps=50, zero_terminal=terminal)  # type: ignore[arg-type]
    expected = zero_terminal(table) if terminal else table
    torch.testing.assert_close(process.noising().alpha(TIMES), expected.alpha(TIMES), rtol=0, atol=0)


def test_the_clock_of_a_table_counts_its_steps_from_0():
    process = Process(schedule="scaled_linear")
    steps = torch.tensor([0, 1, 500, 999], dtype=torch.float64)
    torch.testing.assert_close(process.clock((steps + 1) / 1000), steps, rtol=0, atol=1e-9)


def test_the_clock_of_a_continuous_process_runs_to_1000():
    assert torch.equal(Process().clock(torch.tensor([0.0, 0.25, 1.0])), torch.tensor([0.0, 250.0, 1000.0]))


def test_films_of_a_deviation_are_denoised_with_edms_preconditioning():
    """2206.00364, Table 1: what the network says is minus EDM's; at deviation 1 nothing changes."""
    generator = torch.Generator().manual_seed(0)
    noisy, said = (torch.randn(1, 2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([[0.05, 0.5, 0.98]], dtype=torch.float64)

    def network(noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        return said

    process = Process(deviation=0.4)
    pre = Preconditioning(process.noising().level(t), std=0.4)
    skip, out = (x[:, None, :, None, None] for x in (pre.skip, pre.out))
    guess = process.denoiser(network)(noisy, t, None)
    torch.testing.assert_close(guess, skip * noisy - out * said, rtol=1e-12, atol=1e-12)
    same = Process(deviation=1.0).denoiser(network)(noisy, t, None)
    torch.testing.assert_close(same, Process().denoiser(network)(noisy, t, None), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["clean", "noise", "flow", "velocity", "score"])
def test_a_perfect_network_gives_back_the_film_whatever_it_says(kind: Prediction):
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([[0.05, 0.5, 0.98]], dtype=torch.float64)
    process = Process(prediction=kind, deviation=0.4)
    level = process.noising().level(t)

    def network(noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        return target(kind, clean=clean / 0.4, noise=noise, level=process.seen(level))

    torch.testing.assert_close(process.denoiser(network)(level.mix(clean, noise), t, None), clean)


def test_settings_travel_as_text_and_unknown_ones_are_refused():
    process = Process(schedule="linear", prediction="noise", betas=(1e-4, 0.02))
    assert Process.model_validate_json(process.model_dump_json()) == process
    with pytest.raises(ValidationError):
        Process(schedule="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Process(limits=3)  # type: ignore[call-arg]
