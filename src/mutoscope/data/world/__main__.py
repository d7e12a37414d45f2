"""`python -m mutoscope.data.world PATH [--vocabulary small|full] [--seed N]`: a sheet of the world."""

import argparse
from pathlib import Path

from mutoscope.data.captions import full_caption
from mutoscope.data.world import VOCABULARIES, draw
from mutoscope.media import contact_sheet, save_png
from mutoscope.video import Video


def main() -> None:
    """Draw scenes of a vocabulary, each under its caption."""
    parser = argparse.ArgumentParser(prog="python -m mutoscope.data.world", description=__doc__)
    parser.add_argument("path", type=Path, help="where to write the PNG")
    parser.add_argument("--vocabulary", choices=sorted(VOCABULARIES), default="full")
    parser.add_argument("--seed", type=int, default=781)
    parser.add_argument("--count", type=int, default=7)
    told = parser.parse_args()
    scenes = VOCABULARIES[told.vocabulary].scenes(told.seed, 0, told.count)
    drawn = draw(scenes, frames=25, size=(160, 96))
    videos = [Video.from_tensor(clip, fps=12.0) for clip in drawn.video]
    captions = [full_caption(scene, without=()) for scene in scenes]
    save_png(contact_sheet(videos, columns=4, captions=captions), told.path)


if __name__ == "__main__":
    main()
