"""The one door where the arithmetic of the networks is chosen.

bfloat16 where the machine multiplies it faster than float32 (twice as fast on processors with AVX512-BF16 or
AMX, more on GPUs), float32 elsewhere. Only networks are lowered: sampling and colours stay in float32.
"""

import copy
from typing import Literal, TypeVar

import torch

from mutoscope.models.autoencoder import Autoencoder
from mutoscope.models.image_autoencoder import ImageAutoencoder
from mutoscope.models.transformer import Transformer
from mutoscope.models.unet import UNet

__all__ = ["Precision", "default_device", "fast_dtype", "prepared"]

Precision = Literal["auto", "float32", "bfloat16"]
Network = TypeVar("Network", Transformer, Autoencoder, ImageAutoencoder, UNet)


def default_device() -> torch.device:
    """The first GPU of CUDA if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_dtype(device: torch.device | str, *, precision: Precision = "auto") -> torch.dtype:
    """What networks compute in on this device; a `precision` other than auto decides by itself."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    device = torch.device(device)
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and _processor_has_bf16()
    return torch.bfloat16 if fast else torch.float32


def _processor_has_bf16() -> bool:
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def prepared(
    network: Network, dtype: torch.dtype, *, device: torch.device, in_place: bool = False
) -> Network:
    """A network ready to make films: on the device, in the dtype, in eval mode. The one given is not changed
    unless `in_place`.

    A transformer keeps in float32 what public code keeps so. Other networks lie in channels_last(_3d), where
    convolutions are fastest.
    """
    ready = network if in_place else copy.deepcopy(network)
    ready.eval().requires_grad_(False)
    if isinstance(ready, Autoencoder):
        return ready.to(device, dtype).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if isinstance(ready, ImageAutoencoder | UNet):
        return ready.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ready.to(device)
    return ready if dtype == torch.float32 else ready.lower_precision(dtype)
