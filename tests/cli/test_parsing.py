"""A recipe's settings leave the command line before it is read, and what nobody knows is said in one line."""

import pytest

from mutoscope.cli import COMMANDS
from mutoscope.cli.parsing import Misuse, _without_settings, parsed


def test_settings_are_taken_out_and_own_options_stay():
    line = "train cpu --latents 64 --out runs/a --autoencoder.train.minutes=5 --stage denoiser".split()
    kept, settings = _without_settings(line)
    assert kept == "train cpu --out runs/a --stage denoiser".split()
    assert settings == {"latents": "64", "autoencoder.train.minutes": "5"}


def test_an_own_option_may_carry_its_value_behind_an_equals_sign():
    kept, settings = _without_settings(["train", "--out=runs/a", "smoke"])
    assert kept == ["train", "--out=runs/a", "smoke"] and settings == {}


def test_other_commands_keep_everything():
    line = ["generate", "a man", "--steps", "4"]
    assert _without_settings(line) == (line, {})


def test_a_setting_needs_a_value():
    with pytest.raises(Misuse, match="--latents has no value"):
        _without_settings(["train", "cpu", "--latents"])


def test_settings_reach_the_command():
    call = parsed(["train", "smoke", "--latents", "64"], COMMANDS)
    assert call.keywords["settings"] == {"latents": "64"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trane smoke", "no command 'trane'; did you mean train?"),
        ("reproduce", "FILE"),
        ("generate x --stepz 3", "did you mean --steps?"),
        ("generate x --steps many", "--steps is 'many', which is no number"),
        ("evaluate everything", "everything"),
    ],
)
def test_misuse_is_one_line(line: str, said: str):
    with pytest.raises(Misuse) as caught:
        parsed(line.split(), COMMANDS)
    text = str(caught.value)
    assert said in text and "\n" not in text
