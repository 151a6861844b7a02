"""What the name of a value stands for while a graph is followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bn_audit.flow.cells import Cells, UndecidableError, may, several, some
from bn_audit.flow.constants import Array, Constant
from bn_audit.subject.graph import Node


@dataclass(frozen=True, slots=True)
class Lost:
    """A value of which not even the shape can be told.

    Attributes:
        why: Clause that says what could not be followed.
        conflict: True where a node cannot run on these shapes at all.
    """

    node: Node
    why: str
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Several:
    """A sequence of values, or an optional one."""

    items: tuple[Value, ...]


Value: TypeAlias = "Cells | Constant | Lost | Several"


def is_mixed(value: Value) -> bool:
    """Whether some element certainly depends on more than one sample."""
    return isinstance(value, Cells) and bool(several(some(value.owners)).any())


def may_mix(value: Value) -> bool:
    """Whether some element may depend on more than one sample."""
    if isinstance(value, Several):
        return any(map(may_mix, value.items))
    return isinstance(value, Lost) or (isinstance(value, Cells) and bool(several(may(value.owners)).any()))


def operand(value: Value | None) -> Cells | Constant:
    """Return a value that must be an array.

    Raises:
        UndecidableError: it is none.
    """
    if isinstance(value, Cells | Constant):
        return value
    if isinstance(value, Lost):
        raise UndecidableError(value.why)
    raise UndecidableError("an array is missing" if value is None else "a sequence stands where an array belongs")


def known(value: Value | None) -> Array:
    """Return the elements of a value that must be a constant.

    Raises:
        UndecidableError: it depends on the data, or cannot be read.
    """
    array = operand(value)
    if isinstance(array, Constant):
        values = array.values()
        if values is not None:
            return values
        raise UndecidableError("a constant that decides where elements go is too large or cannot be read")
    raise UndecidableError("where elements go depends on the data")


def whole(value: Value | None) -> tuple[int, ...]:
    """Return the elements of a constant as integers."""
    array = np.asarray(known(value)).reshape(-1)
    return tuple(int(element) for element in array)
