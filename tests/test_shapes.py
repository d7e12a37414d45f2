"""The shape check sees shapes wherever they stand, and nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest
import torch
from jaxtyping import Float, TypeCheckError, UInt8, jaxtyped
from torch import Tensor, nn

import shapes

Row = Float[Tensor, "n"]


class Door(Protocol):
    def open(self) -> None: ...


@jaxtyped(typechecker=shapes.checked)
def dot(a: Row, b: Row, scale: float = 1.0, door: Door | None = None) -> Float[Tensor, ""]:
    return (a * b).sum() * scale


@jaxtyped(typechecker=shapes.checked)
def twice(a: Row) -> Row:
    return torch.cat([a, a])


@pytest.mark.parametrize(
    "hint", [Row, Row | None, list[Row], dict[str, Row], Iterator[Row], Callable[[Row], int]]
)
def test_shapes_are_seen(hint: object) -> None:
    assert shapes.has_shape(hint)


@pytest.mark.parametrize(
    "hint", [Tensor, int, int | None, list[Tensor], Callable[..., int], None, "Row", Door]
)
def test_other_annotations_are_not(hint: object) -> None:
    assert not shapes.has_shape(hint)


def test_an_axis_name_means_one_size() -> None:
    assert dot(torch.ones(3), torch.ones(3)) == 3
    with pytest.raises(TypeCheckError):
        dot(torch.ones(3), torch.ones(4))


def test_what_is_returned_is_checked() -> None:
    with pytest.raises(TypeCheckError):
        twice(torch.ones(3))


def test_dtypes_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        dot(torch.ones(3, dtype=torch.int64), torch.ones(3))
    assert not isinstance(torch.ones(3), UInt8[Tensor, "n"])


def test_the_rest_is_left_to_pyright() -> None:
    assert dot(torch.ones(3), torch.ones(3), scale=2, door=object()) == 6  # type: ignore[arg-type]


def test_a_function_without_shapes_is_itself() -> None:
    def plain(a: int) -> str:
        return str(a)

    assert shapes.checked(plain) is plain


def test_a_function_is_checked_once_for_each_way_of_calling_it() -> None:
    calls = []

    def strict(*given: object) -> None:
        calls.append(given)

    def function(self: object, *given: object) -> None:
        pass

    once = shapes._checked_once(function, lambda: strict, owned=True)
    row, owner = torch.ones(3), nn.Identity()
    for given in (row, torch.zeros(3), torch.ones(4), row.double(), [row]):
        once(owner, given)
    assert len(calls) == 4, "of the first two, one"
    for owner in (nn.Identity(), nn.Identity()):
        once(owner, torch.ones(3))
        once(owner, torch.zeros(3))
    assert len(calls) == 6


def test_what_failed_is_checked_again() -> None:
    once = shapes._once(typechecker=shapes.checked)(dot.__wrapped__)
    for _ in range(2):
        with pytest.raises(TypeCheckError):
            once(torch.ones(3), torch.ones(4))


@shapes._once(typechecker=shapes.checked)
@dataclass(frozen=True)
class Pair:
    a: Row
    b: Row


def test_objects_are_checked_as_they_are_made() -> None:
    assert Pair(torch.ones(3), b=torch.ones(3)).b.sum() == 3
    for _ in range(2):
        with pytest.raises(TypeCheckError):
            Pair(torch.ones(3), b=torch.ones(4))
