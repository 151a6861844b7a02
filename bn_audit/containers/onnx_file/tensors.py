"""The elements of ONNX tensors: inside the file as raw bytes or lists of numbers, or in another file beside it.

Source: onnx/onnx.proto of ONNX 1.23, ``TensorProto``; docs/ExternalData.md; ``numpy_helper.to_array``.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable

from bn_audit.containers.onnx_file.records import TensorRecord
from bn_audit.containers.protobuf import Span, varints
from bn_audit.containers.source import Source
from bn_audit.errors import LimitExceededError, MalformedFileError, MissingTargetError, TensorUnavailableError
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef

MAX_TENSOR_BYTES = 64 << 20
"""Largest tensor that is loaded; the tensors of a norm layer have some kilobytes."""

MAX_DIMENSION = 1 << 48
"""Larger sizes are no sizes of tensors; their product stays a number that is handled quickly."""

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
    27: "float6_e2m3fn",
    28: "float6_e3m2fn",
}
"""``TensorProto.DataType`` by PyTorch's names."""

_FIELDS = {
    "float_data": frozenset(("float32", "complex64")),
    "double_data": frozenset(("float64", "complex128")),
    "int64_data": frozenset(("int64",)),
    "uint64_data": frozenset(("uint32", "uint64")),
}
"""The dtypes that each list of numbers holds; ``int32_data`` holds all smaller ones."""

_MAX_VARINT_BYTES = 10

_UNSIGNED_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def dtype_name(data_type: int | None) -> str | None:
    """Return the name of an element type; None where it is not stated."""
    return DTYPES.get(data_type, f"onnx-type-{data_type}") if data_type else None


def tensor_ref(source: Source, record: TensorRecord, name: str | None = None) -> TensorRef:
    """Return a tensor of the file; its elements are read when they are asked for.

    Raises:
        MalformedFileError: its shape is impossible, or its raw bytes do not fill it.
    """
    called = record.name if name is None else name
    what = f"{source.name}: tensor {called!r}"
    dims = record.dims
    if dims is None or any(not 0 <= size <= MAX_DIMENSION for size in dims):
        shown = "a list too long for a shape" if dims is None else str(dims)
        raise MalformedFileError(f"{what} has the impossible shape {shown}: export the model again")
    dtype = dtype_name(record.data_type) or "undefined"
    wanted = math.prod(dims) * ITEM_SIZES.get(dtype, 0)
    raw = sum(span.length for field, span in record.data if field == "raw_data")
    if wanted and raw and raw != wanted and not record.is_external:
        raise MalformedFileError(
            f"{what} of shape {dims} and dtype {dtype} needs {wanted} bytes, the file has {raw}: export the model again"
        )
    load = _loader(source, record, what, dtype, wanted)
    return TensorRef(name=called, dtype=dtype, shape=dims, load=load, read=_reader(source, record, what, wanted))


def check_external(source: Source, record: TensorRecord) -> None:
    """Raise a MalformedFileError where a tensor's elements would lie outside the directory or behind a file's end.

    That the other file is missing is no error here: the graph says enough without it.
    """
    if record.is_external:
        what = f"{source.name}: tensor {record.name!r}"
        location, offset, length = _external(record, what)
        try:
            sibling = source.sibling(location)
        except MissingTargetError:
            return
        if offset + (length or 0) > sibling.size:
            raise MalformedFileError(_outside(what, location, offset, length or 0, sibling.size))


def _loader(source: Source, record: TensorRecord, what: str, dtype: str, wanted: int) -> Callable[[], bytes]:
    def load() -> bytes:
        if dtype not in ITEM_SIZES:
            raise TensorUnavailableError(f"{what}: elements of dtype {dtype} are not read")
        if record.is_sparse:
            raise TensorUnavailableError(f"{what}: a sparse tensor, whose elements are not read")
        if wanted > MAX_TENSOR_BYTES:
            raise LimitExceededError(f"{what}: {wanted} bytes, more than the {MAX_TENSOR_BYTES} that are loaded")
        if not wanted:
            return b""
        data = _external_bytes(source, record, what, wanted) if record.is_external else None
        data = _embedded_bytes(source, record, what, dtype) if data is None else data
        if len(data) != wanted:
            raise MalformedFileError(
                f"{what} of dtype {dtype} needs {wanted} bytes, the file has {len(data)}: export the model again"
            )
        return data

    return load


def _reader(source: Source, record: TensorRecord, what: str, wanted: int) -> Callable[[int, int], bytes] | None:
    """Return a reader of (offset, length); None where the elements are not the bytes of one place."""
    spans = [span for field, span in record.data if span.length and field == "raw_data"]
    is_raw = len(spans) == 1 and len(record.data) == 1 and not record.loose and not record.is_cut
    if not wanted or record.is_sparse or not (record.is_external or (is_raw and spans[0].length == wanted)):
        return None

    def read(position: int, count: int) -> bytes:
        if position < 0 or count < 0 or position + count > wanted:
            raise MalformedFileError(f"{what}: bytes {position} to {position + count} are asked for, it has {wanted}")
        if record.is_external:
            return _external_bytes(source, record, what, wanted, (position, count))
        return source.read(spans[0].offset + position, count)

    return read


def _external(record: TensorRecord, what: str) -> tuple[str, int, int | None]:
    location = record.external.get("location", "")
    numbers: list[int | None] = []
    for key in ("offset", "length"):
        value = record.external.get(key) or None
        # Longer digits are no position within a file, and int() refuses to read very long ones.
        if value is not None and not (value.isascii() and value.isdigit() and len(value) < 20):
            raise MalformedFileError(f"{what}: the {key} {value[:40]!r} of its external data is no number")
        numbers.append(None if value is None else int(value))
    if not location:
        raise MalformedFileError(f"{what}: its external data names no file: export the model again")
    if "\0" in location or len(location) > 4096:
        raise MalformedFileError(f"{what}: its external data names the impossible file {location[:40]!r}")
    return location, numbers[0] or 0, numbers[1]


def _external_bytes(
    source: Source, record: TensorRecord, what: str, wanted: int, part: tuple[int, int] | None = None
) -> bytes:
    location, offset, length = _external(record, what)
    if location.startswith("*/_ORT_MEM_ADDR_/*"):
        raise TensorUnavailableError(f"{what}: its elements stayed in the memory of the program that wrote the file")
    sibling = source.sibling(location)
    if length is not None and length != wanted:
        raise MalformedFileError(f"{what} needs {wanted} bytes, its external data has {length}: export the model again")
    if offset + wanted > sibling.size:
        raise MalformedFileError(_outside(what, location, offset, wanted, sibling.size))
    start, count = part or (0, wanted)
    return sibling.read(offset + start, count)


def _outside(what: str, location: str, offset: int, length: int, size: int) -> str:
    return (
        f"{what}: its bytes {offset} to {offset + length} lie outside {location!r}, which has {size}: "
        "copy both files again"
    )


def _embedded_bytes(source: Source, record: TensorRecord, what: str, dtype: str) -> bytes:
    spans = [(field, span) for field, span in record.data if span.length]
    fields = {field for field, _ in spans} | set(record.loose)
    if not fields:
        raise TensorUnavailableError(f"{what}: the file holds no elements of it: export the model with its weights")
    if len(fields) > 1 or record.is_cut:
        raise MalformedFileError(f"{what}: its elements are spread over {', '.join(sorted(fields))}, which is not read")
    field = fields.pop()
    if field == "raw_data":
        return b"".join(source.read(span.offset, span.length) for _, span in spans)
    if dtype not in _FIELDS.get(field, ITEM_SIZES.keys() - frozenset().union(*_FIELDS.values())):
        raise MalformedFileError(f"{what}: elements of dtype {dtype} cannot lie in {field}: export the model again")
    size = ITEM_SIZES[dtype]
    if sum(span.length for _, span in spans) > max(_MAX_VARINT_BYTES, size) * math.prod(record.dims or ()):
        raise MalformedFileError(f"{what} has more elements in {field} than its shape: export the model again")
    if field in ("float_data", "double_data"):
        size = 4 if field == "float_data" else 8
        packed = b"".join(source.read(span.offset, span.length) for _, span in spans)
        return packed + _little_endian(record.loose.get(field, ()), size)
    values = [number for _, span in spans for number in _numbers(source, span)]
    return _little_endian([*values, *record.loose.get(field, ())], size)


def _numbers(source: Source, span: Span) -> list[int]:
    return varints(source.read(span.offset, span.length), source.name)


def _little_endian(values: list[int] | tuple[int, ...], size: int) -> bytes:
    mask = (1 << (8 * size)) - 1
    elements = array(_UNSIGNED_CODES[size], [value & mask for value in values])
    if sys.byteorder == "big":
        elements.byteswap()
    return elements.tobytes()
