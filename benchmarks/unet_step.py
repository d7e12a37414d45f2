"""One training step of a U-Net on a CPU: forward, backward and AdamW, beside the two public ones.

    latents   ModelScope's shape, 15.2 million weights: 2 clips of 8 frames of 16x16, 16 rows of text, beside
              diffusers' `UNet3DConditionModel` with the same weights (the first losses must agree)
    pixels    Video Diffusion Models: 2 clips of 8 frames of 32x32 and no text, beside `Unet3D` of lucidrains'
              `video-diffusion-pytorch`, of about as many weights (both numbers are printed)

A peer runs as it comes, in channels last, and compiled; ours runs as it comes. Precisions are float32, and
float32 weights under bfloat16 autocast. All use torch's fused AdamW. Large memory blocks are kept rather than
given back to the system, for all (--plain-malloc leaves that out). Variants take turns; a ratio is the median
of the ratios within rounds, and its quartiles. Memory is the peak of a process that does nothing but two
steps, over what it held before.

`video-diffusion-pytorch` imports torchvision for saving pictures, which no step needs: where that is missing,
an empty stand-in is put in its place in this process, until the import is done.

    python benchmarks/unet_step.py                       all of it
    python benchmarks/unet_step.py --only latents fp32   cases with these words in their names
    python benchmarks/unet_step.py --toy                 seconds, to see that it runs
    python benchmarks/unet_step.py --save                also benchmarks/results/unet_step.json
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import diffusers
import torch
import turns
from torch import Tensor, nn
from transformer_step import keep_memory

from mutoscope.checkpoints import unet as folders
from mutoscope.models.unet import UNet, UNetConfig
from mutoscope.models.unet_config import MODELSCOPE, vdm

RESULTS = Path(__file__).parent / "results" / "unet_step.json"
OURS = "mutoscope"
PEERS = {"latents": "diffusers", "pixels": "lucidrains"}
WAYS = ("", " channels last", " compiled")
CLOCKS = {"wall": time.perf_counter, "process": time.process_time}

Call = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """Which family, how wide, on clips of which shape, in which precision."""

    family: str
    precision: str
    channels: tuple[int, ...]
    clips: tuple[int, int, int, int, int]

    def __str__(self) -> str:
        return f"{self.family} {self.precision}"

    def variants(self, *, compiled: bool) -> list[str]:
        ways = WAYS if compiled else WAYS[:-1]
        return [*(PEERS[self.family] + way for way in ways), OURS]

    @property
    def config(self) -> UNetConfig:
        levels = len(self.channels)
        if self.family == "latents":
            return UNetConfig(
                channels=self.channels, attention=(True,) * (levels - 1) + (False,),
                heads=tuple(c // 32 for c in self.channels), text_dim=64, time=MODELSCOPE,
            )  # fmt: skip
        return UNetConfig(
            in_channels=3, out_channels=3, channels=self.channels, attention=(True,) * levels,
            heads=tuple(c // 32 for c in self.channels), layers=1, feed=False, time=vdm(),
        )  # fmt: skip


PRECISIONS = ("fp32", "bf16")
CASES = tuple(
    Case(family, precision, channels, clips)
    for family, channels, clips in (
        ("latents", (64, 128, 128), (2, 4, 8, 16, 16)),
        ("pixels", (64, 128, 224), (2, 3, 8, 32, 32)),
    )
    for precision in PRECISIONS
)
TOY_CASES = tuple(
    Case(family, "fp32", (32, 64), (1, channels, 2, 4, 4))
    for family, channels in (("latents", 4), ("pixels", 3))
)


@dataclass(frozen=True)
class Measured:
    """One variant: million weights, seconds of a step (median, quartiles), the same over ours within rounds,
    and peak megabytes."""

    weights: float
    seconds: float
    spread: tuple[float, float]
    times_ours: float
    times_ours_spread: tuple[float, float]
    megabytes: float


def network(name: str, case: Case) -> tuple[nn.Module, Call]:
    """The variant of this name, and how it is called with noisy clips and times."""
    torch.manual_seed(0)
    if name.startswith("lucidrains"):
        return _in_its_way(_lucidrains(case), name)
    ours = UNet(case.config)
    _start(ours)
    text = torch.randn(case.clips[0], 16, 64) if case.config.text_dim else None
    if name == OURS:
        return ours, lambda noisy, t: ours(noisy, t.unsqueeze(1), text=text)
    with tempfile.TemporaryDirectory() as folder:
        folders.save(ours, folder)
        peer = diffusers.UNet3DConditionModel.from_pretrained(folder)
    peer, call = _in_its_way(peer, name)
    return peer, lambda noisy, t: call(noisy, t, text).sample


def _start(ours: UNet) -> None:
    """Away from zero: where a branch gives nothing, its inside would get no gradient."""
    with torch.no_grad():
        for weight in ours.parameters():
            if not weight.any():
                weight.normal_(std=0.02)


def _in_its_way(peer: nn.Module, name: str) -> tuple[nn.Module, Callable[..., Any]]:
    peer.eval()  # the public network drops numbers out in training; the work is to be the same
    if name.endswith("channels last"):
        for module in peer.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return peer, torch.compile(peer, dynamic=False) if name.endswith("compiled") else peer


def _lucidrains(case: Case) -> nn.Module:
    with _torchvision():
        from video_diffusion_pytorch import Unet3D
    doubled = tuple(2**level for level in range(len(case.channels)))
    return Unet3D(dim=case.channels[0], dim_mults=doubled, channels=3)  # type: ignore[no-any-return]


@contextmanager
def _torchvision() -> Iterator[None]:
    """Torchvision, or what answers for it while a module is imported that never calls it in a step."""
    if find_spec("torchvision") is not None:
        yield
        return
    absent = ModuleType("torchvision")
    absent.transforms, absent.utils = mock.MagicMock(), mock.MagicMock()  # type: ignore[attr-defined]
    sys.modules["torchvision"] = absent
    try:
        yield
    finally:
        del sys.modules["torchvision"]


def step(name: str, case: Case) -> tuple[float, turns.Run]:
    """Million weights, and a training step that returns its loss."""
    module, call = network(name, case)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    generator = torch.Generator().manual_seed(1)
    noisy, noise = (torch.randn(case.clips, generator=generator) for _ in range(2))
    t = 1 + 998 * torch.rand(case.clips[0], generator=generator)

    @torch.enable_grad()
    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16"):
            loss = (call(noisy, t).float() - noise).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return sum(p.numel() for p in module.parameters()) / 1e6, run


def measure(
    case: Case, names: Sequence[str], *, rounds: int, clock: str, memory: Callable[[str], float]
) -> dict[str, Measured]:
    made = {name: step(name, case) for name in names}
    losses = {name: run().item() for name, (_, run) in made.items()}  # also the warm-up
    if case.family == "latents":
        _agree(losses, tolerance=1e-4 if case.precision == "fp32" else 2e-2)
    runs = {name: run for name, (_, run) in made.items()}
    seconds = turns.take_turns(runs, rounds=rounds, clock=CLOCKS[clock])
    return {
        name: _measured(made[name][0], times, ours=seconds[OURS], megabytes=memory(name))
        for name, times in seconds.items()
    }


def _agree(losses: dict[str, float], *, tolerance: float) -> None:
    """The same weights must give the same loss, or different things would be timed."""
    for name, loss in losses.items():
        if abs(loss - losses[OURS]) > tolerance * abs(loss):
            raise SystemExit(f"the first loss of {name} is {loss:.6f}, and of {OURS} {losses[OURS]:.6f}")


def _measured(weights: float, times: list[float], *, ours: list[float], megabytes: float) -> Measured:
    ratios = [a / b for a, b in zip(times, ours, strict=True)]
    return Measured(
        weights, statistics.median(times), _quartiles(times), statistics.median(ratios), _quartiles(ratios),
        megabytes,
    )  # fmt: skip


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def peak(name: str, case: Case) -> float:
    """Megabytes that two steps take at most, in this process, over what it holds before; on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize() / 2**20
    _, run = step(name, case)
    for _ in range(2):
        run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def peak_elsewhere(name: str, case: Case, *, arguments: Sequence[str]) -> float:
    """The same in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--peak", name, "--only", *str(case).split()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def table(results: dict[str, Measured]) -> str:
    head = f"{'':28}{'M weights':>10}{'s':>8}  {'quartiles':>13}{'/ ours':>8}  {'quartiles':>12}{'MB':>8}"
    lines = [head]
    for name, r in results.items():
        spread, ratios = (f"{low:.2f} .. {high:.2f}" for low, high in (r.spread, r.times_ours_spread))
        lines.append(
            f"{name:28}{r.weights:10.2f}{r.seconds:8.3f}  {spread:>13}{r.times_ours:8.2f}  {ratios:>12}"
            f"{r.megabytes:8.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="tiny networks, and peers only as they come")
    parser.add_argument("--only", nargs="+", default=[], help="words that a case's name must have")
    parser.add_argument("--eager", action="store_true", help="leave out the compiled peers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="process: on a shared machine")
    parser.add_argument("--plain-malloc", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}; refused for a toy")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save and (options.toy or options.only):
        parser.error("--save keeps all that is measured: leave out --toy and --only")
    torch.set_num_threads(options.threads)
    kept = not options.plain_malloc and keep_memory()
    cases = TOY_CASES if options.toy else CASES
    cases = tuple(case for case in cases if all(word in str(case).split() for word in options.only))
    if options.peak:
        print(peak(options.peak, cases[0]))
        return
    results = {str(case): all_of(case, options) for case in cases}
    if options.save:
        facts = turns.machine(diffusers=diffusers.__version__, lucidrains=version("video-diffusion-pytorch"))
        kinds = {name: {n: asdict(m) for n, m in rows.items()} for name, rows in results.items()}
        found = {"machine": facts, "memory kept": kept, "rounds": options.rounds, "cases": kinds}
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def all_of(case: Case, options: argparse.Namespace) -> dict[str, Measured]:
    """Measured and printed."""
    passed = ["--threads", str(options.threads), *["--toy"] * options.toy]
    passed += ["--plain-malloc"] * options.plain_malloc
    results = measure(
        case,
        case.variants(compiled=not (options.eager or options.toy)),
        rounds=options.rounds,
        clock=options.clock,
        memory=lambda name: peak_elsewhere(name, case, arguments=passed),
    )
    print(f"\n{case}, {options.threads} threads, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print(table(results), flush=True)
    return results


if __name__ == "__main__":
    main()
