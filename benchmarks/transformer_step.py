"""One denoising step on a CPU: the transformer beside diffusers' own, with the same weights.

25 million parameters (10 layers of 6 heads x 64, feed-forward 1536), one video of 448 or 1296 tokens, a
prompt of 12 words. Theirs attends the prompt with all its zero rows, 512 by default and 64 where a user
shortens it; ours attends the same rows as 12 and one (exact), and has computed the keys and values of the
prompt before (once per video, not per step). Every variant is run eagerly and, block by block, compiled. All
share one process in which large memory blocks are kept rather than given back to the system after each layer
(mallopt; --plain-malloc leaves that out).

The variants take turns; a ratio is the median of the ratios within rounds; the error is relative to diffusers
in float32 (rms). Random weights: errors say what bfloat16 costs, not how good a video is.

    python benchmarks/transformer_step.py            1 and 2 threads, a table for each case (half an hour)
    python benchmarks/transformer_step.py --toy      seconds, to see that it runs
    python benchmarks/transformer_step.py --save     also benchmarks/results/transformer_step.json
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import turns
from torch import Tensor, nn

from mutoscope.checkpoints import wan_transformer
from mutoscope.models.memory import keep_memory
from mutoscope.models.text import Text
from mutoscope.models.transformer import Transformer, TransformerConfig

RESULTS = Path(__file__).parent / "results" / "transformer_step.json"
WORDS = 12
CONFIG = TransformerConfig(
    heads=6, head_dim=64, in_channels=16, out_channels=16, text_dim=384, ffn_dim=1536, layers=10
)
TOY = CONFIG.model_copy(update={"heads": 2, "head_dim": 24, "text_dim": 32, "ffn_dim": 64, "layers": 2})
Networks = dict[str, nn.Module]


@dataclass(frozen=True)
class Case:
    """What is denoised: latents of f x h x w tokens, under a prompt padded to some rows."""

    size: tuple[int, int, int]
    rows: int = 512

    @property
    def tokens(self) -> int:
        return self.size[0] * self.size[1] * self.size[2]

    def __str__(self) -> str:
        return f"{self.tokens} tokens, {self.rows} text rows"


CASES = tuple(Case(size, rows) for size in ((4, 8, 14), (4, 18, 18)) for rows in (512, 64))
TOY_CASES = (Case((2, 3, 4), 64),)


@torch.no_grad()
def networks(config: TransformerConfig, *, compiled: bool) -> Networks:
    """Both transformers, of the same weights (by way of a folder), in both precisions, eager and compiled."""
    torch.manual_seed(0)
    start = Transformer(config)
    nn.init.xavier_uniform_(start.head.weight)  # a new one starts as zero, and would compare nothing
    with tempfile.TemporaryDirectory() as folder:
        wan_transformer.save(start, folder)
        public = diffusers.WanTransformer3DModel
        theirs = public.from_pretrained(folder).eval()
        half = public.from_pretrained(folder, torch_dtype=torch.bfloat16).eval()
        ours = wan_transformer.load(folder)
    found: Networks = {"diffusers fp32": theirs, "diffusers bf16": half}
    found |= {"mutoscope fp32": ours, "mutoscope bf16": copy.deepcopy(ours).lower_precision()}
    return found | {f"{name} compiled": by_block(network) for name, network in found.items() if compiled}


def by_block(network: nn.Module) -> nn.Module:
    """A copy whose blocks are compiled, for each shape by itself."""
    network = copy.deepcopy(network)
    if isinstance(network, Transformer):
        return network.compile_blocks()
    network.compile_repeated_blocks(dynamic=False)  # type: ignore[operator]  # diffusers' own way
    return network


@torch.no_grad()
def step(network: nn.Module, case: Case, *, text_dim: int) -> turns.Run:
    """One call of the network in the way of its house; what does not change from step to step is ready."""
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, CONFIG.in_channels, *case.size, generator=generator)
    rows = torch.randn(1, WORDS, text_dim, generator=generator)
    text = Text(rows, torch.ones(1, WORDS, dtype=torch.bool), padded_to=case.rows)
    if isinstance(network, Transformer):
        memory, t = network.remember(text), torch.tensor([[0.5]])
        return lambda: network(noisy, t, text=memory)
    dtype = network.proj_out.weight.dtype
    inputs: tuple[Tensor, ...] = (noisy.to(dtype), torch.tensor([500]), text.explicit().to(dtype))
    return lambda: network(*inputs, return_dict=False)[0]


def measure(case: Case, found: Networks, *, text_dim: int, rounds: int) -> dict[str, turns.Row]:
    variants = {name: step(network, case, text_dim=text_dim) for name, network in found.items()}
    error = turns.errors(variants)
    reference = next(reversed(variants))
    results = turns.rows(turns.take_turns(variants, rounds=rounds), error, reference=reference)
    print(f"\n{case}, {torch.get_num_threads()} threads, {rounds} rounds", flush=True)
    print(turns.table(results, reference=reference), flush=True)
    return results


def on_threads(threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """All cases on so many threads, in this process."""
    torch.set_num_threads(threads)
    kept = not options.plain_malloc and keep_memory()
    config, cases = (TOY, TOY_CASES) if options.toy else (CONFIG, CASES)
    found = networks(config, compiled=not options.toy)
    results = {
        str(case): {
            name: asdict(row)
            for name, row in measure(case, found, text_dim=config.text_dim, rounds=options.rounds).items()
        }
        for case in cases
    }
    facts = turns.machine(diffusers=diffusers.__version__)
    return {"machine": facts, "memory kept": kept, "rounds": options.rounds, "cases": results}


def in_its_own_process(threads: int, arguments: list[str]) -> dict[str, Any]:
    """The same script for one number of threads: compiled code is made for that number, and cached by it."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        cache = Path(tempfile.gettempdir()) / f"transformer-step-{threads}"
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, *arguments, "--threads", str(threads), "--part", str(part)]
        subprocess.run(command, env=environment, check=True)
        return json.loads(part.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="a tiny network, nothing compiled")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--plain-malloc", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}; refused for a toy")
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save and options.toy:
        parser.error("--save keeps measurements, and a toy is none: leave one of the two out")
    if options.part or options.toy:
        results = on_threads(options.threads[0], options)
        if options.part:
            options.part.write_text(json.dumps(results))
        return
    passed = ["--rounds", str(options.rounds), *["--plain-malloc"] * options.plain_malloc]
    parts = {f"{threads} threads": in_its_own_process(threads, passed) for threads in options.threads}
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(parts, indent=2) + "\n")


if __name__ == "__main__":
    main()
