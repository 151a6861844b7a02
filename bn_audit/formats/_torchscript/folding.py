"""Operators whose result follows from what is known about their arguments: arithmetic, comparisons, sizes, lists."""

from __future__ import annotations

import operator
from collections.abc import Callable

from bn_audit.flow.placement import Size
from bn_audit.formats._torchscript.values import Constant, Literal, Module, Sequence, Symbol, Tensor, Value, sequence_of

MAX_INTEGER = 1 << 63
"""Largest magnitude that is computed with: TorchScript integers have 64 bits."""

_MAX_SYMBOL = 200
"""Longest text of a symbolic size; longer ones prove nothing in practice."""

PASSING = frozenset(
    (
        *("_unwrap_optional", "wait", "prim.NumToTensor", "prim.unchecked_cast", "prim.unchecked_unwrap_optional"),
        *("Int", "Float", "Bool", "IntImplicit", "FloatImplicit", "ScalarImplicit"),
    )
)
"""Operators that return their argument as it is, or as another type."""

_BINARY: dict[str, Callable[[Literal, Literal], object]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "__is__": lambda left, right: left is right if left is None or right is None else left == right,
    "__isnot__": lambda left, right: left is not right if left is None or right is None else left != right,
}

_ARITHMETIC: dict[str, Callable[[float, float], float | bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "__and__": lambda left, right: left and right,
    "__or__": lambda left, right: left or right,
}

_SYMBOLIC = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "div": "/"}


def folded(op: str, arguments: tuple[Value, ...]) -> Value | None:
    """Return the result of an operator; None where it is not known."""
    if not arguments:
        return None
    first = arguments[0]
    if op in PASSING:
        return first
    if len(arguments) == 1:
        return _folded_unary(op, first)
    second = arguments[1]
    if isinstance(first, Constant) and isinstance(second, Constant):
        return _folded_constants(op, first, second)
    if op in ("__is__", "__isnot__"):
        return _compared_with_none(op, first, second)
    if isinstance(first, Sequence):
        return _folded_sequence(op, first, arguments)
    if op == "size" and isinstance(first, Tensor) and isinstance(second, Constant):
        return size_of(first, second.value)
    if op in _SYMBOLIC and isinstance(first, Symbol | Constant) and isinstance(second, Symbol | Constant):
        return _symbol(op, first, second)
    return None


def size_of(tensor: Tensor, axis: Literal) -> Value | None:
    """Return one size of a tensor; a symbol where its rank is not known."""
    if not isinstance(axis, int) or isinstance(axis, bool):
        return None
    if tensor.shape is None:
        return Symbol(f"{tensor.name}[{axis}]")
    return from_size(tensor.shape[axis]) if -len(tensor.shape) <= axis < len(tensor.shape) else None


def from_size(size: Size) -> Value | None:
    """Return a size as a value."""
    return Symbol(size) if isinstance(size, str) else None if size is None else Constant(size)


def to_size(value: Value) -> Size:
    """Return a value as a size; None where it is none, or where it is -1, the rest."""
    if isinstance(value, Symbol):
        return value.text
    if isinstance(value, Constant) and isinstance(value.value, int) and value.value >= 0:
        return int(value.value)
    return None


def _folded_unary(op: str, value: Value) -> Value | None:
    if isinstance(value, Constant):
        if op == "__not__":
            return Constant(not value.value, value.flags)
        return value if op in ("int", "float", "bool") and isinstance(value.value, bool | int | float) else None
    if isinstance(value, Symbol):
        return value if op in ("int", "float") else None
    if isinstance(value, Sequence):
        return Constant(len(value.items)) if op == "len" else None
    if isinstance(value, Tensor) and value.shape is not None:
        if op in ("dim", "ndimension"):
            return Constant(len(value.shape))
        sizes = tuple(from_size(size) for size in value.shape)
        if op == "size" and None not in sizes:
            return sequence_of(tuple(size for size in sizes if size is not None))
    return None


def _folded_constants(op: str, first: Constant, second: Constant) -> Constant | None:
    flags = first.flags | second.flags
    if op in _BINARY:
        return Constant(bool(_BINARY[op](first.value, second.value)), flags)
    left, right = first.value, second.value
    if op not in _ARITHMETIC or isinstance(left, str | None) or isinstance(right, str | None):
        return None
    try:
        result = _ARITHMETIC[op](left, right)
    except OverflowError:
        return None
    return Constant(result, flags) if abs(result) <= MAX_INTEGER else None


def _compared_with_none(op: str, first: Value, second: Value) -> Constant | None:
    """A stored tensor, a module or a list is never None; what a call returned may be."""
    for value, other in ((first, second), (second, first)):
        if isinstance(other, Constant) and other.value is None:
            exists = isinstance(value, Module | Sequence | Symbol) or (
                isinstance(value, Tensor) and value.slot is not None
            )
            return Constant(op == "__isnot__", other.flags) if exists else None
    return None


def _folded_sequence(op: str, first: Sequence, arguments: tuple[Value, ...]) -> Value | None:
    second = arguments[1]
    if op == "add" and isinstance(second, Sequence):
        return sequence_of(first.items + second.items)
    if op == "__getitem__" and isinstance(second, Constant) and isinstance(second.value, int):
        return first.items[second.value] if -len(first.items) <= second.value < len(first.items) else None
    if op == "slice":
        return _sliced(first, arguments[1:])
    if op == "__contains__" and isinstance(second, Constant):
        members = [item.value for item in first.items if isinstance(item, Constant)]
        return Constant(second.value in members) if len(members) == len(first.items) else None
    return None


def _sliced(value: Sequence, bounds: tuple[Value, ...]) -> Sequence | None:
    places = [bound.value if isinstance(bound, Constant) else "?" for bound in bounds]
    start, end, step = (*places, None, None, None)[:3]
    if step not in (None, 1) or not isinstance(start, int | None) or not isinstance(end, int | None):
        return None
    return sequence_of(value.items[start:end])


def _symbol(op: str, first: Symbol | Constant, second: Symbol | Constant) -> Symbol | None:
    left, right = (item.text if isinstance(item, Symbol) else str(item.value) for item in (first, second))
    text = f"({left}{_SYMBOLIC[op]}{right})"
    return Symbol(text) if len(text) <= _MAX_SYMBOL else None
