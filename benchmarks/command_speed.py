"""How long a user waits: `mutoscope --help`, and `mutoscope generate` from process start to file.

    python benchmarks/command_speed.py [--rounds 5] [--save]

Every round starts new processes, in turn; medians and the fastest are printed. --save writes
benchmarks/results/command_speed.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "mutoscope --help": ["--help"],
    "mutoscope generate, default clip": ["generate", "a man walking in the rain", "--output", "rain.mp4"],
}


def seconds(arguments: list[str], folder: Path) -> float:
    """Wall time of one call of the command in a fresh process; its output is thrown away."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "mutoscope", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true")
    told = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(told.rounds + 1):
        for name, arguments in COMMANDS.items():
            with tempfile.TemporaryDirectory() as folder:
                spent = seconds(arguments, Path(folder))
            if number:  # the first round fills the disk cache
                times[name].append(spent)
    rows = {name: {"median": statistics.median(all_), "fastest": min(all_)} for name, all_ in times.items()}
    for name, row in rows.items():
        print(f"{name:<36} median {row['median']:.2f} s   fastest {row['fastest']:.2f} s")
    if told.save:
        facts = {"date": time.strftime("%Y-%m-%d"), "rounds": told.rounds, "seconds": rows}
        path = Path(__file__).parent / "results" / "command_speed.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
