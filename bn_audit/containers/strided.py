"""The elements of a strided tensor as contiguous bytes, reading only the range that holds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import product, repeat
from typing import Literal

from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.subject.tensor import ITEM_SIZES

MAX_GATHERED_ELEMENTS = 1 << 24
"""Largest tensor that is rearranged element by element; the tensors of a norm layer have some thousand."""

_PART_SIZES = {"complex32": 2, "complex64": 4, "complex128": 8}
"""Bytes per real number where an element has two: byte order concerns each part."""

_UNITS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


def contiguous_bytes(
    read: Callable[[int, int], bytes],
    *,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    storage_bytes: int,
    big_endian: bool = False,
) -> bytes:
    """Return a tensor's elements as little-endian, row-major bytes.

    Args:
        read: Returns (offset, length) bytes of the storage, counted from its start.
        name: How messages call the tensor.
        dtype: A key of `ITEM_SIZES`.
        shape: Size of each dimension.
        strides: Elements between neighbours in each dimension, none negative.
        offset: Index of the first element within the storage, in elements.
        storage_bytes: Size of the storage; everything outside it is an error.
        big_endian: The storage was written on a big-endian machine.

    Raises:
        MalformedFileError: the tensor does not lie within its storage.
        LimitExceededError: rearranging it would take too long.
    """
    size = ITEM_SIZES[dtype]
    check_extent(name=name, size=size, shape=shape, strides=strides, offset=offset, storage_bytes=storage_bytes)
    count = math.prod(shape)
    if count == 0:
        return b""
    span = 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    row_major = _is_row_major(shape, strides)
    if not row_major and max(span, count) > MAX_GATHERED_ELEMENTS:
        raise LimitExceededError(
            f"{name}: {count} elements spread over {span} are not rearranged here: save a contiguous copy of the tensor"
        )
    data = read(offset * size, span * size)
    if not row_major:
        data = _gather(data, size, shape, strides)
    return _byteswapped(data, _PART_SIZES.get(dtype, size)) if big_endian else data


def ranged_reader(
    read: Callable[[int, int], bytes],
    *,
    name: str,
    size: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    big_endian: bool = False,
) -> Callable[[int, int], bytes] | None:
    """Return a function that gives (offset, length) of what `contiguous_bytes` would; None where that is rearranged.

    The tensor lies within its storage, as `check_extent` found.
    """
    if big_endian or 0 in shape or not _is_row_major(shape, strides):
        return None
    total = math.prod(shape) * size

    def part(position: int, length: int) -> bytes:
        if position < 0 or length < 0 or position + length > total:
            raise MalformedFileError(f"{name}: bytes {position} to {position + length} are asked for, it has {total}")
        return read(offset * size + position, length)

    return part


def check_extent(
    *, name: str, size: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, storage_bytes: int
) -> None:
    """Raise a MalformedFileError unless every element lies within the storage; see `contiguous_bytes`."""
    if len(shape) != len(strides) or offset < 0 or any(value < 0 for value in (*shape, *strides)):
        raise MalformedFileError(f"{name}: impossible tensor: shape {shape}, strides {strides}, offset {offset}")
    if 0 in shape:
        return
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if (last + 1) * size > storage_bytes:
        raise MalformedFileError(
            f"{name}: element {last} of {size} bytes lies outside its storage of {storage_bytes} bytes: "
            "the file is truncated or corrupt"
        )


def _is_row_major(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


def _gather(data: bytes, size: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """Return the elements in row-major order, one run along the innermost dimension after the other."""
    if size == 16:
        shape, strides, size = (*shape, 2), (*(2 * stride for stride in strides), 1), 8
    units = memoryview(data).cast(_UNITS[size])
    *outer, (length, stride) = _merged(shape, strides)
    gathered = bytearray()
    for start in map(sum, product(*(_steps(*dimension) for dimension in outer))):
        if stride == 0:
            gathered += units[start : start + 1].tobytes() * length
        else:
            gathered += units[start : start + (length - 1) * stride + 1 : stride].tobytes()
    return bytes(gathered)


def _merged(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return (length, stride) of each dimension, those together that are passed in equal steps."""
    merged: list[tuple[int, int]] = [(1, 1)]
    for length, stride in zip(shape, strides, strict=True):
        if length == 1:
            continue
        if merged[-1][0] == 1:
            merged[-1] = (length, stride)
        elif merged[-1][1] == length * stride:
            merged[-1] = (merged[-1][0] * length, stride)
        else:
            merged.append((length, stride))
    return merged


def _steps(length: int, stride: int) -> Iterable[int]:
    return range(0, length * stride, stride) if stride else repeat(0, length)


def _byteswapped(data: bytes, size: int) -> bytes:
    if size == 1:
        return data
    swapped = bytearray(len(data))
    for byte in range(size):
        swapped[byte::size] = data[size - 1 - byte :: size]
    return bytes(swapped)
