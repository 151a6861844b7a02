"""Arithmetic on small tensors as IEEE 754 defines it, without numpy."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Callable, Sequence

from bn_audit.errors import TensorUnavailableError

_INTEGERS = {
    "bool": "B",
    "uint8": "B",
    "int8": "b",
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
}


def encode(dtype: str, values: Sequence[float]) -> bytes:
    """Return numbers as little-endian elements, rounded to nearest; integers wrap around and truncate towards zero.

    Raises:
        TensorUnavailableError: the dtype is none that is written here.
    """
    if dtype in ("float32", "float64"):
        return _little_endian(array("f" if dtype == "float32" else "d", values))
    if dtype == "float16":
        return b"".join(_half(value) for value in values)
    if dtype == "bfloat16":
        return b"".join(_bfloat(value) for value in values)
    code = _INTEGERS.get(dtype)
    if code is None:
        raise TensorUnavailableError(f"elements of dtype {dtype} are not computed")
    if dtype == "bool":
        return bytes(value != 0 for value in values)
    bits = 8 * array(code).itemsize
    whole = [(int(value) if math.isfinite(value) else 0) & ((1 << bits) - 1) for value in values]
    return _little_endian(array(code.upper(), whole))


def _little_endian(elements: array[float] | array[int]) -> bytes:
    if sys.byteorder == "big":
        elements.byteswap()
    return elements.tobytes()


def _half(value: float) -> bytes:
    try:
        return struct.pack("<e", value)
    except OverflowError:
        return struct.pack("<e", math.copysign(math.inf, value))


def _bfloat(value: float) -> bytes:
    bits = int.from_bytes(_little_endian(array("f", [value])), "little")
    if value == value:  # a NaN must not round up to an infinity
        bits += 0x7FFF + (bits >> 16 & 1)
    return (bits >> 16).to_bytes(2, "little")


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of an element-by-element operation; None where the shapes do not fit."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    sizes = []
    for axis in zip(*padded, strict=True):
        others = {size for size in axis if size != 1}
        if len(others) > 1:
            return None
        sizes.append(others.pop() if others else 1)
    return tuple(sizes)


def broadcasted(values: Sequence[float], shape: tuple[int, ...], wanted: tuple[int, ...]) -> Sequence[float]:
    """Return row-major elements repeated along the axes of size 1 until they fill the wanted shape."""
    if shape == wanted:
        return values
    padded = (1,) * (len(wanted) - len(shape)) + shape
    indices = [0]
    stride = math.prod(padded)
    for size, target in zip(padded, wanted, strict=True):
        stride //= max(size, 1)
        step = stride if size == target else 0
        indices = [index + step * place for index in indices for place in range(target)]
    return [values[index] for index in indices]


def divide(first: float, second: float) -> float:
    """Return the quotient, infinite or NaN where the divisor is zero."""
    if second != 0:
        return first / second
    if first == 0 or math.isnan(first):
        return math.nan
    return math.copysign(math.inf, first) * math.copysign(1.0, second)


def truncated_quotient(first: float, second: float) -> float:
    """Return an integer quotient rounded towards zero; 0 where the divisor is zero, which ONNX leaves undefined."""
    return (
        0
        if second == 0
        else int(first) // int(second)
        if (first < 0) == (second < 0)
        else -(-int(first) // int(second))
    )


def power(first: float, second: float) -> float:
    """Return a power, NaN where it is not real."""
    try:
        # As floats, for a power of integers may have any number of digits.
        result = float(first) ** float(second)
    except (OverflowError, ZeroDivisionError):
        return math.inf
    return result if isinstance(result, int | float) else math.nan


def square_root(value: float) -> float:
    """Return the square root, NaN of a negative number."""
    return math.sqrt(value) if value >= 0 else math.nan


def exponential(value: float) -> float:
    """Return e to a power, infinite where it is too large."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


BINARY: dict[str, Callable[[float, float], float]] = {
    "Add": lambda first, second: first + second,
    "Sub": lambda first, second: first - second,
    "Mul": lambda first, second: first * second,
    "Div": divide,
    "Pow": power,
    "Max": max,
    "Min": min,
}
"""Operators over two operands; their names are those of ONNX."""

UNARY: dict[str, Callable[[float], float]] = {
    "Sqrt": square_root,
    "Reciprocal": lambda value: divide(1.0, value),
    "Neg": lambda value: -value,
    "Abs": abs,
    "Exp": exponential,
    "Relu": lambda value: max(value, 0.0),
}
