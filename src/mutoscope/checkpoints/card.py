"""Cards: how a module of this house is written in a public layout, and read from one.

A layout is a folder with a config.json and safetensors, as diffusers and transformers write them. Inside the
code names, shapes and settings are ours; a `Card` says for one public class how they translate:

    module  --to_public, public_shape, write_config-->  folder  --read_config, build, to_ours-->  module

Reading is strict. A file that lacks a weight, has one too many, one of another shape, or bytes too few is
refused in one line that names it; nothing is loaded in part, and nothing is ever unpickled.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mutoscope.video import Refusal

CONFIG = "config.json"
Shape = tuple[int, ...]
Module = TypeVar("Module", bound=nn.Module)


def same_shape(name: str, shape: Shape) -> Shape:
    """The shape in the public layout of our weight `name`, where the two do not differ."""
    return shape


def no_shapes(name: str, shape: Shape) -> tuple[Shape, ...]:
    """The shapes of our weight `name` in older files of a layout that never had others."""
    return ()


@dataclass(frozen=True)
class Card(Generic[Module]):
    """One public layout.

    Args:
        class_name: the public class, `_class_name` or `architectures[0]` in config.json.
        build: our settings to a module, whose `config` they are.
        to_public: our name of a weight to the public one.
        to_ours: the public name to ours; None for a weight that is known and of no use.
        write_config: our settings to all of config.json, the class name included.
        read_config: config.json to our settings.
        public_shape: our name and our shape of a weight to its public shape, with as many elements.
        old_shapes: our name and the public shape to those that older files have instead; read, never written.
        weights: file name of the weights before `.safetensors`.
    """

    class_name: str
    build: Callable[[Any], Module]
    to_public: Callable[[str], str]
    to_ours: Callable[[str], str | None]
    write_config: Callable[[Any], dict[str, Any]]
    read_config: Callable[[Mapping[str, Any]], Any]
    public_shape: Callable[[str, Shape], Shape] = same_shape
    old_shapes: Callable[[str, Shape], tuple[Shape, ...]] = no_shapes
    weights: str = "diffusion_pytorch_model"

    def save(self, module: Module, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Writes `module` to `folder`, each file whole or not at all, floating-point weights as `dtype`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {self.to_public(n): self._to_file(n, x, dtype) for n, x in module.state_dict().items()}
        with replacing(folder / f"{self.weights}.safetensors") as path:
            save_file(tensors, path, metadata={"format": "pt"})
        with replacing(folder / CONFIG) as path:
            path.write_text(json.dumps(self.write_config(module.config), indent=2) + "\n")

    def load(self, folder: str | Path) -> Module:
        """The module in `folder`, for inference (`eval`), in float32 whatever the precision of the files.

        Raises `Refusal` for what is missing, of another class, damaged, or does not fit its own config.json.
        """
        folder = Path(folder)
        module = self.build(self.read_settings(folder))
        own = module.state_dict()
        shapes = {name: self.public_shape(name, tuple(x.shape)) for name, x in own.items()}
        for path, names in self._find(folder, shapes).items():
            with opened(path) as file, torch.no_grad():
                for name, public in names.items():
                    own[name].copy_(file.get_tensor(public).reshape(own[name].shape))
        return module.eval()

    def read_settings(self, folder: str | Path) -> Any:
        """Our settings, from the config.json of `folder`."""
        path = Path(folder) / CONFIG
        config = read_json(path)
        name = config.get("_class_name") or (config.get("architectures") or [None])[0]
        if name not in (None, self.class_name):
            raise Refusal(f"{path}: the class is {name!r}, and {self.class_name!r} is wanted here")
        try:
            return self.read_config(config)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Refusal(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None

    def _to_file(self, name: str, x: Tensor, dtype: torch.dtype | None) -> Tensor:
        x = x.detach().to("cpu", dtype if x.is_floating_point() else None)
        # A copy, contiguous in the plain sense: safetensors take neither strides nor shared memory.
        return x.reshape(self.public_shape(name, tuple(x.shape))).clone(memory_format=torch.contiguous_format)

    def _find(self, folder: Path, shapes: Mapping[str, Shape]) -> dict[Path, dict[str, str]]:
        """The files and the weights in each, our names and the names there. Checks all but values."""
        found: dict[Path, dict[str, str]] = {}
        strange: list[str] = []
        for path in weight_files(folder, self.weights):
            found[path] = {}
            with opened(path) as file:
                for public in file.keys():
                    ours = self.to_ours(public)
                    if ours is not None and ours in shapes:
                        found[path][ours] = public
                        allowed = (shapes[ours], *self.old_shapes(ours, shapes[ours]))
                        _check_shape(path, public, tuple(file.get_slice(public).get_shape()), allowed)
                    elif ours is not None:
                        strange.append(public)
        there = {name for names in found.values() for name in names}
        missing = [self.to_public(name) for name in shapes if name not in there]
        if missing or strange:
            kinds = (("missing", missing), ("unknown", strange))
            lists = "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in kinds if names)
            raise Refusal(f"{folder}: the weights do not fit {CONFIG}: {lists}")
        return found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file; a model folder needs it") from None
    except (OSError, ValueError) as error:
        raise Refusal(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise Refusal(f"{path}: holds a {type(value).__name__}, an object {{..}} is needed")
    return value


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors of `folder`: the one file, or all that the index of a sharded model names."""
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        return [folder / _plain_name(index, name) for name in _shards(index)]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.ckpt")):
        raise Refusal(
            f"{folder}: holds pickled weights, which can run code; convert them to {single.name} first"
        )
    raise Refusal(f"{folder}: neither {single.name} nor {index.name} is there")


def some(names: Sequence[str], *, most: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more


def settings_from(model: type[BaseModel], values: Mapping[str, Any], *, known: Sequence[str] = ()) -> Any:
    """`model` from public values by the names of its fields; a warning for values nobody knows."""
    strange = [n for n in values if n not in model.model_fields and n not in known and not n.startswith("_")]
    if strange:
        warnings.warn(f"settings that this version does not know are ignored: {some(strange)}", stacklevel=2)
    return model(**{name: value for name, value in values.items() if name in model.model_fields})


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The values, those that `names` knows under their other name."""
    return {names.get(name, name): value for name, value in values.items()}


def _shards(index: Path) -> list[str]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
        raise Refusal(f"{index}: weight_map must name a file for each weight")
    return sorted(set(names.values()))


def _plain_name(index: Path, name: str) -> str:
    # An index from elsewhere must not reach outside its folder.
    if "/" in name or "\\" in name or not name.endswith(".safetensors"):
        raise Refusal(f"{index}: {name!r} is no file name; safetensors beside the index are needed")
    return name


def _check_shape(path: Path, name: str, found: Shape, allowed: Sequence[Shape]) -> None:
    if found not in allowed:
        raise Refusal(f"{path}: {name} has the shape {found}, and {CONFIG} asks for {allowed[0]}")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of safetensors for the length of the block, with a Refusal for what cannot be read of it."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise Refusal(f"{path}: damaged, or no safetensors ({error})") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` if all goes well and is gone otherwise."""
    writing = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        yield writing
        os.replace(writing, path)
    finally:
        writing.unlink(missing_ok=True)
