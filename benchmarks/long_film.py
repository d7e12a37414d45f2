"""How a long film keeps: its flicker and its drift, second after second, beside a true one.

    python benchmarks/long_film.py film.mp4 --output docs/pictures/align-curves.png

    flicker    mean |x[t+1] - 2 x[t] + x[t-1]| within the second (`evaluation.fidelity.flicker`), grey levels
    drift      how far the second's colours are from the first one's: total variation between histograms of
               8x8x8 colours, from 0 (the same) to 1 (none in common)

The true films are of the made world and of the same words (`--words man walk rain` and so on choose the
scenes), as large, as fast and as long: rain flickers, and a camera that travels changes the colours.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mutoscope.data.world import VOCABULARIES, Scene, draw
from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure
from mutoscope.diffusion.drawings.picture import save
from mutoscope.diffusion.drawings.terminal import text
from mutoscope.evaluation.fidelity import flicker
from mutoscope.media import read_video
from mutoscope.video import Video

LEVELS = 8  # of each colour channel


def seconds_of(film: Video) -> list[UInt8[Tensor, "f h w 3"]]:
    """Its whole seconds."""
    rate = round(film.fps)
    return [film.frames[first : first + rate] for first in range(0, len(film) - rate + 1, rate)]


def flickers(film: Video) -> Float[Tensor, " seconds"]:
    """Of every second, in grey levels of 256."""
    clips = [Video(part, film.fps).tensor()[None] for part in seconds_of(film)]
    return torch.cat([127.5 * flicker(clip) for clip in clips])


def drifts(film: Video) -> Float[Tensor, " seconds"]:
    """Of every second from the first, in [0, 1]."""
    shares = torch.stack([colours(part) for part in seconds_of(film)])
    return (shares - shares[0]).abs().sum(1) / 2


def colours(pictures: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " colours"]:
    """How much of the pictures has each colour; sums to 1."""
    red, green, blue = (pictures.long() * LEVELS // 256).unbind(-1)
    counts = torch.bincount(((red * LEVELS + green) * LEVELS + blue).flatten(), minlength=LEVELS**3)
    return counts.double() / counts.sum()


def true_films(words: Sequence[str], like: Video, *, count: int) -> list[Video]:
    """Films of the made world that show all these words, as long and as large."""
    scenes = VOCABULARIES["full"].scenes(5000, 0, 20000)
    chosen = [scene for scene in scenes if set(words) <= set(scene.words().values())][:count]
    return [_drawn(scene, like) for scene in chosen]


def _drawn(scene: Scene, like: Video) -> Video:
    video = draw([scene], frames=len(like), size=like.size, fps=like.fps).video[0]
    return Video.from_tensor(video, fps=like.fps)


def figure(films: dict[str, list[Video]]) -> Figure:
    """Two panels; of several films the mean."""
    panels = []
    for title, unit, measure in (
        ("flicker", "grey levels", flickers),
        ("drift", "share of the colours that changed", drifts),
    ):
        lines = [
            (name, torch.stack([measure(film) for film in each]).mean(0)) for name, each in films.items()
        ]
        curves = [Curve(name, torch.arange(1.0, len(line) + 1), line) for name, line in lines]
        panels.append(Curves(title, "second", unit, curves))
    return Figure("A long film, second after second", panels, across=2)


def numbers(drawn: Figure) -> dict[str, dict[str, list[float]]]:
    """By panel and curve, second after second."""
    panels = [panel for panel in drawn.panels if isinstance(panel, Curves)]
    return {
        panel.title: {curve.name: [round(float(y), 4) for y in curve.y] for curve in panel.curves}
        for panel in panels
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--names", nargs="+", help="of the films, in the legend; the files' if left away")
    parser.add_argument("--words", nargs="+", default=["man", "walking", "rain"], help="of the true films")
    parser.add_argument("--true", type=int, default=4, help="how many true films")
    parser.add_argument("--output", type=Path, help="a PNG; only text if left away")
    parser.add_argument("--record", type=Path, help="a JSON file for the numbers")
    options = parser.parse_args()
    films = {
        name: [read_video(path)]
        for name, path in zip(options.names or map(str, options.films), options.films, strict=True)
    }
    [first, *_] = films.values()
    films["true"] = true_films(options.words, first[0], count=options.true)
    drawn = figure(films)
    print(text(drawn))
    if options.output:
        save(drawn, options.output, command="python benchmarks/long_film.py")
    if options.record:
        options.record.write_text(json.dumps(numbers(drawn), indent=1) + "\n")


if __name__ == "__main__":
    main()
