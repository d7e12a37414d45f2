"""Shapes in signatures, checked; everything else in them left to pyright.

The tests hook this into every function of the package (`hook`), so that `Float[Tensor, "b c f h w"]` is
compared with what is really passed, one axis name meaning one size within a call. Annotations without a shape
are dropped first: a test may pass a stand-in for a protocol or an int for a float, and pyright has read those
already. A function that names no shape is left as it is, and one that does is checked once for each
set of shapes and dtypes that an object of its own is given: checks are half of what a small network costs.
"""

import functools
from collections.abc import Callable
from typing import Any, get_args
from weakref import WeakKeyDictionary

import jaxtyping
import torch
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

jaxtyped = jaxtyping.jaxtyped


def hook(package: str) -> None:
    """Check every function of the package; before its first import."""
    jaxtyping.jaxtyped = _once  # where the hook's decorators look for it
    install_import_hook(package, "shapes.checked")


def _once(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """jaxtyped, for each way of calling once."""

    def decorated(thing: Any) -> Any:
        hints = getattr(thing, "__annotations__", {}).values()
        if not any(has_shape(hint) or isinstance(hint, str) for hint in hints):
            return thing
        if isinstance(thing, type):
            return _made_once(thing, typechecker)
        # Writing a checker takes a millisecond: only for what is called.
        strict = functools.cache(lambda: jaxtyped(thing, typechecker=typechecker))
        return _checked_once(thing, strict, owned=thing.__code__.co_varnames[:1] in (("self",), ("cls",)))

    return decorated


def _made_once(cls: type, typechecker: Callable[..., Any]) -> type:
    """A dataclass whose objects are checked, for each way of making one."""
    plain = cls.__init__
    jaxtyped(cls, typechecker=typechecker)
    strict = cls.__init__
    if strict is not plain:
        cls.__init__ = _checked_once(plain, lambda: strict, owned=False)  # type: ignore[misc]
    return cls


def _checked_once(
    function: Callable[..., Any], strict: Callable[[], Callable[..., Any]], *, owned: bool
) -> Callable[..., Any]:
    """The function, as `strict()` has it for each way of calling that it has not passed yet. owned: the first
    argument is the object whose function it is, and others may return other shapes."""
    own: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()
    common: set[Any] = set()

    def ways_of(owner: Any) -> set[Any]:
        try:
            return own.setdefault(owner, set())
        except TypeError:  # cannot be told from others: checked at every call
            return set()

    @functools.wraps(function)
    def checked_once(*given: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*given, **named)
        seen, way = ways_of(given[0]) if owned and given else common, (_way(given), _way(named))
        if way in seen:
            return function(*given, **named)
        returned = strict()(*given, **named)
        seen.add(way)
        return returned

    return checked_once


def _way(value: Any) -> Any:
    """What a check of shapes looks at."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_way, value))
    if isinstance(value, dict):
        return tuple((name, _way(part)) for name, part in value.items())
    return type(value)


def has_shape(annotation: Any) -> bool:
    """Whether a jaxtyping shape stands anywhere in it, as in `list[Float[Tensor, "b"]]` or beside a None."""
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    parts = annotation if isinstance(annotation, list) else get_args(annotation)
    return any(has_shape(part) for part in parts)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its shapes checked by beartype at each call; itself where it names none."""
    kept = {name: hint for name, hint in function.__annotations__.items() if has_shape(hint)}
    function.__annotations__ = kept
    return beartype(function) if kept else function
