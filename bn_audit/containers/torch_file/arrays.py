"""Numpy arrays and scalars in a pickle, as tensors.

Sources: numpy 2.3 ``_core/src/multiarray/methods.c`` (``array_reduce``, ``array_reduce_ex``), ``descriptor.c``
(``arraydescr_reduce``), ``scalartypes.c.src`` (``gentype_reduce``).
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul

from bn_audit.containers.byte_range import ByteRange
from bn_audit.containers.inert import Global, Instance
from bn_audit.containers.inert_pickle.reading import StoredBytes
from bn_audit.containers.source import Readable
from bn_audit.containers.strided import contiguous_bytes
from bn_audit.containers.torch_file.storage import MAX_DIMENSIONS
from bn_audit.containers.torch_file.tensor import MAX_TENSOR_BYTES, StoredTensor
from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.subject.tensor import ITEM_SIZES

_DTYPES = {
    "b1": "bool",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "u1": "uint8",
    "u2": "uint16",
    "u4": "uint32",
    "u8": "uint64",
    "f2": "float16",
    "f4": "float32",
    "f8": "float64",
    "c8": "complex64",
    "c16": "complex128",
}

_DECODED_AT_ONCE = 1 << 20

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUFFER_MODULES = ("numpy.core.numeric", "numpy._core.numeric")


def find_array(source: Readable, value: object, name: str) -> StoredTensor | None:
    """Return the numpy array or scalar that `value` stands for; None where it is none, or not of numbers."""
    if not isinstance(value, Instance) or not isinstance(value.constructor, Global):
        return None
    module, function = value.constructor.module, value.constructor.name
    state = value.state
    if function == "_reconstruct" and module in _ARRAY_MODULES and isinstance(state, tuple) and len(state) == 5:
        _version, shape, dtype, fortran, data = state
    elif function == "_frombuffer" and module in _BUFFER_MODULES and len(value.args) == 4:
        data, dtype, shape, order = value.args
        fortran = order == "F"
    elif function == "scalar" and module in _ARRAY_MODULES and len(value.args) == 2:
        dtype, data = value.args
        shape, fortran = (), False
    else:
        return None
    described = _describe(dtype)
    if described is None:
        return None
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        raise MalformedFileError(f"{name}: corrupt numpy array: its shape is no tuple")
    if any(type(size) is not int or not 0 <= size < 1 << 62 for size in shape):
        raise MalformedFileError(f"{name}: corrupt numpy array: its shape holds no sizes")
    return _array(source, name, described, shape, fortran is True, data)


def _describe(dtype: object) -> tuple[str, bool] | None:
    """Return (name, is big-endian) of a pickled ``numpy.dtype``; None for records, objects, dates and strings."""
    if not isinstance(dtype, Instance) or dtype.type_name != "numpy.dtype" or not dtype.args:
        return None
    code = dtype.args[0]
    name = _DTYPES.get(code) if type(code) is str else None
    state = dtype.state
    if name is None or (isinstance(state, tuple) and len(state) > 3 and state[3] is not None):
        return None
    return name, isinstance(state, tuple) and len(state) > 1 and state[1] == ">"


def _array(
    source: Readable,
    name: str,
    described: tuple[str, bool],
    shape: tuple[int, ...],
    fortran: bool,
    data: object,
) -> StoredTensor:
    dtype, big_endian = described
    size = math.prod(shape) * ITEM_SIZES[dtype]
    strides = _strides(shape) if fortran else _strides(shape[::-1])[::-1]
    raw = stored_range(source, data, size, name)
    if raw is None or raw.size < size:
        raise MalformedFileError(f"{name}: corrupt numpy array: it needs {size} bytes of data")

    def load() -> bytes:
        if size > MAX_TENSOR_BYTES:
            raise LimitExceededError(
                f"{name}: the array has {size} bytes, more than the {MAX_TENSOR_BYTES} this tool loads"
            )
        return contiguous_bytes(
            raw.read,
            name=name,
            dtype=dtype,
            shape=shape,
            strides=strides,
            offset=0,
            storage_bytes=size,
            big_endian=big_endian,
        )

    return StoredTensor(dtype=dtype, shape=shape, load=load, storage=f"array {id(data)}+0")


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of contiguous elements whose first dimension is the innermost."""
    return tuple(accumulate(shape[:-1], mul, initial=1)) if shape else ()


def stored_range(source: Readable, data: object, size: int | None, name: str) -> ByteRange | None:
    """Return the bytes of a pickled byte string, which may still lie in the file; None where it is none.

    Args:
        size: How many there should be, where known: it decides how the text of a Python 2 string was encoded.
    """
    if isinstance(data, bytes | bytearray):
        content = bytes(data)
        return ByteRange(name=name, size=len(content), fetch=lambda start, count: content[start : start + count])
    if isinstance(data, str):
        encodings = [text for text in (_encode(data, "latin-1"), _encode(data, "utf-8")) if text is not None]
        fitting = [text for text in encodings if size is None or len(text) == size]
        return stored_range(source, (fitting or encodings)[0], size, name) if encodings else None
    if not isinstance(data, StoredBytes):
        return None
    if data.encoding != "latin-1":
        return ByteRange(
            name=name,
            size=data.length,
            fetch=lambda start, count: source.read(data.offset + start, count),
        )
    # How many bytes a long text stands for is known only when all of it is decoded: at least half of its own length.
    exact = data.length if data.length > _DECODED_AT_ONCE else len(_latin1(source, data, 0, 0, name, whole=True))
    return ByteRange(name=name, size=exact, fetch=lambda start, count: _latin1(source, data, start, count, name))


def _encode(text: str, encoding: str) -> bytes | None:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return None


def _latin1(source: Readable, data: StoredBytes, start: int, count: int, name: str, *, whole: bool = False) -> bytes:
    """Return bytes that protocols 0 to 2 stored as the UTF-8 form of their Latin-1 text: two bytes at most for one."""
    if start + count > MAX_TENSOR_BYTES:
        raise LimitExceededError(f"{name}: {start + count} bytes stored as text are not decoded: save it again")
    raw = source.read(data.offset, data.length if whole else min(data.length, 2 * (start + count)))
    try:
        text = raw.decode("utf-8", "ignore").encode("latin-1")
    except UnicodeEncodeError as error:
        raise MalformedFileError(f"{name}: corrupt: bytes stored as text are out of range") from error
    if len(text) < start + count:
        raise MalformedFileError(
            f"{name}: truncated or corrupt: {start + count} bytes are needed, there are {len(text)}"
        )
    return text if whole else text[start : start + count]
