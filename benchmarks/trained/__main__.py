"""Runs one row, or goes on with it, and writes its record and the page again.

python -m benchmarks.trained priors|rollout|brightness|shifts|guidance
"""

from benchmarks.trained import brightness, guidance, priors, rollout, shifts
from benchmarks.trained.bench import Bench
from benchmarks.trained.features import SEEDS
from benchmarks.trained.learner import SCALES

__all__ = ["BENCH"]

HEAD = f"""# Trained experiments

Claims of papers about noise, times and guidance, on small networks trained for it on films of one bouncing
disc, whose colours, place and speed can be read from the pixels. Written by `python -m benchmarks.trained
ROW`; the numbers lie in `benchmarks/results/trained_ROW.json`. The exact counterparts, without training, are
in [exact.md](exact.md).

Numbers are means over seeds (lowest to highest); arms of one seed share first weights, films and white noise,
and ratios are taken within a seed. FD is the squared Fréchet distance on random networks of the seeds
{", ".join(map(str, SEEDS))}, to true films of the same number. Cost is in seconds of one core.
A row that did not come out as published says so.
"""

BENCH = Bench(
    "trained",
    HEAD,
    {module.EXPERIMENT.name: module.EXPERIMENT for module in (priors, rollout, brightness, shifts, guidance)},
    SCALES,
)

if __name__ == "__main__":
    raise SystemExit(BENCH.main())
