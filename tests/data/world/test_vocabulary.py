"""Scenes are functions of their numbers, and what is held out of training stays out."""

from collections import Counter
from itertools import product

import pytest

from mutoscope.data.captions import full_caption
from mutoscope.data.world import FULL, SMALL, VOCABULARIES, Scene, Vocabulary, held_out_prompts
from mutoscope.data.world.vocabulary import QUADRUPEDS, as_row, kept_out, possible, with_words

MAN = Scene(
    "man", "walking", "red", "street", "rain", "night", "flat illustration", "left", "following", 5
)


def combinations(vocabulary: Vocabulary) -> set[tuple[str, ...]]:
    words = vocabulary.words()
    names = ("subject", "action", "colour", "weather", "light", "style", "direction")
    return set(product(*(words[name] for name in names)))


@pytest.mark.parametrize("name", sorted(VOCABULARIES))
def test_training_never_shows_what_is_held_out(name: str):
    vocabulary = VOCABULARIES[name]
    shown = {scene.combination for scene in vocabulary.scenes(0, 0, 2000)}
    assert not shown & kept_out()
    assert len(shown) > 500  # the sample says something


def test_the_filter_is_what_keeps_them_out():
    """Without it, the same stream shows about the share of combinations that is on the list."""
    unfiltered = SMALL.scenes(3, 0, 2000, held_out=True)
    found = sum(scene.combination in kept_out() for scene in unfiltered)
    expected = 2000 * len(kept_out()) / len(combinations(SMALL))
    assert 0.75 * expected < found < 1.25 * expected


def test_a_scene_that_is_kept_is_the_same_with_and_without_the_filter():
    pairs = zip(SMALL.scenes(4, 0, 300), SMALL.scenes(4, 0, 300, held_out=True), strict=True)
    differing = [free for kept, free in pairs if kept != free]
    assert differing and all(scene.combination in kept_out() for scene in differing)


def test_two_hundred_distinct_prompts_come_from_the_small_vocabulary():
    listed = held_out_prompts()
    assert len({prompt for prompt, _ in listed}) == len(listed) == 200
    assert kept_out() == {scene.combination for _, scene in listed}
    for _, scene in listed:
        assert all(word in SMALL.words()[name] for name, word in scene.words().items())


def test_the_listed_prompts_tell_their_scenes_in_full():
    for prompt, scene in held_out_prompts():
        assert prompt == full_caption(scene)


def test_every_small_word_is_held_out_in_some_prompts_but_never_altogether():
    """A word that training never showed could not be learnt; one that no prompt asks for is not measured."""
    for name, words in SMALL.words().items():
        asked = {getattr(scene, name) for _, scene in held_out_prompts()}
        shown = {getattr(scene, name) for scene in SMALL.scenes(0, 0, 300)}
        assert asked == shown == set(words)


def test_a_scene_is_a_function_of_seed_and_index():
    assert FULL.scene(7, 11) == FULL.scene(7, 11)
    assert FULL.scenes(7, 10, 3)[1] == FULL.scene(7, 11)
    assert FULL.scenes(7, 0, 20)[5:9] == FULL.scenes(7, 5, 4)
    assert FULL.scenes(7, 0, 0) == []


def test_seeds_and_indices_share_nothing():
    scenes = FULL.scenes(7, 0, 200) + FULL.scenes(8, 0, 200)
    assert len({scene.seed for scene in scenes}) == 400
    assert FULL.scene(1, 0) != FULL.scene(0, 1)


def test_scenes_are_drawn_evenly():
    counts = Counter(scene.colour for scene in SMALL.scenes(1, 0, 2000))
    assert set(counts) == set(SMALL.colour)
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_scenes_stay_within_their_vocabulary():
    words = SMALL.words()
    for scene in SMALL.scenes(2, 0, 200):
        assert all(word in words[name] for name, word in scene.words().items())


@pytest.mark.parametrize("subject", sorted(QUADRUPEDS))
@pytest.mark.parametrize("action", ["waving", "dancing"])
def test_four_legs_neither_wave_nor_dance(subject: str, action: str):
    assert not possible(with_words(MAN, subject=subject, action=action))
    assert possible(with_words(MAN, subject=subject, action="running"))
    assert possible(with_words(MAN, subject="robot", action=action))


def test_no_stream_shows_the_impossible():
    scenes = FULL.scenes(9, 0, 1000, held_out=True)
    assert all(possible(scene) for scene in scenes)
    assert any(scene.subject in QUADRUPEDS for scene in scenes)


def test_the_small_vocabulary_is_part_of_the_full_one():
    full = FULL.words()
    assert all(set(words) <= set(full[name]) for name, words in SMALL.words().items())
    assert sum(map(len, SMALL.words().values())) < sum(map(len, full.values()))


def test_words_leave_the_seed_out_and_can_be_changed():
    assert "seed" not in MAN.words() and Scene(**MAN.words(), seed=5) == MAN
    changed = with_words(MAN, light="day")
    assert (changed.light, changed.seed, MAN.light) == ("day", 5, "night")
    assert Scene(*as_row(changed)) == changed


def test_place_camera_and_seed_do_not_make_another_combination():
    same = [with_words(MAN, place="park"), with_words(MAN, camera="still"), Scene(**MAN.words(), seed=6)]
    assert {scene.combination for scene in same} == {MAN.combination}
    assert with_words(MAN, direction="right").combination != MAN.combination
