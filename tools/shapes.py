"""Shapes in signatures, checked; everything else in them left to pyright.

The tests hook this into every function of the package (`install_import_hook("mutoscope", "shapes.checked")`),
so that `Float[Tensor, "b c f h w"]` is compared with what is really passed, one axis name meaning one size
within a call. Annotations without a shape are dropped first: a test may pass a stand-in for a protocol or an
int for a float, and pyright has read those already.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


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
