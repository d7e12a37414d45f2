"""How a film was made, told by the film.

Every file carries notes: `prompt`, `seed` and a `comment` for people, `settings` (the whole request and the
machine as JSON) and `weights` (a hash) for `mutoscope reproduce`. The same notes travel with latents that are
not decoded yet.
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch

from mutoscope.models.precision import Precision
from mutoscope.pipelines.request import Request, checked
from mutoscope.video import Refusal

__all__ = ["Provenance", "machine", "notes_of", "provenance_of", "use_threads_of"]


@dataclass(frozen=True)
class Provenance:
    """What a file says about itself.

    weights: fingerprint of the model's weights. model: its name. precision: what the networks computed in.
    machine: what may change the last bits of a film.
    """

    request: Request
    weights: str
    model: str
    precision: Precision
    machine: dict[str, str]

    def differences(self, here: Mapping[str, str]) -> list[str]:
        """In what the machine it was made on differs from `here`, in words."""
        both = sorted(self.machine.keys() & here.keys())
        return [
            f"{name} was {self.machine[name]}, here {here[name]}"
            for name in both
            if self.machine[name] != here[name]
        ]


def machine(device: torch.device | str = "cpu") -> dict[str, str]:
    """What decides the order of sums: device, processor or card, threads, and the version of torch."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = {"threads": str(torch.get_num_threads())} if device.type == "cpu" else {}
    return {"device": device.type, "processor": name, "torch": torch.__version__} | threads


def use_threads_of(made: Provenance) -> None:
    """Lets torch use as many threads as a film was made with, if there are so many cores: sums depend on
    it."""
    threads = made.machine.get("threads", "")
    if threads.isdecimal() and 1 <= int(threads) <= (os.cpu_count() or 1):
        torch.set_num_threads(int(threads))


def notes_of(made: Provenance) -> dict[str, str]:
    """The notes of a film."""
    request = made.request
    # What is usual goes without saying, so that the notes of such films stay what they were.
    usual = {name for name in ("plan", "method") if name not in request.model_dump(exclude_defaults=True)}
    values = request.model_dump(mode="json", exclude={"prompt", "seed", "method"} | usual)
    if "method" not in usual:
        values["method"] = request.method.model_dump(mode="json", exclude_defaults=True)
    settings = values | {"model": made.model, "precision": made.precision, "machine": made.machine}
    width, height = request.size
    comment = (
        f"Made with mutoscope by {made.model or 'a model without a name'} from the words {request.prompt!r}: "
        f"seed {request.seed}, {width}x{height}, {request.frames} frames, {request.steps} steps "
        f"({request.sampler}), guidance {request.guidance:g}."
    )
    return {
        "prompt": request.prompt,
        "seed": str(request.seed),
        "comment": comment,
        "settings": json.dumps(settings),
        "weights": made.weights,
    }


def provenance_of(notes: Mapping[str, str], *, name: object) -> Provenance:
    """What the notes of the file `name` say.

    Raises:
        Refusal: they do not say how it was made. Notes are someone else's word, so all of it is checked.
    """
    missing = [key for key in ("prompt", "seed", "settings", "weights") if not notes.get(key)]
    if missing:
        raise Refusal(
            f"{name}: does not say how it was made (no {', '.join(missing)}); only files that mutoscope "
            "wrote and nobody converted since can be made again"
        )
    settings = _settings(notes["settings"], name=name)
    model, precision, where = (settings.pop(key, None) for key in ("model", "precision", "machine"))
    try:
        request = checked({**settings, "prompt": notes["prompt"], "seed": notes["seed"]})
    except Refusal as error:
        raise Refusal(f"{name}: its notes are damaged ({error})") from None
    return Provenance(
        request=request,
        weights=notes["weights"],
        model=str(model or ""),
        precision=precision if precision in get_args(Precision) else "auto",
        machine={str(k): str(v) for k, v in where.items()} if isinstance(where, dict) else {},
    )


def _settings(text: str, *, name: object) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise Refusal(f"{name}: its notes are damaged (settings are no JSON object)")
    return settings


def _processor() -> str:
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return str(able.get("cpu_name") or platform.machine())
