"""Errors at each level of noise, at the smallest size, against what can be told without a network."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mutoscope.checkpoints.unet_folder import StageFacts, UNetModel, save_unet_model
from mutoscope.diffusion.process import Process
from tiny import tiny_unet_model


@pytest.fixture(scope="module")
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("errors")


def of_the_world(model: UNetModel, **facts: object) -> UNetModel:
    return replace(model, facts=model.facts.model_copy(update={"vocabulary": "small"} | facts))


@torch.no_grad()
def silent(model: UNetModel) -> UNetModel:
    """A network that says 0."""
    for weight in model.unet.last.parameters():
        weight.zero_()
    return model


def test_a_velocity_of_nothing_is_wrong_by_all_of_it(bench: ModuleType):
    """Its error is the square of the velocity itself, alpha noise - sigma clean."""
    measured, schedule = bench.Measured.on(silent(of_the_world(tiny_unet_model())), 2), Process().noising()
    errors = measured.errors(list(measured.captions), apart=False)
    for t, error in zip(bench.LEVELS, errors, strict=True):
        total = 0.0
        for sample, clean in enumerate(measured.clean):
            noise = torch.randn(clean[None].shape, generator=torch.Generator().manual_seed(sample))[0]
            alpha, sigma = schedule.alpha(torch.tensor(t)), schedule.sigma(torch.tensor(t))
            total += float((alpha * noise - sigma * clean).square().mean()) / 2
        assert error == pytest.approx(total, rel=1e-3)


def test_what_a_stage_is_told_is_not_counted(bench: ModuleType):
    """Frames that fade are a guess without error where nothing moves, whatever the noise."""
    model = replace(tiny_unet_model(known=True), stage=StageFacts(kind="between", factor=4, noise=0.0))
    model = silent(of_the_world(model, process=Process(prediction="clean", guesses=True), frames=5))
    measured = bench.Measured.on(model, 1)
    still = replace(measured, clean=measured.clean[:, :, :1].expand(-1, -1, 5, -1, -1).contiguous())
    assert max(still.errors([""], apart=False)) < 1e-6 < max(measured.errors([""], apart=False))


def test_other_frames_are_worth_something_to_a_linear_guess(bench: ModuleType):
    measured = bench.Measured.on(of_the_world(tiny_unet_model()), 2)
    (one, alone), (other, film) = bench.linear(measured, clips=12)
    assert (one, other) == ("linear", "with film")
    seen = [t <= 0.9 for t in bench.LEVELS]  # beyond, little is left of them
    assert all(b < a for a, b, told in zip(alone, film, seen, strict=True) if told)


def test_a_model_that_adds_nothing_is_as_wrong_as_its_first_guess(bench: ModuleType):
    measured = bench.Measured.on(silent(of_the_world(tiny_unet_model(linear=True))), 2)
    found, guess = measured.errors(list(measured.captions), apart=False), measured.model.linear
    assert guess is not None
    for t, error in zip(bench.LEVELS, found, strict=True):
        level, total = Process().noising().level(torch.full((1, measured.clean.shape[2]), t)), 0.0
        for sample, clean in enumerate(measured.clean.split(1)):
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(sample))
            wrong = (guess.guess(level.mix(clean, noise), level).film - clean) / level.sigma[0, 0]
            total += float(wrong.square().mean()) / 2
        assert error == pytest.approx(total, rel=1e-3)


def test_every_row_that_a_model_can_have_is_printed(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    reads, silent = (of_the_world(tiny_unet_model(words=words), frames=2) for words in (True, False))
    folders = [str(save_unet_model(m, tmp_path / n)) for m, n in ((reads, "reads"), (silent, "silent"))]
    monkeypatch.setattr(sys, "argv", ["errors.py", *folders, "--clips", "2"])
    bench.main()
    rows = [line.split("  ")[0].rstrip() for line in capsys.readouterr().out.splitlines()]
    names = [row for row in rows if row != "t" and "clips" not in row]
    linear = ["linear", "with film"]
    assert names == ["its words", "others'", "none", "apart", *linear, "as it is", "apart", *linear]
