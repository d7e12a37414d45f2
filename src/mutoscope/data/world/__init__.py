"""A made world: clips whose captions are true by construction, at any size, length and frame rate, from a
seed.

The embedded training set, the ground truth of evaluation and the face of the project. `draw(scenes, ...)`
turns scenes into clips; `Vocabulary.scenes(seed, start, count)` makes the scenes; `mutoscope.data.captions`
tells them in English.
"""

from mutoscope.data.world.draw import Drawn, draw
from mutoscope.data.world.vocabulary import FULL, SMALL, VOCABULARIES, Scene, Vocabulary, held_out_prompts

__all__ = ["FULL", "SMALL", "VOCABULARIES", "Drawn", "Scene", "Vocabulary", "draw", "held_out_prompts"]
