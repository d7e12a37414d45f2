"""Runs every exact experiment and writes docs/exact.md: `python -m benchmarks.exact [--out FILE]`."""

import argparse
import importlib
import pkgutil
import time
from pathlib import Path

import benchmarks.exact
from benchmarks.exact.row import Row

HEAD = """# Exact experiments

Gaussian films (and one mixture) whose best denoiser is known in closed form, so that algorithms are judged
and no network. Written by `python -m benchmarks.exact` ({seconds:.0f} s on one core). "Stated" is the value
computed independently for the reference; where ours differs, the row says so.

| experiment | quantity | stated | measured |
|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/exact.md"))
    out = parser.parse_args().out
    began = time.perf_counter()
    rows = sorted((row for module in _experiments() for row in module.rows()), key=lambda row: row.experiment)
    table = "".join(map(_line, rows))
    out.write_text(HEAD.format(seconds=time.perf_counter() - began) + table, encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


def _experiments() -> list:
    names = [info.name for info in pkgutil.iter_modules(benchmarks.exact.__path__)]
    modules = [importlib.import_module(f"benchmarks.exact.{name}") for name in names if name != "__main__"]
    return [module for module in modules if hasattr(module, "rows")]


def _line(row: Row) -> str:
    return f"| {row.experiment} | {row.quantity} | {row.stated:.4g} | {row.measured:.4g} |\n"


if __name__ == "__main__":
    main()
