"""All pictures of the docs again: `python -m mutoscope.diffusion.drawings [docs/pictures]`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from mutoscope.diffusion.drawings import denoisers, frames, levels, plans, saved, solvers
from mutoscope.diffusion.drawings.figure import Figure

FIGURES: tuple[Callable[[], Figure], ...] = (
    *(levels.schedule, levels.betas, levels.process, levels.colours),
    *(levels.prediction, levels.objective),
    *(frames.noise, frames.prior, frames.frequency, frames.pyramid, frames.known),
    *(plans.plan, plans.rolling, plans.windows),
    *(solvers.sampler, solvers.multistep, solvers.stochastic, solvers.inversion),
    *(denoisers.denoiser, denoisers.linear, denoisers.guidance, denoisers.contrast, denoisers.reconstruction),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/pictures"))
    folder = parser.parse_args().folder
    for figure in FIGURES:
        print(saved(figure, folder / f"{figure.__name__}.png"), flush=True)


if __name__ == "__main__":
    main()
