"""Scenes told in plain English, in many wordings, with things left out.

A caption names a share of what a scene shows; what it leaves out varies freely in the picture, which is how
the model learns that "a man walking in the rain" says nothing about the hour. Every wording says exactly one
word's meaning, so a caption is true by construction, and drawing the caption anew at every view costs
nothing.
"""

from collections.abc import Iterable

import numpy as np

from mutoscope.data.world.vocabulary import QUADRUPEDS, TRAVELLING, Scene, Vocabulary

__all__ = ["caption", "every_wording", "full_caption"]

STYLES = {
    "flat illustration": ("a flat illustration of {}", "{}, flat illustration", "flat illustration of {}"),
    "pencil sketch": ("a pencil sketch of {}", "{}, pencil sketch", "pencil sketch of {}"),
    "neon": ("neon art of {}", "{}, neon", "{} in neon"),
    "paper cut-out": ("a paper cut-out of {}", "{}, paper cut-out", "paper cut-out of {}"),
}
PLACES = {
    "street": ("on a street", "in the street", "in a city"),
    "park": ("in a park", "in the park"),
    "beach": ("on a beach", "at the beach"),
    "mountains": ("in the mountains",),
    "desert": ("in a desert", "in the desert"),
}
WEATHERS = {
    "clear": ("in clear weather", "under a clear sky"),
    "rain": ("in the rain", "in rainy weather"),
    "snow": ("in the snow", "in snowy weather"),
    "fog": ("in the fog", "in foggy weather"),
}
LIGHTS = {
    "day": ("by day", "in daylight", "during the day"),
    "sunset": ("at sunset",),
    "night": ("at night",),
}
CLEAR_DAY = ("on a clear sunny day", "on a sunny day")
CAMERAS = {
    "still": ("still camera", "static camera"),
    "following": ("the camera follows", "following camera"),
    "panning": ("panning camera", "the camera pans"),
    "zooming in": ("the camera zooms in", "zooming camera"),
}
# how often a caption names each attribute
NAMED = {
    "action": 0.97, "colour": 0.75, "direction": 0.8, "place": 0.5,
    "weather": 0.8, "light": 0.7, "style": 0.75, "camera": 0.35,
}  # fmt: skip
# People say little. This share of the captions keeps only so much of all but the action, for a model that is
# told nearly all else in training never has to choose a coat by itself, and then mixes two.
TERSE, KEPT = 0.4, 0.4


def caption(scene: Scene, random: np.random.Generator) -> str:
    """One of the many captions that are true of the scene."""
    kept = KEPT if random.uniform() < TERSE else 1.0
    named = {
        name for name, share in NAMED.items() if random.uniform() < share * (1 if name == "action" else kept)
    }
    return _told(scene, random, named, shuffle=True)


def full_caption(scene: Scene, *, without: Iterable[str] = ("camera",)) -> str:
    """The caption that names everything but `without`, in its first wording."""
    return _told(scene, None, set(NAMED) - set(without), shuffle=False)


def every_wording(vocabulary: Vocabulary) -> list[str]:
    """Text with every word a caption of this vocabulary can use: by it a tokenizer learns and knows words."""
    scenes = [
        Scene(
            subject,
            action,
            colour,
            vocabulary.place[0],
            "clear",
            "day",
            vocabulary.style[0],
            direction,
            "still",
        )
        for subject in vocabulary.subject
        for action in vocabulary.action
        for colour in vocabulary.colour
        for direction in vocabulary.direction
    ]
    tables = (
        (PLACES, vocabulary.place), (WEATHERS, vocabulary.weather), (LIGHTS, vocabulary.light),
        (CAMERAS, vocabulary.camera), (STYLES, vocabulary.style),
    )  # fmt: skip
    wordings = [one.format("a") for table, words in tables for word in words for one in table[word]]
    coats = [
        f"{article} wearing {article} {colour} coat"
        for colour in vocabulary.colour
        for article in ("a", "an")
    ]
    return [full_caption(scene) for scene in scenes] + wordings + coats + list(CLEAR_DAY)


def _told(scene: Scene, random: np.random.Generator | None, named: set[str], *, shuffle: bool) -> str:
    def one(wordings: tuple[str, ...]) -> str:
        return wordings[0 if random is None else int(random.integers(len(wordings)))]

    text = _who(scene, named, one)
    circumstances = _circumstances(scene, named, one)
    if random is not None and shuffle:
        random.shuffle(circumstances)
    text = " ".join([text, *circumstances])
    if "camera" in named:
        text = f"{text}, {one(CAMERAS[scene.camera])}"
    return one(STYLES[scene.style]).format(text) if "style" in named else text


def _who(scene: Scene, named: set[str], one) -> str:
    article = "an" if scene.subject[0] in "aeiou" else "a"
    text = f"{article} {scene.subject}"
    if "colour" in named:
        coats = ("in a {} coat",) if scene.subject in QUADRUPEDS else ("in a {} coat", "wearing a {} coat")
        text += " " + one(coats).format(scene.colour).replace("a orange", "an orange")
    if "action" in named:
        text += f" {scene.action}"
    if "direction" in named:
        moving = scene.action in TRAVELLING and "action" in named
        text += f" to the {scene.direction}" if moving else f" facing {scene.direction}"
    return text


def _circumstances(scene: Scene, named: set[str], one) -> list[str]:
    parts = [one(PLACES[scene.place])] if "place" in named else []
    if {"weather", "light"} <= named and (scene.weather, scene.light) == ("clear", "day"):
        return [*parts, one(CLEAR_DAY)]
    if "weather" in named:
        parts.append(one(WEATHERS[scene.weather]))
    if "light" in named:
        parts.append(one(LIGHTS[scene.light]))
    return parts
