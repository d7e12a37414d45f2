"""One training step of a U-Net: forward, backward and AdamW, beside the two public ones.

    latents   ModelScope's shape at a fifth of its width, heads of 16 for a fifth of 64, and its own text, 77
              rows of 1024: 2 clips of 16 frames of 16x16, beside diffusers' `UNet3DConditionModel` with the
              same weights (the first losses must agree)
    wide      the same at half its width, three of the four levels, 8 frames
    pixels    Video Diffusion Models: 2 clips of 8 frames of 32x32 and no text, beside `Unet3D` of lucidrains'
              `video-diffusion-pytorch`, of about as many weights (both are printed): ours attends over
              space below the finest level, as the recipe `vdm` does, theirs everywhere by linear attention

A peer runs as it comes, in channels last, and compiled; ours as it comes, with its layers compiled, and with
its norms and feed-forward networks alone compiled, as `UNetSettings.compiled` has them in training.
Precisions are float32, and float32 weights under bfloat16 autocast. All use torch's fused AdamW. Variants
take turns; a ratio is the median of the ratios within rounds, and its quartiles.

On a CPU large memory blocks are kept rather than given back to the system, for all (--plain-malloc leaves
that out), and memory is the peak of a process that does nothing but two steps, over what it held before.

On a GPU (--device cuda) networks and clips are larger: 4 clips of 16 frames, latents of 32x32 at two fifths
of ModelScope's width, and pixels of 64x64. Every variant is a process of its own, and all compile at once
(`together.py`). There, forward and backward can also be a CUDA graph each ("graphed"), which waits for no
host: peers as ours, also of what is compiled in part. Memory is the most that a process's tensors take in two
steps, weights and AdamW's state included. With --budget-seconds float32 is left eager, peers are compiled by
block as ours is (the whole takes minutes), and what is not ready in time is left out.

`video-diffusion-pytorch` imports torchvision for saving pictures, which no step needs: where that is missing,
an empty stand-in is put in its place in this process, until the import is done.

    python benchmarks/unet_step.py                       all of it
    python benchmarks/unet_step.py --only latents fp32   cases with these words in their names
    python benchmarks/unet_step.py --toy                 seconds, to see that it runs
    python benchmarks/unet_step.py --save                also benchmarks/results/unet_step.json
    python benchmarks/unet_step.py --device cuda --budget-seconds 90 --out unet.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import diffusers
import torch
import turns
from together import Facts, Together
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mutoscope.checkpoints import unet as folders
from mutoscope.models.memory import keep_memory
from mutoscope.models.unet import UNet, UNetConfig
from mutoscope.models.unet_config import MODELSCOPE, vdm

RESULTS = Path(__file__).parent / "results" / "unet_step.json"
OURS = "mutoscope"
OURS_COMPILED, OURS_SMALL = "mutoscope compiled", "mutoscope small parts compiled"
GRAPHED = " graphed"
PEERS = {"latents": "diffusers", "wide": "diffusers", "pixels": "lucidrains"}
TEXT = (77, 1024)
"""ModelScope's rows of text."""
WAYS = ("", " channels last", " compiled")
BY_BLOCK = " compiled by block"
BLOCKS = {
    "ResnetBlock2D", "TemporalConvLayer", "Transformer2DModel", "TransformerTemporalModel",
    "ResnetBlock", "Residual",
}  # fmt: skip
"""What is compiled in a peer by block: classes of diffusers, and of lucidrains."""
TIMING = 12.0
"""Seconds of a budget that are kept for turns."""
STEPS = 3
"""Steps of a variant in each turn on a GPU."""
CLOCKS = {"wall": time.perf_counter, "process": time.process_time}

Call = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """Which family, how wide (and its heads), on clips of which shape, in which precision."""

    family: str
    precision: str
    channels: tuple[int, ...]
    clips: tuple[int, int, int, int, int]
    head: int = 32

    def __str__(self) -> str:
        return f"{self.family} {self.precision}"

    def variants(self, *, compiled: bool, by_block: bool = False, graphed: bool = False) -> list[str]:
        ways = (*WAYS[:-1], BY_BLOCK) if by_block else WAYS
        peer = PEERS[self.family]
        ours = (OURS, OURS_COMPILED, OURS_SMALL, OURS + GRAPHED, OURS_SMALL + GRAPHED)
        graphs = (GRAPHED, BY_BLOCK + GRAPHED) if by_block else (GRAPHED,)
        names = [*(peer + way for way in (*ways, *graphs)), *ours]
        out = [word for word, wanted in ((" compiled", compiled), (GRAPHED, graphed)) if not wanted]
        return [name for name in names if not any(word in name for word in out)]

    @property
    def config(self) -> UNetConfig:
        levels, heads = len(self.channels), tuple(width // self.head for width in self.channels)
        if self.family != "pixels":
            return UNetConfig(
                channels=self.channels, attention=(True,) * (levels - 1) + (False,), heads=heads,
                text_dim=TEXT[1], time=MODELSCOPE,
            )  # fmt: skip
        return UNetConfig(
            in_channels=3, out_channels=3, channels=self.channels,
            attention=(False,) + (True,) * (levels - 1), heads=heads, layers=1, feed=False,
            time=vdm(levels=(True,) * levels),
        )  # fmt: skip


PRECISIONS = ("fp32", "bf16")
CASES = tuple(
    Case(family, precision, channels, clips, head)
    for family, channels, head, clips in (
        ("latents", (64, 128, 256, 256), 16, (2, 4, 16, 16, 16)),
        ("wide", (160, 320, 320), 32, (2, 4, 8, 16, 16)),
        ("pixels", (64, 128, 224), 32, (2, 3, 8, 32, 32)),
    )
    for precision in PRECISIONS
)
GPU_CASES = tuple(
    Case(family, precision, channels, clips)
    for precision in ("bf16", "fp32")
    for family, channels, clips in (
        ("latents", (128, 256, 512, 512), (4, 4, 16, 32, 32)),
        ("pixels", (64, 128, 224), (4, 3, 16, 64, 64)),
    )
)
TOY_CASES = tuple(
    Case(family, "fp32", (32, 64), (1, channels, 2, 4, 4))
    for family, channels in (("latents", 4), ("pixels", 3))
)


@dataclass(frozen=True)
class Measured:
    """One variant: million weights, seconds of a step (median, quartiles), the same over our fastest within
    rounds, peak megabytes, and the counted work of a step."""

    weights: float
    seconds: float
    spread: tuple[float, float]
    times_ours: float
    times_ours_spread: tuple[float, float]
    megabytes: float | None
    teraflops: float | None = None


def network(name: str, case: Case, device: str = "cpu") -> tuple[nn.Module, Call]:
    """The variant of this name, and how it is called with noisy clips and times."""
    torch.manual_seed(0)
    if name.startswith("lucidrains"):
        return _in_its_way(_lucidrains(case).to(device), name)
    ours = UNet(case.config)
    _start(ours)
    text = torch.randn(case.clips[0], *TEXT).to(device) if case.config.text_dim else None
    if name.startswith(OURS):
        ours.to(device)
        if " compiled" in name:
            ours.compile_blocks(small=name.startswith(OURS_SMALL))
        return ours, lambda noisy, t: ours(noisy, t.unsqueeze(1), text=text)
    with tempfile.TemporaryDirectory() as folder:
        folders.save(ours, folder)
        peer = diffusers.UNet3DConditionModel.from_pretrained(folder)
    peer, call = _in_its_way(nn.Module.to(peer, device), name)
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
    if BY_BLOCK in name:
        torch._dynamo.config.recompile_limit = 256
        for module in peer.modules():
            if type(module).__name__ in BLOCKS:
                module.compile(dynamic=False)
    return peer, torch.compile(peer, dynamic=False) if name.endswith(" compiled") else peer


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


def step(name: str, case: Case, device: str = "cpu") -> tuple[float, turns.Run]:
    """Million weights, and a training step that returns its loss."""
    module, call = network(name, case, device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)
    generator = torch.Generator().manual_seed(1)
    noisy, noise = (torch.randn(case.clips, generator=generator).to(device) for _ in range(2))
    t = (1 + 998 * torch.rand(case.clips[0], generator=generator)).to(device)
    graphed = name.endswith(GRAPHED)
    # What autocast has cached outside of a graph would not be in it.
    half = partial(torch.autocast, device, torch.bfloat16, case.precision == "bf16", not graphed)
    if graphed:
        with half():
            call = torch.cuda.make_graphed_callables(
                _Called(module, call), (noisy, t), allow_unused_input=True
            )

    @torch.enable_grad()
    def run() -> Tensor:
        with half():
            loss = (call(noisy, t).float() - noise).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return sum(p.numel() for p in module.parameters()) / 1e6, run


class _Called(nn.Module):
    """A network and the way it is called, as one module: what can be graphed."""

    def __init__(self, network: nn.Module, call: Call) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, noisy: Tensor, t: Tensor) -> Tensor:
        return self.call(noisy, t)


def measure(
    case: Case, names: Sequence[str], *, rounds: int, clock: str, memory: Callable[[str], float]
) -> dict[str, Measured]:
    made = {name: step(name, case) for name in names}
    losses = {name: run().item() for name, (_, run) in made.items()}  # also the warm-up
    _agree(case, losses)
    runs = {name: run for name, (_, run) in made.items()}
    seconds = turns.take_turns(runs, rounds=rounds, clock=CLOCKS[clock])
    best = best_of_ours(seconds)
    return {
        name: _measured(made[name][0], times, ours=seconds[best], megabytes=memory(name))
        for name, times in seconds.items()
    }


def best_of_ours(seconds: dict[str, list[float]]) -> str:
    """Ours as it was fastest: every ratio is over this."""
    return min((name for name in seconds if name.startswith(OURS)),
               key=lambda name: statistics.median(seconds[name]))  # fmt: skip


def _agree(case: Case, losses: dict[str, float]) -> None:
    """The same weights must give the same loss, or different things would be timed."""
    # A GPU's convolutions round float32 to TF32, as torch has it.
    tolerance = 2e-2 if case.precision == "bf16" else 1e-3 if torch.cuda.is_available() else 1e-4
    # lucidrains' network is another one: its weights are its own.
    losses = {name: loss for name, loss in losses.items() if not name.startswith("lucidrains")}
    for name, loss in losses.items():
        ours = losses[min(n for n in losses if n.startswith(OURS))]
        if abs(loss - ours) > tolerance * abs(loss):
            raise SystemExit(f"{case}: the first loss of {name} is {loss:.6f}, and ours {ours:.6f}")


def _measured(
    weights: float, times: list[float], *, ours: list[float], megabytes: float | None,
    teraflops: float | None = None,
) -> Measured:  # fmt: skip
    ratios = [a / b for a, b in zip(times, ours, strict=True)]
    return Measured(
        weights, statistics.median(times), _quartiles(times), statistics.median(ratios), _quartiles(ratios),
        megabytes, teraflops,
    )  # fmt: skip


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def peak(name: str, case: Case) -> float:
    """Megabytes that two steps take at most, in this process, over what it holds before; on Linux."""
    before = _megabytes("VmRSS")
    _, run = step(name, case)
    for _ in range(2):
        run()
    # Not the ru_maxrss of getrusage: that begins with the peak of the process that started this one.
    return _megabytes("VmHWM") - before


def _megabytes(field: str) -> float:
    """This field of the kernel's status of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def peak_elsewhere(name: str, case: Case, *, arguments: Sequence[str]) -> float:
    """The same in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--peak", name, "--only", *str(case).split()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def variant(named: tuple[str, Case], *, device: str) -> tuple[Facts, turns.Run]:
    """For a process of its own: the step has been made once, and counted where nothing hides the work."""
    name, case = named
    weights, run = step(name, case, device)
    if " compiled" in name or name.endswith(GRAPHED):
        return {"weights": weights, "loss": run().item(), "teraflops": None}, run
    with FlopCounterMode(display=False) as counted:
        loss = run().item()
    return {"weights": weights, "loss": loss, "teraflops": counted.get_total_flops() / 1e12}, run


def measure_together(
    cases: Sequence[Case], options: argparse.Namespace
) -> Iterator[tuple[Case, dict[str, Measured]]]:
    """Each case as soon as it is measured, in their order, within the budget."""
    began, budget = time.monotonic(), options.budget_seconds or 1e9
    eager = options.eager
    short = options.budget_seconds is not None
    names = [
        (name, case)
        for case in cases
        for name in case.variants(
            compiled=not eager and not (short and case.precision == "fp32" and not options.toy),
            by_block=short,
            graphed=options.device == "cuda",
        )
    ]
    with Together(partial(variant, device=options.device), names, device=options.device) as variants:
        ready = variants.ready(by=began + budget - TIMING)
        for case in cases:
            found = {name: facts for (name, of), facts in ready.items() if of == case}
            if not any(name.startswith(OURS) for name in found):
                print(f"{case}: nothing of ours is ready", flush=True)
                continue
            _agree(case, {name: facts["loss"] for name, facts in found.items()})
            seconds = variants.turns(
                [(name, case) for name in found], rounds=options.rounds, steps=STEPS, by=began + budget
            )
            times = {name: taken for (name, _), taken in seconds.items()}
            ours = times[best_of_ours(times)]
            yield (
                case,
                {
                    name: _measured(
                        f["weights"],
                        times[name],
                        ours=ours,
                        megabytes=f["megabytes"],
                        teraflops=f["teraflops"],
                    )
                    for name, f in found.items()
                },
            )


def table(results: dict[str, Measured]) -> str:
    head = f"{'':28}{'M weights':>10}{'s':>8}  {'quartiles':>16}{'/ ours':>8}  {'quartiles':>16}"
    head += f"{'MB':>8}{'TFLOP':>8}"
    lines = [head]
    for name, r in results.items():
        spread, ratios = (f"{low:.3f} .. {high:.3f}" for low, high in (r.spread, r.times_ours_spread))
        megabytes = "" if r.megabytes is None else f"{r.megabytes:.0f}"
        teraflops = "" if r.teraflops is None else f"{r.teraflops:.2f}"
        lines.append(
            f"{name:28}{r.weights:10.2f}{r.seconds:8.3f}  {spread:>16}{r.times_ours:8.3f}  {ratios:>16}"
            f"{megabytes:>8}{teraflops:>8}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="tiny networks, and peers only as they come")
    parser.add_argument("--only", nargs="+", default=[], help="words that a case's name must have")
    parser.add_argument("--eager", action="store_true", help="leave out what is compiled")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="process: on a shared machine")
    parser.add_argument("--plain-malloc", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--budget-seconds", type=float, help="all variants at once, in processes; leave out what does not fit"
    )
    parser.add_argument("--out", type=Path, help="write the results here")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}; refused for a toy")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save and (options.toy or options.only):
        parser.error("--save keeps all that is measured: leave out --toy and --only")
    torch.set_num_threads(options.threads)
    kept = not options.plain_malloc and keep_memory()
    cases = TOY_CASES if options.toy else GPU_CASES if options.device == "cuda" else CASES
    cases = tuple(case for case in cases if all(word in str(case).split() for word in options.only))
    if options.peak:
        print(peak(options.peak, cases[0]))
        return
    peers = {"diffusers": diffusers.__version__}
    if any(PEERS[case.family] == "lucidrains" for case in cases):
        peers["lucidrains"] = version("video-diffusion-pytorch")
    facts = turns.machine(**peers)
    found: dict[str, Any] = {"machine": facts, "memory kept": kept, "rounds": options.rounds, "cases": {}}
    targets = [path for path in (options.out, RESULTS if options.save else None) if path]
    for case, results in measured(cases, options):
        print(f"\n{case}, {options.threads} threads, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}")
        print(table(results), flush=True)
        found["cases"][str(case)] = {name: asdict(row) for name, row in results.items()}
        for path in targets:
            path.write_text(json.dumps(found, indent=2) + "\n")


def measured(
    cases: Sequence[Case], options: argparse.Namespace
) -> Iterator[tuple[Case, dict[str, Measured]]]:
    if options.device == "cuda" or options.budget_seconds:
        yield from measure_together(cases, options)
        return
    for case in cases:
        yield case, all_of(case, options)


def all_of(case: Case, options: argparse.Namespace) -> dict[str, Measured]:
    """Variants in turns in this process, and their memory each in one of its own."""
    passed = ["--threads", str(options.threads), *["--toy"] * options.toy]
    passed += ["--plain-malloc"] * options.plain_malloc
    return measure(
        case,
        case.variants(compiled=not (options.eager or options.toy)),
        rounds=options.rounds,
        clock=options.clock,
        memory=lambda name: peak_elsewhere(name, case, arguments=passed),
    )


if __name__ == "__main__":
    main()
