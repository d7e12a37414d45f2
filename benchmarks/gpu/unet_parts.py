"""The parts of a U-Net's step that move more numbers than they multiply, on a GPU, each in several ways.

    python benchmarks/gpu/unet_parts.py [--out RECORD.json] [--only norm]

Of the 150 ms that kernels take in a step there (an H200, 2026-11-27; README.md), 111 are spent in the 20
longest kinds that neither multiply matrices nor convolve: group norms, layer norms, feed-forward networks,
attention over few frames, and moves between them. Here each takes turns with what might replace it, forward
and backward under bfloat16 autocast, at shapes of `../unet_step.py`. Beside the milliseconds stand the error
against float64, and the time that reading and writing once takes at 4.8 TB/s.

    group norm    the kernels of torch, moves included (as it is); our formula; our formula, compiled
    layer norm    in the dtype of its input (as it is); as autocast has it, in float32; compiled
    feed          what is inside computed again (as it is); plain; plain, compiled
    frames        16 frames at a pixel: the fused kernel (as it is); product, softmax, product
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import turns
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models import feed, normed
from mutoscope.models.unet_attention import Feed, HeadedAttention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BANDWIDTH = 4.8e12
TIMES = 10
"""Passes that are timed together."""

Made = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Part:
    """One part at one shape: ways to compute it, the first as it is; how many numbers of its size it must at
    least read and write, forward and backward."""

    name: str
    shape: tuple[int, ...]
    ways: Mapping[str, Made]
    moves: int
    module: nn.Module

    @property
    def floor(self) -> float:
        """Milliseconds of reading and writing once, in bfloat16."""
        return 1e3 * 2 * self.moves * torch.Size(self.shape).numel() / BANDWIDTH


def group_norm(frames: int, pixels: int, channels: int) -> Part:
    norm = nn.GroupNorm(32 if channels >= 32 else 4, channels)
    settings = {"groups": norm.num_groups, "eps": norm.eps, "silu": True}

    def ours(x: Tensor) -> Tensor:
        return normed._Normed.apply(x, norm.weight, norm.bias, *settings.values())

    as_it_is = partial(normed.normed, gain=norm.weight, bias=norm.bias, **settings)
    ways = {"as it is": as_it_is, "formula": ours, "formula, compiled": torch.compile(ours, dynamic=True)}
    return Part(f"group norm {channels}", (frames, pixels, channels), ways, 5, norm)


def layer_norm(rows: int, channels: int) -> Part:
    norm = normed.LayerNorm(channels)

    def autocast(x: Tensor) -> Tensor:
        return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    ways = {"as it is": norm, "autocast's": autocast, "compiled": torch.compile(norm.forward, dynamic=True)}
    return Part(f"layer norm {channels}", (rows, channels), ways, 5, norm)


def gated(rows: int, channels: int) -> Part:
    block = Feed(channels)

    def plain(x: Tensor) -> Tensor:
        return feed._plain(x, block.up.weight, block.up.bias, block.down.weight, block.down.bias)

    ways = {"as it is": block, "plain": plain, "plain, compiled": torch.compile(plain, dynamic=True)}
    return Part(f"feed {channels}", (rows, channels), ways, 5 + 8 * 4, block)


def over_frames(clips: int, frames: int, pixels: int, channels: int) -> Part:
    layer = HeadedAttention(channels, head_dim=32)

    def plain(x: Tensor) -> Tensor:
        query, key, value = (layer._heads(part(x)) for part in (layer.query, layer.key, layer.value))
        scores = (query @ key.mT).float() * layer.head_dim**-0.5
        return layer.out((scores.softmax(-1).to(value) @ value).transpose(1, 2).reshape(x.shape))

    shape = (clips, frames, pixels, channels)
    return Part(f"frames {channels}", shape, {"as it is": layer, "products": plain}, 20, layer)


def parts(*, toy: bool) -> list[Part]:
    if toy:
        return [group_norm(2, 16, 16), layer_norm(64, 16), gated(64, 16), over_frames(1, 4, 8, 32)]
    return [
        group_norm(64, 1024, 128), group_norm(64, 256, 512), layer_norm(65_536, 128), layer_norm(16_384, 512),
        gated(65_536, 128), gated(16_384, 512), over_frames(4, 16, 1024, 128), over_frames(4, 16, 64, 512),
    ]  # fmt: skip


def found(part: Part, make: Made, *, dtype: torch.dtype) -> Tensor:
    """What is made of a fixed input, and the gradients of the input and of the weights."""
    generator = torch.Generator().manual_seed(0)
    x, pull = (torch.randn(part.shape, generator=generator).to(DEVICE, dtype) for _ in range(2))
    x.requires_grad_()
    y = make(x)
    pulls = torch.autograd.grad(y, (x, *part.module.parameters()), pull.to(y.dtype))
    return torch.cat([piece.detach().double().flatten() for piece in (y, *pulls)])


def measured(part: Part, *, rounds: int) -> dict[str, turns.Row]:
    """Milliseconds of forward and backward pass for each way, and its error against float64."""
    part.module.double().to(DEVICE)  # the weights that all ways hold
    exact = found(part, part.ways["as it is"], dtype=torch.float64)
    part.module.float()
    x = torch.randn(part.shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)

    @torch.enable_grad()
    def passes(make: Made) -> Tensor:
        for _ in range(TIMES):
            y = make(x)
            pulls = torch.autograd.grad(y, (x, *part.module.parameters()), torch.ones_like(y))
        return pulls[0].flatten()[0].cpu()  # which waits

    with torch.autocast(DEVICE, torch.bfloat16):
        error = {name: apart(found(part, way, dtype=x.dtype), exact) for name, way in part.ways.items()}
        runs = {name: partial(passes, way) for name, way in part.ways.items()}
        turns.take_turns(runs, rounds=1)
        seconds = turns.take_turns(runs, rounds=rounds)
    each = {name: [one / TIMES for one in times] for name, times in seconds.items()}
    return turns.rows(each, error, reference="as it is")


def apart(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def table(part: Part, rows: Mapping[str, turns.Row]) -> str:
    lines = [f"{part.name}, {'x'.join(map(str, part.shape))}, at least {part.floor:.3f} ms"]
    for name, row in rows.items():
        low, high = row.quartiles
        took = f"{row.milliseconds:9.3f} ms  {low:.3f} .. {high:.3f}"
        lines.append(f"  {name:18}{took}   {row.times_reference:.2f} of the first   error {row.error:.1e}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the results here")
    parser.add_argument("--only", default="", help="parts with this in their names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="tiny shapes, to see that it runs")
    asked = parser.parse_args(arguments)
    torch.manual_seed(0)
    record: dict[str, object] = {"machine": turns.machine(device=DEVICE), "rounds": asked.rounds}
    for part in parts(toy=asked.toy):
        if asked.only not in part.name:
            continue
        rows = measured(part, rounds=asked.rounds)
        print(table(part, rows), flush=True)
        shape = {"shape": part.shape, "at least": part.floor}
        record[part.name] = shape | {name: asdict(row) for name, row in rows.items()}
        if asked.out:
            asked.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
