"""A contact sheet of the world: every style in every place, each scene above its caption.

    python -m mutoscope.data.world PATH [--vocabulary small|full] [--seed N] [--size WxH] [--films]

The scenes come from a stream, chosen so that all words are seen; --films shows four moments of each.
"""

import argparse
from collections import Counter
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from mutoscope.data.captions import full_caption
from mutoscope.data.world import VOCABULARIES, Scene, Vocabulary, draw
from mutoscope.media import contact_sheet, save_png
from mutoscope.video import Video

CHOICE = 1500  # scenes of the stream to choose from
MOMENT = 8  # the frame that is shown


def covering(vocabulary: Vocabulary, *, seed: int) -> list[Scene]:
    """A scene for every style in every place, each the one whose words were seen least so far."""
    stream = vocabulary.scenes(seed, 0, CHOICE)
    seen: Counter[str] = Counter()
    chosen = []
    for style in vocabulary.style:
        for place in vocabulary.place:
            candidates = [scene for scene in stream if (scene.style, scene.place) == (style, place)]
            best = min(candidates, key=lambda scene: sum(seen[word] ** 2 for word in scene.words().values()))
            seen.update(best.words().values())
            chosen.append(best)
    return chosen


def tiles(scenes: list[Scene], *, columns: int, size: tuple[int, int]) -> UInt8[Tensor, "h w 3"]:
    """One moment of every scene above its caption, in rows."""
    drawn = draw(scenes, frames=2 * MOMENT + 1, size=size)
    moments = [Video.from_tensor(clip[:, MOMENT : MOMENT + 1], fps=12.0) for clip in drawn.video]
    captioned = [
        contact_sheet([moment], columns=1, captions=[full_caption(scene, without=())])
        for moment, scene in zip(moments, scenes, strict=True)
    ]
    height = max(len(tile) for tile in captioned)
    level = [
        torch.cat([tile.new_full((height - len(tile), *tile.shape[1:]), 255), tile]) for tile in captioned
    ]
    return torch.cat([torch.cat(level[k : k + columns], 1) for k in range(0, len(level), columns)])


def films(scenes: list[Scene], *, size: tuple[int, int]) -> UInt8[Tensor, "h w 3"]:
    """Four moments of every scene below its caption, a row each."""
    videos = [Video.from_tensor(clip, fps=12.0) for clip in draw(scenes, frames=25, size=size).video]
    return contact_sheet(videos, columns=4, captions=[full_caption(scene, without=()) for scene in scenes])


def main() -> None:
    """Write the sheet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m mutoscope.data.world", description=__doc__, formatter_class=raw
    )
    parser.add_argument("path", type=Path, help="where to write the PNG")
    parser.add_argument("--vocabulary", choices=sorted(VOCABULARIES), default="full")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", default="240x144", help="of a picture, WIDTHxHEIGHT in pixels")
    parser.add_argument("--films", action="store_true")
    told = parser.parse_args()
    vocabulary = VOCABULARIES[told.vocabulary]
    width, height = map(int, told.size.split("x"))
    scenes = covering(vocabulary, seed=told.seed)
    if told.films:
        picture = films(scenes, size=(width, height))
    else:
        picture = tiles(scenes, columns=len(vocabulary.place), size=(width, height))
    # 64 levels a channel: no eye sees it, and the file is a third smaller
    save_png((picture / 4).round().mul(4).clamp(max=255).to(torch.uint8), told.path)


if __name__ == "__main__":
    main()
