"""How fast a GPU takes steps, by size of network, compiled and not: the first thing to know on a new machine.

    python benchmarks/gpu/step_speed.py                    all of it, about eight minutes; a table last
    python benchmarks/gpu/step_speed.py --only train       only rows whose name has this in it
    python benchmarks/gpu/step_speed.py --toy              seconds, to see that it runs

    denoise        one step of sampling with guidance: two evaluations of a clip of 33 frames at 160x96, bf16
    train          one step of `training.loop.train` on cached latents: captions, loss, Muon, average and all
    autoencoder    one step of the same loop on clips of 17 frames that are drawn already
    draw           64 clips of 33 frames by many processes: what fills the pool and feeds the encoder

A row that fails says why and the others go on. TFLOP are counted by torch on the first, uncompiled step; its
attention is counted on GPUs only. A step's time is the median over the steps after a few to settle.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch
from drawers import Drawers, DrawnSource, World
from torch.utils.flop_counter import FlopCounterMode

from mutoscope.data.captions import every_wording
from mutoscope.data.latents import LatentCache
from mutoscope.data.loader import Batch
from mutoscope.data.world import VOCABULARIES
from mutoscope.models.autoencoder import Autoencoder, AutoencoderConfig
from mutoscope.models.precision import prepared
from mutoscope.models.text import Text, TextEncoder, TextEncoderConfig
from mutoscope.models.tokenizer import Tokenizer
from mutoscope.models.transformer import Transformer, TransformerConfig
from mutoscope.models.words import Words
from mutoscope.recipes import RECIPES
from mutoscope.training.autoencoder import AutoencoderTask, ReconstructionSettings
from mutoscope.training.denoiser import DenoiserTask, JointSettings
from mutoscope.training.loop import Task, TrainSettings, train

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PEAK = 989e12  # dense bf16 of an H100 or H200, operations a second

Step = Callable[[], object]
Make = partial[AbstractContextManager[Step]]  # waits for compiled=


@dataclass(frozen=True)
class Setup:
    """Sizes of what is measured: latents "c f h w", clips of `pixels` "f h w", and how many at a time."""

    widths: tuple[tuple[int, int], ...]
    latents: tuple[int, int, int, int]
    clips: int
    bases: tuple[tuple[int, int], ...]
    pixels: tuple[int, int, int]
    videos: int
    steps: int


GPU = Setup(
    widths=((384, 9), (512, 12)), latents=(32, 17, 12, 20), clips=128,
    bases=((64, 96), (128, 128)), pixels=(17, 96, 160), videos=24, steps=30,
)  # fmt: skip
TOY = Setup(
    widths=((64, 1),), latents=(8, 3, 4, 6), clips=2, bases=((16, 16),), pixels=(5, 32, 48), videos=1, steps=3
)


@dataclass(frozen=True)
class Row:
    """One measurement: samples and TFLOP of a step, seconds of each, and why there is none."""

    name: str
    samples: int = 0
    teraflop: float = 0.0
    seconds: float = 0.0
    warm_up: float = 0.0
    fault: str = ""

    def __str__(self) -> str:
        if self.fault or not self.seconds:
            return f"{self.name:<38} failed: {self.fault}"
        speed = self.teraflop / self.seconds
        return (
            f"{self.name:<38} {1000 * self.seconds:>9.2f} {self.samples / self.seconds:>11,.1f} "
            f"{self.teraflop:>9.3g} {speed:>9.3g} {100 * speed * 1e12 / PEAK:>6.2g} {self.warm_up:>9.1f}"
        )


HEAD = f"{'step':<38} {'ms':>9} {'samples/s':>11} {'TFLOP':>9} {'TFLOP/s':>9} {'% peak':>6} {'warm-up s':>8}"


def transformer(width: int, layers: int, setup: Setup) -> Transformer:
    channels = setup.latents[0]
    config = TransformerConfig(
        heads=width // 64, head_dim=64, in_channels=channels, out_channels=channels, text_dim=256,
        ffn_dim=4 * width, layers=layers, patch_size=(1, 2, 2),
    )  # fmt: skip
    return Transformer(config).to(DEVICE)


@contextmanager
def denoising(width: int, layers: int, setup: Setup, *, compiled: bool) -> Iterator[Step]:
    """One step of sampling: with words and without, together."""
    network = prepared(transformer(width, layers, setup), torch.bfloat16, device=DEVICE, in_place=True)
    if compiled:
        network.compile_blocks()
    text = Text(torch.randn(2, 20, 256, device=DEVICE), torch.ones(2, 20, dtype=torch.bool, device=DEVICE))
    with torch.no_grad():
        memory = network.remember(text)
    noisy = torch.randn(2, *setup.latents, device=DEVICE).to(torch.bfloat16)
    t = torch.full((2, 1), 0.5, device=DEVICE)

    def step() -> None:
        with torch.no_grad():
            network(noisy, t, text=memory)
        wait()

    yield step


@contextmanager
def training(width: int, layers: int, setup: Setup, *, compiled: bool) -> Iterator[Step]:
    """One step of the denoiser's training."""
    words = VOCABULARIES["full"]
    tokenizer = Tokenizer.train(every_wording(words), 512)
    encoder = TextEncoder(TextEncoderConfig(vocabulary=tokenizer.vocabulary_size, width=256))
    channels, frames, height, width_ = setup.latents
    scenes = words.scenes(0, 0, 64)
    cache = LatentCache(
        torch.randn(64, channels, frames, height, width_, device=DEVICE).to(torch.bfloat16),
        torch.rand(64, frames, height, width_, device=DEVICE).to(torch.bfloat16),
        list(scenes),
    )
    joint = JointSettings(lengths={frames: 1.0}, frames_a_step=frames * setup.clips, compiled=compiled)
    task = DenoiserTask(
        transformer(width, layers, setup), Words(tokenizer, encoder).to(DEVICE), cache=cache, settings=joint
    )
    with _trained(task) as step:
        yield step


@contextmanager
def coding(base: int, decoder: int, setup: Setup, *, compiled: bool) -> Iterator[Step]:
    """One step of the autoencoder's training."""
    config = AutoencoderConfig(
        residual=True, patch_size=4, base_dim=base, decoder_base_dim=decoder, z_dim=32, num_res_blocks=2,
        dim_mult=(1, 1), temporal_downsample=(True,),
    )  # fmt: skip
    network = Autoencoder(config).to(DEVICE, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if compiled:
        network.encoder.compile(dynamic=False)
        network.decoder.compile(dynamic=False)
    frames, height, width = setup.pixels
    video = torch.rand(setup.videos, 3, frames, height, width, device=DEVICE) * 2 - 1
    batch = Batch(video, [""] * setup.videos, torch.rand(setup.videos, frames, height, width, device=DEVICE))
    terms = ReconstructionSettings(batch=setup.videos)
    with _trained(AutoencoderTask(network, lambda step: batch, settings=terms)) as step:
        yield step


@contextmanager
def drawing(device: str, setup: Setup, *, compiled: bool) -> Iterator[Step]:
    """A batch of clips, drawn on `device` by all processors but three; nothing is compiled."""
    frames, height, width = setup.pixels
    workers = max(1, (os.cpu_count() or 2) - 3) if setup is GPU else 1
    drawers = Drawers(workers, device=device)
    source = DrawnSource(drawers, World("full", 2 * frames - 1, (width, height), 12.0), 1, str(DEVICE))
    steps = count()
    with closing(drawers):
        yield lambda: source.batch(next(steps), 64 if setup is GPU else 1)


@contextmanager
def _trained(task: Task) -> Iterator[Step]:
    settings = TrainSettings(
        steps=10**6, optimizer=RECIPES["gpu"].autoencoder.train.optimizer, precision="bfloat16",
        log_steps=1000, checkpoint_steps=10**6, checkpoint_seconds=10**6,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        with closing(train(task, settings, folder)) as events:  # type: ignore[type-var]
            yield lambda: next(events)
            wait()


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def measure(name: str, make: Make, samples: int, *, compiled: bool, steps: int) -> Row:
    """Time one variant; the operations are counted on an uncompiled twin."""
    try:
        counter = FlopCounterMode(display=False)
        if make.func is not drawing:  # there, the operations are those of other processes
            with make(compiled=False) as step, counter:
                step()
        begun = time.perf_counter()
        with make(compiled=compiled) as step:
            for _ in range(3):
                step()
            warm_up = time.perf_counter() - begun
            seconds = [_timed(step) for _ in range(min(steps, 10) if make.func is drawing else steps)]
    except Exception as error:
        return Row(name, fault=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:90]}")
    return Row(name, samples, counter.get_total_flops() / 1e12, statistics.median(seconds), warm_up)


def _timed(step: Step) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def variants(setup: Setup) -> Iterator[tuple[str, Make, int]]:
    """Name, maker and samples a step of all that can be measured, without how it is compiled."""
    for device in dict.fromkeys(("cpu", DEVICE.type)):
        yield f"draw on {device}", partial(drawing, device, setup), 64 if setup is GPU else 1
    for width, layers in setup.widths:
        yield f"denoise {width} x {layers}", partial(denoising, width, layers, setup), 1
    for width, layers in setup.widths:
        name = f"train {width} x {layers}, {setup.clips} clips"
        yield name, partial(training, width, layers, setup), setup.clips
    for base, decoder in setup.bases:
        name = f"autoencoder {base}/{decoder}, {setup.videos} clips"
        yield name, partial(coding, base, decoder, setup), setup.videos


def compare(setup: Setup, *, only: str, modes: Sequence[str], over: Callable[[], bool]) -> list[Row]:
    """Every variant in every mode, as long as time is left; each row is said at once."""
    rows: list[Row] = []
    for name, make, samples in variants(setup):
        for mode in modes:
            idle = mode == "compiled" and name.startswith("draw")
            if only in name and not idle and not over():
                rows.append(
                    measure(f"{name}, {mode}", make, samples, compiled=mode == "compiled", steps=setup.steps)
                )
                print(rows[-1], flush=True)
                torch._dynamo.reset()
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    parser.add_argument("--budget-seconds", type=float, default=500.0, help="after which no row is begun")
    parser.add_argument("--save", type=Path, help="also write the rows as JSON")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to see that it runs")
    chosen = parser.parse_args(arguments)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    end = time.monotonic() + chosen.budget_seconds
    over = lambda: time.monotonic() > end  # noqa: E731
    rows = compare(TOY if chosen.toy else GPU, only=chosen.only, modes=chosen.modes, over=over)
    card = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "processor"
    print(f"\n{card}, torch {torch.__version__}\n{HEAD}", *rows, sep="\n")
    if chosen.save:
        found = {"card": card, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
        chosen.save.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
