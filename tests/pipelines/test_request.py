"""What can be asked, what cannot, and that each refusal is one line with the value and the way out."""

import pytest

from mutoscope.checkpoints.folder import ModelFacts
from mutoscope.pipelines.request import Request, asked, checked, parsed_size
from mutoscope.video import Refusal
from tiny import FACTS


def test_what_is_left_out_is_the_models_own() -> None:
    request = asked("rain", FACTS, steps=7, guidance=None)
    assert request == Request(
        prompt="rain", frames=9, size=(32, 32), fps=12, steps=7, guidance=3.0, sampler="euler"
    )


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"), [(2, 12, 24), (2.1, 12, 25), (0.01, 12, 1), (1, 24, 24), (2.5, 10, 25)]
)
def test_seconds_become_frames_at_the_rate(seconds: float, fps: float, frames: int) -> None:
    request = asked("rain", FACTS, seconds=seconds, fps=fps)
    assert request.frames == frames
    assert request.seconds == pytest.approx(frames / fps)


@pytest.mark.parametrize("text", ["160x96", "160X96", " 160 x 96 ", "160×96", "160*96", "160,96"])
def test_sizes_as_people_write_them(text: str) -> None:
    assert parsed_size(text) == asked("rain", FACTS, size=text).size == (160, 96)


@pytest.mark.parametrize("text", ["160", "x", "160x", "-160x96", "160x96x3", "wide", "1.5x2"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(Refusal, match="like 160x96"):
        asked("rain", FACTS, size=text)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"size": (0, 64)}, "size is 0x64; each side must be from 8 to 4096"),
        ({"size": (9999, 64)}, "size is 9999x64"),
        ({"frames": 0}, "frames is 0; it must be from 1 to 100000"),
        ({"frames": 2.5}, "frames is 2.5"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"guidance": -1}, "guidance is -1"),
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"sampler": "magic"}, "sampler is 'magic'.*'euler', 'heun', 'multistep', .* or 'churn'"),
        ({"plan": "magic"}, "plan is 'magic'.*'full', 'autoregressive'"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": -2}, "seconds is -2"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": 1e9}, "100000 frames"),
        ({"seconds": "long"}, "seconds is 'long'; it must be a number"),
        ({"seconds": 1, "frames": 12}, "both frames"),
        ({"stepz": 3}, "no setting 'stepz'; did you mean steps?"),
        ({"colour": 3}, "no setting 'colour'; there are prompt"),
        ({"negative": "x" * 20_000}, "20000 characters"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(settings: dict, match: str) -> None:
    with pytest.raises(Refusal, match=match) as caught:
        asked("rain", FACTS, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prompt", ["", "  ", "\n\t"])
def test_an_empty_prompt_is_refused_with_an_example(prompt: str) -> None:
    with pytest.raises(Refusal, match="a man walking in the rain"):
        asked(prompt, FACTS)


@pytest.mark.parametrize("prompt", ["rain\x00", "\ud800", "a\x1b[31mred"])
def test_control_characters_are_refused(prompt: str) -> None:
    with pytest.raises(Refusal, match="control characters"):
        asked(prompt, FACTS)


@pytest.mark.parametrize("prompt", ["émigré 雨 🌧", "two\nlines", "tab\there"])
def test_any_plain_text_is_a_prompt(prompt: str) -> None:
    assert asked(prompt, FACTS).prompt == prompt


def test_a_request_survives_json() -> None:
    request = asked("rain", ModelFacts(), seed=2**63 - 1, guidance=1.1, negative="sun")
    assert checked(request.model_dump(mode="json")) == request


def test_a_request_does_not_change() -> None:
    request = asked("rain", FACTS)
    with pytest.raises(ValueError, match="frozen"):
        request.seed = 3  # type: ignore[misc]
