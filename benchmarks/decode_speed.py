"""Latents to pixels: how fast, beside diffusers at its default and at its best.

One film of 33 frames at 256x144, Wan 2.1 layout of 32 channels, random weights, the same in all variants.
The variants take turns (round after round, so that a slow minute hits all of them), and a ratio is the median
of the ratios within rounds. Errors are relative to diffusers in float32: the price of bfloat16, not quality.

    python benchmarks/decode_speed.py            all rounds; a table
    python benchmarks/decode_speed.py --toy      seconds, to see that it runs
    python benchmarks/decode_speed.py --save     also benchmarks/results/decode_speed.json
"""

import argparse
import copy
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import diffusers
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from mutoscope.checkpoints import wan_autoencoder
from mutoscope.models.autoencoder import Autoencoder

RESULTS = Path(__file__).parent / "results" / "decode_speed.json"
LAST = torch.channels_last_3d
OURS = "mutoscope bf16"

Decode = Callable[[], Tensor]
Network = TypeVar("Network", AutoencoderKLWan, Autoencoder)


@dataclass(frozen=True)
class Film:
    """What is decoded: 1 + 4k frames of width x height pixels (multiples of 8), by `base` channels."""

    frames: int = 33
    width: int = 256
    height: int = 144
    base: int = 32

    def latents(self) -> Tensor:
        shape = (1, 16, 1 + (self.frames - 1) // 4, self.height // 8, self.width // 8)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))


TOY = Film(frames=9, width=64, height=32, base=8)


@dataclass(frozen=True)
class Row:
    """One variant: seconds (median, quartiles), how many times faster ours is, and its relative rms error."""

    seconds: float
    quartiles: tuple[float, float]
    ours_is_faster: float
    error: float


@torch.no_grad()
def networks(film: Film) -> tuple[AutoencoderKLWan, Autoencoder]:
    """Theirs, and ours with the same weights, by way of a folder."""
    torch.manual_seed(0)
    theirs = AutoencoderKLWan(base_dim=film.base).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, wan_autoencoder.load(folder)


def variants(film: Film) -> dict[str, Decode]:
    z = film.latents()
    theirs, ours = networks(film)
    half, half_last = bfloat16(theirs), channels_last(bfloat16(theirs))
    own, own_half = channels_last(ours), channels_last(bfloat16(ours))
    z_half = z.bfloat16()
    z_last = z_half.contiguous(memory_format=LAST)
    return {
        "diffusers fp32": lambda: theirs.decode(z, return_dict=False)[0],
        "diffusers bf16": lambda: half.decode(z_half, return_dict=False)[0],
        "diffusers bf16 channels_last_3d": lambda: half_last.decode(z_last, return_dict=False)[0],
        "mutoscope fp32": lambda: streamed(own, z),
        OURS: lambda: streamed(own_half, z_half),
    }


def bfloat16(network: Network) -> Network:
    """The same network in bfloat16; `.to` alone would change the one given."""
    return copy.deepcopy(network).to(torch.bfloat16)


def channels_last(network: Network) -> Network:
    """The network with its convolutions laid out channels last: what a user of diffusers can do by hand."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            layout = LAST if isinstance(module, nn.Conv3d) else torch.channels_last
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
    return network


def streamed(network: Autoencoder, z: Tensor) -> Tensor:
    """Two latent frames at a time: as fast as all at once, in a fraction of the memory."""
    return torch.cat(list(network.stream_decode([z], step=2)), dim=2).clamp(-1, 1)


@torch.no_grad()
def take_turns(decoders: dict[str, Decode], *, rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, decode in decoders.items():
            start = time.perf_counter()
            decode()
            seconds[name].append(time.perf_counter() - start)
    return seconds


@torch.no_grad()
def errors(decoders: dict[str, Decode]) -> dict[str, float]:
    """Relative rms error of each variant against the first; also the warm-up of all."""
    films = {name: decode().float() for name, decode in decoders.items()}
    exact = next(iter(films.values()))
    return {name: ((film - exact).norm() / exact.norm()).item() for name, film in films.items()}


def rows(seconds: dict[str, list[float]], error: dict[str, float]) -> dict[str, Row]:
    return {name: row(times, seconds[OURS], error[name]) for name, times in seconds.items()}


def row(times: list[float], ours: list[float], error: float) -> Row:
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    ratio = statistics.median(a / b for a, b in zip(times, ours, strict=True))
    return Row(seconds=statistics.median(times), quartiles=(low, high), ours_is_faster=ratio, error=error)


def table(results: dict[str, Row]) -> str:
    lines = [f"{'':32}{'seconds':>9}  {'quartiles':>15}{'ours faster':>13}{'error':>9}"]
    for name, r in results.items():
        spread = f"{r.quartiles[0]:.2f} .. {r.quartiles[1]:.2f}"
        lines.append(f"{name:32}{r.seconds:9.2f}  {spread:>15}{r.ours_is_faster:>12.2f}x{r.error:9.1e}")
    return "\n".join(lines)


def machine() -> dict[str, str | int | float]:
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    facts = Path("/proc/cpuinfo")
    names = (
        [line for line in facts.read_text().splitlines() if "model name" in line] if facts.exists() else []
    )
    return names[0].partition(":")[2].strip() if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="a tiny film and two rounds")
    parser.add_argument("--rounds", type=int, help="5 unless told otherwise, 2 for a toy")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}; refused for a toy")
    options = parser.parse_args()
    if options.save and options.toy:
        parser.error("--save keeps measurements, and a toy is none: leave one of the two out")
    film, count = (TOY, options.rounds or 2) if options.toy else (Film(), options.rounds or 5)
    decoders = variants(film)
    error = errors(decoders)
    results = rows(take_turns(decoders, rounds=count), error)
    print(f"{film.frames} frames {film.width}x{film.height}, base {film.base}, {count} rounds; {machine()}")
    print(table(results))
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        facts = {"film": asdict(film), "rounds": count, "machine": machine()}
        facts["variants"] = {name: asdict(r) for name, r in results.items()}
        RESULTS.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
