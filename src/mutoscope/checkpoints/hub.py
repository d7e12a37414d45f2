"""Where a model is: a folder here, or an "owner/name" on the Hugging Face hub.

A folder always wins. From the hub only the JSON and safetensors of the parts of a model folder are fetched,
so nothing that could run code reaches the disk, and a repository's other weights stay where they are. The
client (`huggingface_hub`) is no dependency of this package: who wants the hub installs it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutoscope.video import Refusal

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def find(place: str | Path, *, parts: Sequence[str]) -> Path:
    """The folder of a model, fetched first if `place` is no folder and looks like a hub id.

    Raises:
        Refusal: neither is there, the client is not installed, or the hub cannot be reached.
    """
    if Path(place).is_dir():
        return Path(place)
    if Path(place).exists():
        raise Refusal(f"{place} is a file; a model is a folder with model_index.json in it")
    if not HUB_ID.fullmatch(str(place)):
        raise Refusal(f"{place}: no such folder; name a model folder, or a hub id like owner/name")
    return _fetch(str(place), patterns=patterns_of(parts))


def patterns_of(parts: Sequence[str]) -> list[str]:
    """What is fetched of a repository."""
    wanted = [f"{part}/*.{ending}" for part in parts for ending in ("json", "safetensors")]
    return ["model_index.json", "mutoscope.json", "README.md", *wanted]


def _fetch(name: str, *, patterns: list[str]) -> Path:
    hub = _client(name)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the client raises the errors of three libraries
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refusal(f"{name}: no such folder here, and the hub does not give it ({words})") from None


def _client(name: str) -> Any:
    try:
        import huggingface_hub  # optional
    except ImportError:
        raise Refusal(
            f"{name}: no such folder; if it is meant as a hub id, run `pip install huggingface_hub` first"
        ) from None
    return huggingface_hub
