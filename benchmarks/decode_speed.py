"""Latents to pixels: how fast, beside diffusers at its default and at its best.

One film of 33 frames at 256x144, Wan 2.1 layout of 32 channels, random weights, the same in all variants.
The variants take turns (`turns`), so that a slow minute hits all of them, and a ratio is the median
of the ratios within rounds. Errors are relative to diffusers in float32: the price of bfloat16, not quality.

    python benchmarks/decode_speed.py            all rounds; a table
    python benchmarks/decode_speed.py --toy      seconds, to see that it runs
    python benchmarks/decode_speed.py --save     also benchmarks/results/decode_speed.json
"""

import argparse
import copy
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import diffusers
import torch
import turns
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from mutoscope.checkpoints import wan_autoencoder
from mutoscope.models.autoencoder import Autoencoder

RESULTS = Path(__file__).parent / "results" / "decode_speed.json"
LAST = torch.channels_last_3d
OURS = "mutoscope bf16"

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


@torch.no_grad()
def networks(film: Film) -> tuple[AutoencoderKLWan, Autoencoder]:
    """Theirs, and ours with the same weights, by way of a folder."""
    torch.manual_seed(0)
    theirs = AutoencoderKLWan(base_dim=film.base).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, wan_autoencoder.load(folder)


def variants(film: Film) -> dict[str, turns.Run]:
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
    decoders, facts = variants(film), turns.machine(diffusers=diffusers.__version__)
    error = turns.errors(decoders)
    results = turns.rows(turns.take_turns(decoders, rounds=count), error, reference=OURS)
    print(f"{film.frames} frames {film.width}x{film.height}, base {film.base}, {count} rounds; {facts}")
    print(turns.table(results, reference=OURS))
    if options.save:
        RESULTS.parent.mkdir(exist_ok=True)
        kept = {"film": asdict(film), "rounds": count, "machine": facts}
        kept["variants"] = {name: asdict(row) for name, row in results.items()}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
