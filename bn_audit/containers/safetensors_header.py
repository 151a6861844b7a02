"""The header of a safetensors file: names, dtypes, shapes and byte ranges, validated before any of it is used.

Source: safetensors 0.4, ``safetensors/src/tensor.rs``: eight bytes of little-endian length, a JSON object, the data.
"""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TypeGuard

from bn_audit.containers.source import Source
from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef

MAX_HEADER_BYTES = 100_000_000
"""The writer's own limit."""

MAX_TENSOR_BYTES = 64 << 20
"""Largest tensor that is loaded; those of a norm layer have some thousand bytes."""

DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
}
"""PyTorch's names of the writer's dtypes; sub-byte types have no name here and keep the writer's."""

_PLAUSIBLE_LENGTH = 1 << 48
"""Eight bytes of text before a brace, such as indented JSON, are no length."""

_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}


def header_length(source: Source) -> int | None:
    """Return the length of the header in bytes; None where the file does not begin as a safetensors file."""
    if source.size < 10:
        return None
    head = source.head(9)
    length = int.from_bytes(head[:8], "little")
    return length if head[8:] == b"{" and 2 <= length < _PLAUSIBLE_LENGTH else None


def read_header(source: Source) -> dict[str, TensorRef]:
    """Return every tensor of the file in the header's order.

    Raises:
        MalformedFileError: the header is no valid JSON, or tensors overlap, leave gaps or do not fit the file.
        LimitExceededError: the header is larger than the writer allows.
    """
    length = header_length(source)
    if length is None:
        raise MalformedFileError(f"{source.name}: does not begin as a safetensors file")
    if length > MAX_HEADER_BYTES:
        raise LimitExceededError(
            f"{source.name}: a header of {length} bytes, more than the format's {MAX_HEADER_BYTES}"
        )
    try:
        header = json.loads(source.read(8, length), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedFileError(
            f"{source.name}: its header is no valid JSON ({error}): write the file anew"
        ) from error
    if not isinstance(header, dict):
        raise MalformedFileError(f"{source.name}: its header is no JSON object")
    data_start = 8 + length
    tensors = {}
    ranges = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        ref, begin, end = _tensor(source, name, entry, data_start)
        tensors[name] = ref
        ranges.append((begin, end, name))
    _check_ranges(source, sorted(ranges), source.size - data_start)
    return tensors


def _tensor(source: Source, name: str, entry: object, data_start: int) -> tuple[TensorRef, int, int]:
    where = f"{source.name}: tensor {name!r}"
    if not isinstance(entry, dict):
        raise MalformedFileError(f"{where} has no description")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise MalformedFileError(f"{where} has an impossible description: {entry!r:.200}")
    begin, end = offsets
    known = DTYPES.get(dtype, dtype)
    bits = _BITS.get(dtype, ITEM_SIZES.get(known, 0) * 8)
    if bits and (end - begin) * 8 != math.prod(shape) * bits:
        raise MalformedFileError(f"{where} of shape {shape} and dtype {dtype} does not fill its {end - begin} bytes")
    ref = TensorRef(
        name=name,
        dtype=known,
        shape=tuple(shape),
        load=partial(_load, source, where, data_start + begin, end - begin),
        read=partial(_read, source, where, data_start + begin, end - begin),
    )
    return ref, begin, end


def _load(source: Source, where: str, offset: int, length: int) -> bytes:
    if length > MAX_TENSOR_BYTES:
        raise LimitExceededError(f"{where}: {length} bytes, more than the {MAX_TENSOR_BYTES} that are loaded at once")
    return source.read(offset, length)


def _read(source: Source, where: str, start: int, size: int, offset: int, length: int) -> bytes:
    if offset < 0 or length < 0 or offset + length > size:
        raise MalformedFileError(f"{where}: bytes {offset} to {offset + length} are asked for, it has {size}")
    return source.read(start + offset, length)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_ranges(source: Source, ranges: list[tuple[int, int, str]], data_bytes: int) -> None:
    position = 0
    for begin, end, name in ranges:
        if begin != position or end < begin:
            raise MalformedFileError(f"{source.name}: tensor {name!r} overlaps its neighbour or leaves a gap before it")
        position = end
    if position != data_bytes:
        raise MalformedFileError(
            f"{source.name}: truncated or corrupt: its tensors need {position} bytes, the file holds {data_bytes}: "
            "copy or download it again"
        )


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members
