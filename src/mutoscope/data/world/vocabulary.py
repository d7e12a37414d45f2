"""What can be asked of the made world: its words, and one clip's truth.

A `Scene` names everything a caption may say about a clip (who, doing what, in which coat, where, in which
weather and light, drawn how, going which way, filmed how) and carries a seed for everything a caption never
says (hair, trousers, the skyline, the phase of the gait). A `Vocabulary` is a choice of words; the full one
holds all that can be drawn, the small one what a model can learn in an afternoon on a laptop.
"""

import json
from dataclasses import astuple, dataclass, fields, replace
from functools import cache
from importlib.resources import files

import numpy as np

SUBJECTS = ("man", "woman", "child", "robot", "astronaut", "dog", "cat", "horse")
ACTIONS = ("standing still", "walking", "running", "waving", "jumping", "dancing")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black")
PLACES = ("street", "park", "beach", "mountains", "desert")
WEATHERS = ("clear", "rain", "snow", "fog")
LIGHTS = ("day", "sunset", "night")
STYLES = ("flat illustration", "pencil sketch", "neon", "paper cut-out")
DIRECTIONS = ("left", "right")
CAMERAS = ("still", "following", "panning", "zooming in")

QUADRUPEDS = frozenset({"dog", "cat", "horse"})
TRAVELLING = frozenset({"walking", "running"})
ACTIONS_OF_QUADRUPEDS = frozenset({"standing still", "walking", "running", "jumping"})


@dataclass(frozen=True)
class Scene:
    """The truth about a clip: the words that a caption may use, and the seed of all that it leaves out."""

    subject: str
    action: str
    colour: str
    place: str
    weather: str
    light: str
    style: str
    direction: str
    camera: str
    seed: int = 0

    @property
    def combination(self) -> tuple[str, ...]:
        """The words by which clips are kept out of training: all but place and camera."""
        return (
            self.subject, self.action, self.colour, self.weather, self.light, self.style, self.direction
        )  # fmt: skip

    def words(self) -> dict[str, str]:
        """Attribute name -> word, without the seed."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "seed"}


@dataclass(frozen=True)
class Vocabulary:
    """A choice of words for every attribute; clips are drawn uniformly from it."""

    subject: tuple[str, ...] = SUBJECTS
    action: tuple[str, ...] = ACTIONS
    colour: tuple[str, ...] = COLOURS
    place: tuple[str, ...] = PLACES
    weather: tuple[str, ...] = WEATHERS
    light: tuple[str, ...] = LIGHTS
    style: tuple[str, ...] = STYLES
    direction: tuple[str, ...] = DIRECTIONS
    camera: tuple[str, ...] = CAMERAS

    def words(self) -> dict[str, tuple[str, ...]]:
        """Attribute name -> the words it may take."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def scene(self, seed: int, index: int = 0, *, held_out: bool = False) -> Scene:
        """Scene number `index` of stream `seed`, a function of the two alone.

        Combinations on the held-out list are passed over unless `held_out` is true.
        """
        random = np.random.default_rng([seed, index])
        while True:
            scene = self._draw(random)
            if held_out or scene.combination not in kept_out():
                return scene

    def scenes(self, seed: int, start: int, count: int, *, held_out: bool = False) -> list[Scene]:
        """Scenes `start` to `start + count` of stream `seed`."""
        return [self.scene(seed, start + i, held_out=held_out) for i in range(count)]

    def _draw(self, random: np.random.Generator) -> Scene:
        words = {name: str(random.choice(choices)) for name, choices in self.words().items()}
        scene = Scene(**words, seed=int(random.integers(2**31)))
        if possible(scene):
            return scene
        return self._draw(random)


def possible(scene: Scene) -> bool:
    """False for what nobody can film: a dog that waves or dances."""
    return scene.subject not in QUADRUPEDS or scene.action in ACTIONS_OF_QUADRUPEDS


FULL = Vocabulary()
SMALL = Vocabulary(
    subject=("man", "woman", "child"),
    action=("standing still", "walking", "running", "waving"),
    colour=("red", "blue", "green", "yellow"),
    place=("street", "park"),
    weather=("clear", "rain", "snow"),
    style=("flat illustration", "pencil sketch"),
    camera=("following",),
)
VOCABULARIES = {"full": FULL, "small": SMALL}


@cache
def kept_out() -> frozenset[tuple[str, ...]]:
    """Combinations that no training clip shows: the scenes of `held_out.json`, beside this file."""
    text = files("mutoscope.data.world").joinpath("held_out.json").read_text(encoding="utf-8")
    return frozenset(Scene(**entry["scene"]).combination for entry in json.loads(text))


def held_out_prompts() -> list[tuple[str, Scene]]:
    """The committed list: 200 prompts and the scene that each asks for."""
    text = files("mutoscope.data.world").joinpath("held_out.json").read_text(encoding="utf-8")
    return [(entry["prompt"], Scene(**entry["scene"])) for entry in json.loads(text)]


def with_words(scene: Scene, **words: str) -> Scene:
    """The same scene with some words changed: what the tests and the docs' picture tables are made of."""
    return replace(scene, **words)


def as_row(scene: Scene) -> tuple:
    """The scene as a plain row, for index files."""
    return astuple(scene)
