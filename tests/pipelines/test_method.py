"""Settings of sampling: by name or text, whole in the notes, refused in one line where they mean nothing."""

import json

import pytest
from pydantic import ValidationError

from mutoscope.pipelines.method import RENEWING, Method
from mutoscope.pipelines.provenance import Provenance, notes_of, provenance_of
from mutoscope.pipelines.request import asked
from mutoscope.pipelines.sampling import SAMPLERS
from mutoscope.video import Refusal
from tiny import FACTS

LONGER = {
    "noise": "mixed:1.5", "passes": 2, "window": 5, "shift": "size", "guidance_kind": "zero-star",
    "guidance_band": (0.2, 0.9), "guidance_rescale": 0.7, "guidance_last": 5.0,
}  # fmt: skip


def test_what_is_left_out_is_as_usual_and_the_noise_is_the_models_own() -> None:
    assert asked("rain", FACTS).method == Method()
    mixed = FACTS.model_copy(update={"noise": Method(noise="mixed:2").noise})
    assert asked("rain", mixed).method.noise.a == 2
    assert asked("rain", mixed, noise="independent").method == Method()


@pytest.mark.parametrize(
    ("text", "settings"), [("mixed", ("mixed", None)), ("progressive:0.5", ("progressive", 0.5))]
)
def test_noise_as_people_write_it(text: str, settings: tuple[str, float | None]) -> None:
    noise = asked("rain", FACTS, noise=text).method.noise
    assert (noise.name, noise.a) == settings


def test_a_number_as_text_is_a_number() -> None:
    assert asked("rain", FACTS, shift="4.5").method.shift == 4.5
    assert asked("rain", FACTS, shift="size").method.shift == "size"


def test_all_of_it_travels_with_the_film() -> None:
    made = Provenance(asked("rain", FACTS, **LONGER), "sha256:a", "tiny", "float32", {})
    assert provenance_of(notes_of(made), name="x.mp4") == made


def test_what_is_usual_goes_without_saying() -> None:
    said = json.loads(notes_of(Provenance(asked("rain", FACTS), "", "", "auto", {}))["settings"])
    assert "method" not in said
    some = asked("rain", FACTS, guidance_rescale=0.5)
    said = json.loads(notes_of(Provenance(some, "", "", "auto", {}))["settings"])
    assert said["method"] == {"guidance_rescale": 0.5}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"noise": "pink"}, "noise.name is 'pink'"),
        ({"noise": "mixed:much"}, "noise.a is 'much'"),
        ({"noise": "mixed:-1"}, "noise.a is '-1'"),
        ({"noise": "independent:2"}, "only mixed and progressive noise take a number"),
        ({"passes": 0}, "passes is 0"),
        ({"window": 0}, "window is 0"),
        ({"shift": 0.0}, "shift is 0; it must be above 0"),
        ({"stabilise": 1.0}, "stabilise is 1.0"),
        ({"guidance_kind": "loud"}, "guidance_kind is 'loud'.*'zero-star'"),
        ({"guidance_band": (0.9, 0.2)}, "guidance band"),
        ({"guidance_rescale": 2}, "guidance_rescale is 2"),
        ({"guidance_last": -1}, "guidance_last is -1"),
        ({"smoothness": float("nan")}, "smoothness is nan"),
        ({"guidanse_kind": "plain"}, "did you mean guidance_kind"),
        ({"method": Method()}, "no setting 'method'"),
    ],
)
def test_what_is_no_setting_is_refused(settings: dict, match: str) -> None:
    with pytest.raises(Refusal, match=match) as caught:
        asked("rain", FACTS, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"guidance": 1, "guidance_kind": "projected"}, "nothing is guided and guidance_kind does nothing"),
        ({"guidance": 1, "guidance_band": (0.1, 0.9)}, "guidance_band does nothing"),
        ({"guidance": 1, "weak": "sha256:a"}, "weak does nothing"),
        ({"weak": "sha256:a", "negative": "snow"}, "leave out negative or weak"),
        ({"weak": "sha256:a", "guidance_rescale": 0.7}, "leave out guidance_rescale or weak"),
        ({"smoothness": 2, "guidance_last": 2}, "leave out guidance_last or smoothness"),
        ({"passes": 2, "noise": "progressive"}, "not progressive"),
        ({"stabilise": 0.02}, "plan full has none"),
        ({"plan": "rolling", "passes": 2}, "leave out passes"),
        ({"plan": "rolling", "guidance_last": 2}, "leave out guidance_last"),
        ({"plan": "rolling", "sampler": "ddpm"}, "sampler is ddpm, which adds noise"),
    ],
)
def test_what_means_nothing_together_is_refused(settings: dict, match: str) -> None:
    with pytest.raises(Refusal, match=match) as caught:
        asked("rain", FACTS, **settings)
    assert "\n" not in str(caught.value)


def test_a_rising_guidance_may_begin_at_none() -> None:
    rising = asked("rain", FACTS, guidance=1, guidance_last=5, guidance_kind="projected")
    assert rising.method.guidance_last == 5


def test_samplers_that_add_noise_are_among_the_samplers() -> None:
    assert set(RENEWING) < set(SAMPLERS)


def test_a_method_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Method().passes = 2  # type: ignore[misc]
