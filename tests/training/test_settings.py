"""What a caller may ask for, and what it is told."""

from typing import Any

import pytest

from mutoscope.training.settings import BOOKKEEPING, Progress, TrainSettings


@pytest.mark.parametrize("changes", [{}, {"steps": 3, "minutes": 1.0}])
def test_exactly_one_length(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of steps and minutes"):
        TrainSettings.model_validate(changes)


@pytest.mark.parametrize(
    "changes", [{"steps": 0}, {"minutes": 0.0}, {"keep": 1}, {"clip": 0}, {"ema": 1.0}, {"decay_share": 1.1},
                {"precision": "float16"}, {"leraning_rate": 1}, {"optimizer": {"momentum": 1.0}}]
)  # fmt: skip
def test_ranges_are_kept(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        TrainSettings.model_validate({"steps": 1} | changes)


def test_settings_are_frozen_and_go_round_as_json() -> None:
    settings = TrainSettings(minutes=2.5, precision="bfloat16")
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings


def test_bookkeeping_names_settings() -> None:
    assert set(BOOKKEEPING) <= set(TrainSettings.model_fields)


def test_every_setting_is_described() -> None:
    plain = [name for name, field in TrainSettings.model_fields.items() if not field.description]
    assert plain == ["optimizer"]


def test_progress_reads_as_one_line() -> None:
    progress = Progress(
        step=7, steps=None, losses={"loss": 0.12345, "kl": 12.0}, rate=2.0, samples_rate=8.0, eta=None,
        lr=0.02, grad_norm=0.5, elapsed=3.0, event="saved",
    )  # fmt: skip
    assert str(progress) == (
        "step 7/?  loss 0.1235  kl 12  gradient 0.5  8 samples/s  measuring the rate  [saved]"
    )
