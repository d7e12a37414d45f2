"""What every file of the room does, drawn: `python -m mutoscope.diffusion.<file>`.

Each prints its drawing as characters; `--output picture.png` saves it as a picture. All curves come out of
the file's own functions, with exact denoisers of Gaussian films (`gaussian`) where a denoiser is asked for.
`python -m mutoscope.diffusion.drawings` makes all pictures of the docs again. The figures are in `levels`,
`frames`, `plans`, `solvers` and `denoisers`; a figure's function has the name of the file that it draws.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from mutoscope.diffusion.drawings.figure import Figure
from mutoscope.diffusion.drawings.terminal import text
from mutoscope.video import Refusal


def draw(figure: Callable[[], Figure]) -> None:
    """The command of one file: prints the figure, or saves it where --output says."""
    parser = argparse.ArgumentParser(prog=command(figure), description=f"Draws {figure.__doc__}")
    parser.add_argument("--output", type=Path, metavar="PICTURE.png", help="saves a picture instead")
    output = parser.parse_args().output
    if output is None:
        print(text(figure()))
        return
    try:
        print(saved(figure, output))
    except Refusal as refusal:
        sys.exit(str(refusal))


def saved(figure: Callable[[], Figure], output: Path) -> Path:
    """The figure as a picture that knows its command. Raises Refusal without matplotlib, or for no .png."""
    try:
        from mutoscope.diffusion.drawings import picture  # here, because matplotlib is optional
    except ModuleNotFoundError as missing:
        raise Refusal(
            f"a picture needs {missing.name}, which is not installed: pip install 'mutoscope[drawings]', or "
            "leave --output out for a drawing of characters"
        ) from missing
    return picture.save(figure(), output, command=f"{command(figure)} --output {output.name}")


def command(figure: Callable[[], Figure]) -> str:
    """What draws this figure."""
    return f"python -m mutoscope.diffusion.{figure.__name__}"
