"""One call of an ATen operator, its arguments found by the names of its schema.

Source of names and defaults: torch 2.13 ``aten/src/ATen/native/native_functions.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells
from bn_audit.flow.call import Call, Result
from bn_audit.flow.cells import Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.constants import Array, Constant
from bn_audit.flow.movement import axis_of
from bn_audit.flow.values import Value, known, operand
from bn_audit.subject.graph import AttributeValue, InputRef

IMMATERIAL = frozenset(
    (
        "dtype",
        "input_dtypes",
        "device",
        "layout",
        "pin_memory",
        "non_blocking",
        "memory_format",
        "copy",
        "generator",
        "cudnn_enabled",
    )
)
"""Arguments that do not change which function of its sample an element is."""

FLOATS = frozenset(
    (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "float8_e4m3fn",
        "float8_e5m2",
        "complex32",
        "complex64",
        "complex128",
    )
)

NAMESPACES = frozenset(("_operator", "torch", "math", "builtins", "prims", "quantized_decomposed", "higher_order"))
"""Where operators come from that are not ATen's."""

_NUMPY = {"bfloat16": np.float32, "float8_e4m3fn": np.float32, "float8_e5m2": np.float32, "complex32": np.complex64}


def base_name(op: str) -> str:
    """Return the name of an operator without its overload: ``aten.add`` of ``aten.add.Tensor``."""
    return ".".join(op.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one call."""

    call: Call

    @property
    def op(self) -> str:
        """The operator without its overload."""
        return base_name(self.call.node.op)

    @property
    def seed(self) -> tuple[object, ...]:
        """What tells this function from others: the operator, with its numbers and settings."""
        attributes = self.call.node.attributes
        return (
            self.op,
            tuple((name, self._plain(attributes[name])) for name in sorted(attributes) if name not in IMMATERIAL),
        )

    def _plain(self, value: AttributeValue) -> object:
        if isinstance(value, InputRef):
            found = self._input(value)
            if isinstance(found, Constant) and found.shape == () and (number := found.values()) is not None:
                return number.item()
            return "value"
        if isinstance(value, tuple):
            return tuple(map(self._plain, value))
        return value if isinstance(value, bool | int | float | str | None) else "value"

    def _input(self, reference: InputRef) -> Value | None:
        inputs = self.call.inputs
        return inputs[reference.index] if reference.index < len(inputs) else None

    def raw(self, name: str) -> AttributeValue:
        return self.call.node.attributes.get(name)

    def has(self, name: str) -> bool:
        """Whether the argument is given and not None."""
        return self.raw(name) is not None

    def value(self, name: str) -> Value | None:
        """Return an argument as a value; numbers become constants."""
        return self._value(self.raw(name))

    def _value(self, raw: AttributeValue) -> Value | None:
        if isinstance(raw, InputRef):
            return self._input(raw)
        if isinstance(raw, bool | int | float):
            return self.call.constant(np.asarray(raw))
        return None

    def operand(self, name: str) -> Operand:
        """Return an argument that must be an array; numbers become constants."""
        found = self.value(name)
        if found is None:
            raise UndecidableError(f"its argument {name!r} is missing")
        return operand(found)

    def cells(self, name: str) -> Cells:
        """Return the cells of an argument that must be an array."""
        return as_cells(self.operand(name))

    def optional(self, name: str) -> Operand | None:
        """Return an argument that may be absent."""
        return self.operand(name) if self.has(name) else None

    def listed(self, name: str) -> list[Value | None]:
        """Return the values of an argument that is a list; None for the places left out."""
        raw = self.raw(name)
        return [self._value(item) for item in raw] if isinstance(raw, tuple) else []

    def operands(self, name: str) -> list[Operand]:
        """Return the arrays of an argument that is a list of them."""
        return [operand(value) for value in self.listed(name)]

    def number(self, name: str, default: float) -> float:
        """Return an argument that must be a constant number."""
        return float(self._number(self.raw(name), default))

    def integer(self, name: str, default: int) -> int:
        """Return an argument that must be a constant integer."""
        return int(self._number(self.raw(name), default))

    def _number(self, raw: AttributeValue, default: float) -> float | int:
        if raw is None:
            return default
        if isinstance(raw, bool | int | float):
            return raw
        array = known(self._value(raw))
        if array.size != 1:
            raise ShapeConflictError(f"{array.size} numbers stand where one belongs")
        number: float | int = array.reshape(()).item()
        return number

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return an argument that is an integer or a list of them; None where it is not given."""
        raw = self.raw(name)
        if raw is None:
            return None
        if isinstance(raw, tuple):
            return tuple(int(self._number(item, 0)) for item in raw)
        return (int(self._number(raw, 0)),)

    def flag(self, name: str, default: bool) -> bool:
        return bool(self._number(self.raw(name), default))

    def text(self, name: str, default: str) -> str:
        raw = self.raw(name)
        return raw if isinstance(raw, str) else default

    def axis(self, name: str, default: int, rank: int) -> int:
        return axis_of(self.integer(name, default), rank)

    def axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Return an argument with axes, counted from the front and in order; all where none is given."""
        given = self.integers(name)
        return tuple(range(rank)) if not given else tuple(sorted({axis_of(axis, rank) for axis in given}))

    def array(self, name: str) -> Array:
        """Return the elements of an argument that must be constant."""
        return known(self.value(name))

    def arrays(self, name: str) -> list[Array]:
        """Return the elements of an argument that is a list of constants."""
        return [known(value) for value in self.listed(name)]

    def kind(self, default: Array | None = None) -> np.dtype[np.generic] | None:
        """Return numpy's type for the argument ``dtype``; that of `default` where it is not given."""
        name = self.raw("dtype")
        if isinstance(name, str):
            return np.dtype(_NUMPY.get(name, name))
        return None if default is None else default.dtype

    def dtype_of(self, operand: Operand) -> str | None:
        """Return the element type of one of the inputs, where the node records it."""
        recorded = self.raw("input_dtypes")
        for value, name in zip(self.call.inputs, recorded if isinstance(recorded, tuple) else (), strict=False):
            if value is operand:
                return name if isinstance(name, str) else None
        return None

    def constant(self, values: Array) -> Constant:
        return self.call.constant(values)

    def is_light(self, name: str) -> bool:
        """Whether an argument is a constant whose values are at hand."""
        found = self.value(name)
        return isinstance(found, Constant) and found.is_light


Entry: TypeAlias = Callable[[Arguments], Result]
"""What an operator does to cells."""
Computation: TypeAlias = "Callable[[Arguments], Array | tuple[Array, ...]]"
"""What an operator computes from constants."""


def named(names: str, function: Entry) -> Iterator[tuple[str, Entry]]:
    """Yield a table row for each operator in a list such as ``"add.Tensor add.Scalar"``, all of ATen."""
    for name in names.split():
        yield full_name(name), function


def rows(*groups: tuple[str, Entry]) -> dict[str, Entry]:
    """Return the table rows of groups of operators that one entry serves."""
    return {name: function for names, entry in groups for name, function in named(names, entry)}


def computed(*groups: tuple[str, Computation]) -> dict[str, Computation]:
    """Return the rows of groups of operators that one computation serves."""
    return {full_name(name): function for names, function in groups for name in names.split()}


def full_name(name: str) -> str:
    """Return the name of an operator with its namespace, which is ATen's where none is given."""
    return name if name.partition(".")[0] in NAMESPACES else f"aten.{name}"


Table: TypeAlias = Mapping[str, Entry]
