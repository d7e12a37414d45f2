"""Benchmarks are scripts: a test imports one as Python would find it when it runs."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


def _imported(name: str, folder: str = "") -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks" / folder))  # with its neighbours
        return import_module(name)


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """The module of a script in benchmarks/, by its name."""
    return _imported


@pytest.fixture(scope="session")
def gpu_script() -> Callable[[str], ModuleType]:
    """The same of a script in benchmarks/gpu/."""
    return partial(_imported, folder="gpu")
