"""Agreement against known intervals, and what its mean, its bootstrap and its visibility promise."""

import math
import random
from typing import Any

import pytest

from mutoscope.evaluation.agreement import Agreement, Share, agreement, table, visibility, wilson
from mutoscope.video import Refusal

WORDS = {
    "subject": ("man", "woman", "child"),
    "style": ("flat", "neon"),
    "colour": ("red", "blue", "green", "black"),
}


def scenes(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    draw = random.Random(seed)
    return [{name: draw.choice(choices) for name, choices in WORDS.items()} for _ in range(count)]


def made(told: list[dict[str, str]], asked: list[dict[str, str]], **settings: Any) -> Agreement:
    return agreement(told, asked, words=WORDS, **settings)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # the first three: Newcombe 1998, table I, method 3 (score, no continuity correction)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (10, 10, 0.7225, 1.0)],
)
def test_wilson_of_published_examples(right: int, count: int, low: float, high: float) -> None:
    interval = wilson(right, count)
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)


@pytest.mark.oracle
def test_wilson_ends_solve_the_score_equation() -> None:
    """Its ends are the p with |share - p| = z sqrt(p (1 - p) / n)."""
    interval = wilson(42, 60)
    for end in (interval.low, interval.high):
        assert abs(0.7 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 60), rel=1e-9)


@pytest.mark.parametrize(("right", "count"), [(1, 0), (5, 4), (-1, 4)])
def test_impossible_counts_are_refused(right: int, count: int) -> None:
    with pytest.raises(Refusal, match="right of"):
        wilson(right, count)


def test_perfect_answers_agree_wholly() -> None:
    asked = scenes(40)
    result = made(asked, asked)
    assert result.mean == 1 and result.interval.high == 1 and result.interval.low == 1
    assert result.missed == []
    assert all(one.share == 1 and one.clips == 40 for one in result.attributes.values())


def test_guesses_agree_by_chance_and_are_not_learnt() -> None:
    result = made(scenes(600, seed=1), scenes(600, seed=2))
    for name, words in WORDS.items():
        one = result.attributes[name]
        assert one.chance == 1 / len(words)
        assert one.interval.low < one.chance < one.interval.high
    assert result.missed == list(WORDS)
    assert result.interval.low < (1 / 3 + 1 / 2 + 1 / 4) / 3 < result.interval.high


def test_half_way_is_between_chance_and_certainty() -> None:
    interval = wilson(5, 8)
    quarter = Share(0.625, interval, 0.25, 8, 8)
    assert quarter.half_way == 0.625 and quarter.learnt
    assert not Share(0.624, interval, 0.25, 8, 8).learnt


def test_the_mean_is_over_attributes_not_over_questions() -> None:
    asked = scenes(10)
    told = [dict(scene) for scene in asked]
    for scene in told:
        scene["colour"] = "none of them"
    del asked[0]["subject"]  # asked for one time less; still a third of the mean
    result = made(told, asked)
    assert result.mean == pytest.approx(2 / 3)
    assert result.attributes["subject"].clips == 9


def test_an_attribute_never_asked_for_is_not_judged() -> None:
    asked = [{"colour": "red"}] * 4
    assert list(made(scenes(4), asked).attributes) == ["colour"]
    with pytest.raises(Refusal, match="nothing to judge: no prompt asks for any of subject, style, colour"):
        made(scenes(2), [{}, {}])


def test_more_seeds_of_the_same_prompts_do_not_feign_certainty() -> None:
    asked, told = scenes(30), scenes(30, seed=1)
    once = made(told, asked)
    often = made(told * 5, asked * 5, prompts=[*range(30)] * 5)
    assert often.attributes["colour"].clips == 150 and often.attributes["colour"].prompts == 30
    assert often.attributes["colour"].interval.low == pytest.approx(once.attributes["colour"].interval.low)
    assert often.interval.low == pytest.approx(once.interval.low, abs=1e-9)
    careless = made(told * 5, asked * 5)
    assert careless.interval.high - careless.interval.low < 0.6 * (often.interval.high - often.interval.low)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    """Answers right with probability 0.8: of 60 samples of 50 prompts, nearly all intervals hold 0.8."""
    held = 0
    for seed in range(60):
        draw, asked = random.Random(seed), scenes(50, seed=seed)
        told = [{n: w if draw.random() < 0.8 else "wrong" for n, w in scene.items()} for scene in asked]
        interval = made(told, asked, draws=300).interval
        held += interval.low <= 0.8 <= interval.high
    assert held >= 52


def test_what_true_clips_do_not_show_does_not_count() -> None:
    shown = scenes(200)
    told = [dict(s, colour="black") if s["style"] == "neon" else s for s in shown]
    seen = visibility(told, shown, words=WORDS)
    assert seen.seen("flat", "colour") and not seen.seen("neon", "colour")
    assert seen.hidden == [("neon", "colour")]
    assert seen.seen("a style never measured", "colour")
    result = made(told, shown, counts=seen.counts)
    assert result.attributes["colour"].share == 1
    assert result.attributes["colour"].clips == sum(s["style"] == "flat" for s in shown)
    assert made(told, shown).attributes["colour"].share < 0.8


def test_the_table_has_a_row_for_each_attribute_and_names_what_failed() -> None:
    asked = scenes(50)
    told = [dict(scene, colour="red") for scene in asked]
    lines = table(made(told, asked), ceilings={"drawn": made(asked, asked)}).splitlines()
    assert [line.split()[0] for line in lines] == ["attribute", *WORDS, "mean"]
    assert "100.0 %" in lines[1] and "drawn" in lines[0]
    assert [line.endswith("below half-way") for line in lines[1:-1]] == [False, False, True]


def test_as_dict_holds_what_the_table_says() -> None:
    asked = scenes(20)
    facts = made(asked, asked).as_dict()
    assert facts["mean"] == {"share": 1.0, "low": 1.0, "high": 1.0}
    assert facts["attributes"]["colour"]["half_way"] == 0.625 and facts["attributes"]["colour"]["learnt"]


def test_answers_without_questions_are_refused() -> None:
    with pytest.raises(Refusal, match="one for each clip"):
        made(scenes(2), scenes(3))
    with pytest.raises(Refusal, match="at least one clip"):
        made([], [])
