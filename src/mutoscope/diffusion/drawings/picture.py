"""A figure as a picture: one look for all of the project's drawings.

Colours are Okabe and Ito's, which those who see red and green alike can tell apart; shades run from white to
deep blue, and below 0 to vermilion. The text drawing goes into the PNG as its description, so a picture says
in words what is in it, and a test can tell whether it is the one that the code draws now.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from PIL import Image, PngImagePlugin

from mutoscope.diffusion.drawings.figure import Curve, Curves, Figure, Heat, Panel, palette
from mutoscope.diffusion.drawings.terminal import text
from mutoscope.video import Refusal

DESCRIPTION, COMMAND = "Description", "Command"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666", "#000000")
STROKES = {"line": "-", "dashes": (0, (4, 2)), "dots": "none", "marked": "-"}
SHADED = LinearSegmentedColormap.from_list("shaded", ["#FFFFFF", "#9CC7E3", "#0072B2", "#00253D"])
SIGNED = LinearSegmentedColormap.from_list("signed", ["#8A3A00", "#D55E00", "#FFFFFF", "#0072B2", "#00253D"])
FEW = 8  # so many points on a logarithmic axis are all labelled
WIDTH, ROW = 9.6, 3.4  # inches, of the whole figure and of a row of panels
LOOK: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "legend.fontsize": 8,
    "legend.handlelength": 1.6,
    "figure.dpi": 150,
}


def save(figure: Figure, path: Path, *, command: str) -> Path:
    """Writes the figure as a PNG of a palette of 128 colours. command: what draws it again, kept inside.

    Raises Refusal for another ending.
    """
    if path.suffix.lower() != ".png":
        raise Refusal(f"{path}: a drawing is saved as .png")
    with matplotlib.rc_context(LOOK):
        canvas = _canvas(figure)
        drawn = io.BytesIO()
        canvas.savefig(drawn, format="png", bbox_inches="tight", pad_inches=0.06)
    words = PngImagePlugin.PngInfo()
    words.add_text(COMMAND, command)
    words.add_text(DESCRIPTION, text(figure), zip=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    colours.save(path, pnginfo=words, optimize=True)
    return path


def _canvas(figure: Figure) -> Canvas:
    across = min(figure.across, len(figure.panels))
    down = -(-len(figure.panels) // across)
    height = ROW * down * (3 / max(across, 3)) ** 0.5
    canvas = Canvas(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    places = canvas.subplots(down, across, squeeze=False).flatten()
    for place, panel in zip(places, figure.panels, strict=False):
        _draw(place, panel)
    for place in places[len(figure.panels) :]:
        place.set_axis_off()
    return canvas


def _draw(place: Axes, panel: Panel) -> None:
    place.set_title(panel.title)
    place.set_xlabel(panel.x)
    place.set_ylabel(panel.y)
    if isinstance(panel, Heat):
        _shade(place, panel)
    else:
        _stroke(place, panel)


def _shade(place: Axes, panel: Heat) -> None:
    colours = SIGNED if panel.low < 0 else SHADED
    aspect = "equal" if panel.square else "auto"
    place.imshow(
        panel.values, cmap=colours, vmin=panel.low, vmax=panel.high, aspect=aspect, interpolation="nearest"
    )
    place.grid(False)
    for side in ("top", "right"):
        place.spines[side].set_visible(True)
    if panel.tile == 1:
        for axis in (place.xaxis, place.yaxis):
            axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    else:
        _tile(place, panel)


def _tile(place: Axes, panel: Heat) -> None:
    """White lines between tiles, and their numbers instead of the cells'."""
    rows, columns = (count // panel.tile for count in panel.values.shape)
    for count, ticks, line in (
        (columns, place.set_xticks, place.axvline),
        (rows, place.set_yticks, place.axhline),
    ):
        ticks([(number + 0.5) * panel.tile - 0.5 for number in range(count)], list(map(str, range(count))))
        for number in range(1, count):
            line(number * panel.tile - 0.5, color="white", linewidth=2.5)


def _stroke(place: Axes, panel: Curves) -> None:
    for curve, colour in zip(panel.curves, palette(panel.curves), strict=True):
        _line(place, curve, COLOURS[colour % len(COLOURS)])
    if panel.log_x:
        place.set_xscale("log")
        if len(few := panel.curves[0].x) <= FEW:
            place.set_xticks(few.tolist(), [f"{value:g}" for value in few.tolist()])
            place.minorticks_off()
    if panel.log_y:
        place.set_yscale("log")
    if panel.rows:
        place.set_yticks(range(len(panel.rows)), panel.rows)
        place.set_ylim(-0.5, len(panel.rows) - 0.5)
    if any(curve.name for curve in panel.curves) and not panel.rows:
        place.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)  # nowhere in the way


def _line(place: Axes, curve: Curve, colour: str) -> None:
    known = torch.isfinite(curve.x) & torch.isfinite(curve.y)
    place.plot(
        curve.x[known],
        curve.y[known],
        color=colour,
        linestyle=STROKES[curve.stroke],
        marker="o" if curve.stroke in ("dots", "marked") else "",
        label=curve.name or None,
    )
