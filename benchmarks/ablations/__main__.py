"""Runs one row, or goes on with it, and writes its record and the page again.

python -m benchmarks.ablations A1|A2|A3|A4|A5|A6|A7|A8|A9
"""

from benchmarks.ablations import (
    compressed,
    decoder,
    extension,
    guided,
    hierarchy,
    image_first,
    perturbed,
    riders,
    time_layers,
)
from benchmarks.ablations.scale import SCALES
from benchmarks.trained.bench import Bench
from benchmarks.trained.features import SEEDS

__all__ = ["BENCH"]

HEAD = f"""# Ablations of the U-Net papers

The ablation table of Video Diffusion Models (2204.03458), Align Your Latents (2304.08818) and LVDM
(2211.13221) in small: U-Nets of this library, trained by its own tasks on films of one bouncing disc, whose
colours, place and speed can be read from the pixels. Written by `python -m benchmarks.ablations ROW`; the
numbers lie in `benchmarks/results/ablations_ROW.json`.

Numbers are means over seeds (lowest to highest); arms of one seed share first weights, films and white noise,
and ratios are taken within a seed. FD is the squared Fréchet distance on random 3D networks of the seeds
{", ".join(map(str, SEEDS))}. Cost is in seconds of one core; a training that several rows share is counted in
each. Every row has the arm of equal compute that the papers left out. So small a network can test the
directions of the papers, not their numbers, and a row of fewer than three seeds is a first look. What did not
come out as published stands as it came out.
"""

ROWS = (riders, extension, guided, image_first, decoder, time_layers, compressed, hierarchy, perturbed)

BENCH = Bench(
    "ablations",
    HEAD,
    {row.EXPERIMENT.name: row.EXPERIMENT for row in ROWS},
    SCALES,
)

if __name__ == "__main__":
    raise SystemExit(BENCH.main())
