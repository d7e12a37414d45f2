"""The rows of `benchmarks.ablations` at a useful size, on one data-centre GPU in calls of a few minutes.

    python benchmarks/gpu/ablations.py --out RECORDS [--start RECORDS_BEFORE] --budget-seconds 540

Films of 16 frames at 32x32, U-Nets of 64 and 128 channels. It works as `trained_rows.py` beside it does:
records are kept after every unit, the same call goes on, --start goes on elsewhere, and the end is a short
table. Trainings lie in runs/ablations of the folder that it is started in; a training that was cut off goes
on from its last checkpoint while that folder is there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks, from wherever this is run
sys.path.insert(0, str(Path(__file__).resolve().parent))

import trained_rows
from benchmarks.ablations.__main__ import BENCH


def main(arguments: Sequence[str] | None = None) -> int:
    return trained_rows.main(arguments, bench=BENCH)


if __name__ == "__main__":
    raise SystemExit(main())
