"""A hollow PyAV, for machines that lack it: importing this module puts it in place.

`mutoscope.media` reads and writes films through PyAV and imports it with the room. Its wheel weighs 36 MB,
half of what may be carried to a lent machine, and training there reads and writes no film. Where the real one
is installed, nothing happens.
"""

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import MagicMock

HOLLOW = "av"


class _Module(ModuleType):
    """Has whatever is asked of it: errors that nobody raises, and things of which nothing comes."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (OSError,), {}) if name.endswith("Error") else MagicMock(name=name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname.split(".")[0] != HOLLOW:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


if importlib.util.find_spec(HOLLOW) is None:
    sys.meta_path.append(_Finder())
