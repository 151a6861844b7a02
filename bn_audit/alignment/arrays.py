"""Elements of tensors as numpy arrays, and how exactly two dtypes can agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bn_audit.errors import TensorUnavailableError
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef, decode

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CHUNK_BYTES = 8 << 20
"""Size of the pieces in which large tensors are compared; the least common item size of all dtypes divides it."""

ROUNDING = {"float64": 1e-6, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}
"""Relative difference up to which two numbers count as equal, by the coarser dtype of the two.

float32: eight times its spacing of 1.2e-7, for formats that compute a number again; float16 and bfloat16: the largest
error of a cast, rounded up. Other dtypes are integers, which are equal or not, or are scaled."""

FLOORS = {"float16": 6e-8, "bfloat16": 1e-38, "float32": 1e-38, "float64": 1e-38}
"""The smallest positive number of the dtype: what is smaller becomes zero in a cast."""

_NATIVE = {
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
    "bool": "u1",
    "uint8": "u1",
    "int8": "i1",
    "uint16": "<u2",
    "int16": "<i2",
    "uint32": "<u4",
    "int32": "<i4",
    "uint64": "<u8",
    "int64": "<i8",
}


def rounding(*dtypes: str) -> float:
    """Return the relative difference that casts between these dtypes explain."""
    return max(ROUNDING.get(dtype, 0.0) for dtype in dtypes)


def floor(*dtypes: str) -> float:
    """Return the absolute difference that casts between these dtypes explain."""
    return max(FLOORS.get(dtype, 0.0) for dtype in dtypes)


def elements(dtype: str, data: bytes) -> Array:
    """Return little-endian bytes as float64, of one dimension.

    Raises:
        TensorUnavailableError: the dtype has no real value (complex, quantised).
    """
    if dtype == "bfloat16":
        widened = np.frombuffer(data, "<u2").astype("<u4") << 16
        return widened.view("<f4").astype(np.float64)
    if dtype in _NATIVE:
        return np.frombuffer(data, _NATIVE[dtype]).astype(np.float64)
    return np.asarray(decode(dtype, data), np.float64)


def flat(ref: TensorRef) -> Array:
    """Return all elements of a tensor, of one dimension."""
    return elements(ref.dtype, b"".join(ref.chunks(CHUNK_BYTES)))


def pieces(ref: TensorRef, count: int) -> Iterator[bytes]:
    """Yield the bytes of a tensor, `count` elements at a time."""
    size = ITEM_SIZES.get(ref.dtype)
    if size is None:
        raise TensorUnavailableError(f"{ref.name}: elements of dtype {ref.dtype} have no real value to compare")
    yield from ref.chunks(count * size)
