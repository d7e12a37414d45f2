"""A caption says nothing that its scene does not show, and leaves things out as often as it says it does."""

import re

import numpy as np
import pytest

from mutoscope.data.captions import KEPT, NAMED, TERSE, caption, every_wording, full_caption
from mutoscope.data.world import FULL, SMALL, Scene, Vocabulary
from mutoscope.data.world.vocabulary import QUADRUPEDS, with_words
from mutoscope.models.tokenizer import Tokenizer

MAN = Scene(
    "man", "walking", "red", "street", "rain", "night", "flat illustration", "left", "following", 5
)

# What a reader takes each word of the captions to mean, written down apart from the tables under test.
SIGNS = {
    "subject": {word: rf"\b{word}\b" for word in FULL.subject},
    "action": {word: rf"\b{word}\b" for word in FULL.action},
    "colour": {word: rf"\b{word} coat\b" for word in FULL.colour},
    "place": {
        "street": "street|city", "park": "park", "beach": "beach", "mountains": "mountain",
        "desert": "desert",
    },
    "weather": {"clear": "clear|sunny", "rain": "rain", "snow": "snow", "fog": "fog"},
    "light": {"day": r"\bday\b|daylight", "sunset": "sunset", "night": "night"},
    "style": {
        "flat illustration": "flat illustration", "pencil sketch": "pencil", "neon": "neon",
        "paper cut-out": "paper",
    },
    "direction": {"left": r"\bleft\b", "right": r"\bright\b"},
    "camera": {
        "still": "still camera|static camera", "following": "camera follows|following camera",
        "panning": "panning|pans", "zooming in": "zoom",
    },
}  # fmt: skip


def said(text: str) -> dict[str, set[str]]:
    """Attribute -> the words that a reader finds in a caption."""
    return {
        name: {word for word, sign in signs.items() if re.search(sign, text)}
        for name, signs in SIGNS.items()
    }


def told(scene: Scene, count: int, *, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [caption(scene, random) for _ in range(count)]


@pytest.mark.parametrize("vocabulary", [SMALL, FULL], ids=["small", "full"])
def test_a_caption_never_names_what_the_scene_lacks(vocabulary: Vocabulary):
    random = np.random.default_rng(0)
    for scene in vocabulary.scenes(3, 0, 400):
        text = caption(scene, random)
        for name, words in said(text).items():
            assert words <= {getattr(scene, name)}, text


def test_things_are_left_out_at_the_stated_rates():
    texts = [said(text) for text in told(MAN, 3000)]
    for name, share in NAMED.items():
        kept = 1 if name == "action" else 1 - TERSE * (1 - KEPT)
        assert np.mean([bool(found[name]) for found in texts]) == pytest.approx(share * kept, abs=0.03), name
    assert all(found["subject"] == {"man"} for found in texts)


def test_what_one_caption_leaves_out_it_leaves_out_independently_but_for_terse_ones():
    texts = [said(text) for text in told(MAN, 3000)]
    both = np.mean([bool(found["weather"]) and bool(found["light"]) for found in texts])
    alike = NAMED["weather"] * NAMED["light"]
    assert both == pytest.approx(alike * (1 - TERSE * (1 - KEPT**2)), abs=0.03)


def test_the_shortest_prompts_are_captions_too():
    texts = told(MAN, 3000)
    assert 0.005 < np.mean([text == "a man walking in the rain" for text in texts]) < 0.05


def test_a_scene_is_told_in_many_ways_each_a_function_of_the_generator():
    texts = told(MAN, 300)
    assert len(set(texts)) > 200
    assert texts == told(MAN, 300) != told(MAN, 300, seed=1)


@pytest.mark.parametrize("scene", FULL.scenes(5, 0, 12), ids=lambda scene: scene.subject)
def test_the_full_caption_names_everything_but_the_camera(scene: Scene):
    found = said(full_caption(scene))
    assert found.pop("camera") == set()
    assert found == {name: {getattr(scene, name)} for name in found}


def test_full_captions_are_worded_once_and_for_all():
    assert full_caption(MAN) == (
        "a flat illustration of a man in a red coat walking to the left on a street in the rain at night"
    )
    assert full_caption(with_words(MAN, weather="clear", light="day", action="waving")) == (
        "a flat illustration of a man in a red coat waving facing left on a street on a clear sunny day"
    )
    assert full_caption(MAN, without=set(NAMED)) == "a man"
    assert full_caption(MAN, without=set(NAMED) - {"camera"}) == "a man, the camera follows"


def test_other_scenes_of_the_same_words_are_told_alike():
    assert full_caption(MAN) == full_caption(Scene(**MAN.words(), seed=6))
    scenes = SMALL.scenes(0, 0, 300)
    different = {tuple(scene.words().values()) for scene in scenes}
    assert len({full_caption(scene, without=()) for scene in scenes}) == len(different)


@pytest.mark.parametrize(("subject", "start"), [("astronaut", "an astronaut"), ("robot", "a robot")])
def test_articles(subject: str, start: str):
    assert full_caption(with_words(MAN, subject=subject), without=["style"]).startswith(start)
    assert "an orange coat" in full_caption(with_words(MAN, subject=subject, colour="orange"))


def test_no_caption_has_a_wrong_article_or_a_double_space():
    random = np.random.default_rng(1)
    for scene in FULL.scenes(6, 0, 300):
        text = caption(scene, random)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |[{}]", text), text


def test_four_legs_wear_nothing():
    random = np.random.default_rng(2)
    animals = [scene for scene in FULL.scenes(7, 0, 200) if scene.subject in QUADRUPEDS]
    assert len(animals) > 20
    assert not any("wearing" in caption(scene, random) for scene in animals)


@pytest.mark.parametrize("vocabulary", [SMALL, FULL], ids=["small", "full"])
def test_a_tokenizer_of_every_wording_knows_every_caption(vocabulary: Vocabulary):
    tokenizer = Tokenizer.train(every_wording(vocabulary), 512)
    random = np.random.default_rng(3)
    for scene in vocabulary.scenes(8, 0, 500):
        text = caption(scene, random)
        assert not tokenizer.unknown_words(text), text
        assert not tokenizer.unknown_words(full_caption(scene, without=()))
    # and captions fit the length that recipes give them
    longest = [full_caption(scene, without=()) for scene in vocabulary.scenes(9, 0, 50)]
    assert int(tokenizer.encode(longest).mask.sum(1).max()) <= 32


def test_the_prompts_of_the_readme_are_known():
    tokenizer = Tokenizer.train(every_wording(SMALL), 512)
    for prompt in (
        "a man walking in the rain",
        "a woman in a red coat running to the left in the snow at night",
        "a pencil sketch of a child waving in a park",
    ):
        assert not tokenizer.unknown_words(prompt)
    assert tokenizer.unknown_words("a purple dragon")
