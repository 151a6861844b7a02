"""Tensors of an artifact: name, dtype and shape at once, bytes only on demand."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from bn_audit.errors import ArtifactError, TensorUnavailableError

ITEM_SIZES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "uint32": 4,
    "int32": 4,
    "uint64": 8,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "complex32": 4,
    "complex64": 8,
    "complex128": 16,
}
"""Bytes per element of every dtype that PyTorch and safetensors can store, by PyTorch's names."""

HALF_PRECISION = frozenset({"float16", "bfloat16"})
"""Dtypes in which a variance loses range or digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRef:
    """One tensor of an artifact; nothing is read before ``load()``.

    Attributes:
        name: The name the artifact gives it, such as ``layer1.0.bn1.running_mean``.
        dtype: PyTorch's name of the element type, such as ``float32``.
        shape: Size of each dimension; ``()`` for a scalar.
        load: Returns the elements as little-endian, contiguous, row-major bytes. Raises an ``ArtifactError`` when
            the artifact holds no bytes for the tensor or they cannot be read.
        read: Returns (offset, length) of the bytes that `load` would give, however large the tensor; None where they
            can only be had as a whole.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], bytes]
    read: Callable[[int, int], bytes] | None = None

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def values(self) -> Sequence[float]:
        """Return the elements in row-major order; see `decode`."""
        return decode(self.dtype, self.load())

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the bytes that `load` would give in pieces of `size`, the last one shorter.

        A tensor that can only be had as a whole is loaded first, within the limits of `load`.
        """
        if self.read is None:
            data = memoryview(self.load())
            yield from (bytes(data[start : start + size]) for start in range(0, len(data), size))
            return
        length = self.numel * ITEM_SIZES.get(self.dtype, 0)
        if length == 0:
            yield from (data for data in (self.load(),) if data)
            return
        for start in range(0, length, size):
            yield self.read(start, min(size, length - start))

    def detached(self) -> TensorRef:
        """Return the same tensor without its source, as it travels between processes."""
        return TensorRef(name=self.name, dtype=self.dtype, shape=self.shape, load=_unavailable)

    def held(self) -> TensorRef:
        """Return the same tensor with its bytes in memory; detached where they cannot be had. For scalars."""
        try:
            data = self.load()
        except ArtifactError:
            return self.detached()
        return TensorRef(name=self.name, dtype=self.dtype, shape=self.shape, load=partial(bytes, data))


def _unavailable() -> bytes:
    raise TensorUnavailableError("this tensor was detached from its file: read the file again to load it")


def decode(dtype: str, data: bytes) -> Sequence[float]:
    """Return the elements of little-endian `data` without losing a digit.

    Floating point of up to 32 bits becomes ``array('f')`` (every half, bfloat16 and float8 value is a float32),
    float64 ``array('d')``, integers and booleans ``array('q')`` (uint64: ``array('Q')``).

    Raises:
        TensorUnavailableError: the dtype has no real value (complex, quantised).
    """
    if dtype in ("float32", "float64"):
        return _from_little_endian("f" if dtype == "float32" else "d", data)
    if dtype == "float16":
        return array("f", struct.unpack(f"<{len(data) // 2}e", data))
    if dtype == "bfloat16":
        widened = bytearray(2 * len(data))
        widened[2::4] = data[0::2]
        widened[3::4] = data[1::2]
        return _from_little_endian("f", bytes(widened))
    if dtype.startswith("float8_"):
        table = _float8_table(dtype)
        return array("f", [table[byte] for byte in data])
    integer = _INTEGER_CODES.get(dtype)
    if integer is not None:
        return array("Q" if dtype == "uint64" else "q", _from_little_endian(integer, data))
    raise TensorUnavailableError(f"elements of dtype {dtype} have no real value to judge")


_INTEGER_CODES = {
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


def _from_little_endian(code: str, data: bytes) -> Sequence[float]:
    values: array[float] = array(code)
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _float8_table(dtype: str) -> list[float]:
    """Return the value of each of the 256 codes of an 8-bit floating-point type.

    Source: OCP 8-bit floating point specification, revision 1.0 (e4m3fn, e5m2), OCP microscaling formats 1.0
    (e8m0fnu), and Noune et al. 2022, "8-bit numerical formats for deep neural networks" (the fnuz variants).
    """
    if dtype == "float8_e8m0fnu":
        return [math.nan if code == 255 else 2.0 ** (code - 127) for code in range(256)]
    exponent_bits, mantissa_bits = (4, 3) if "e4m3" in dtype else (5, 2)
    unsigned_zero = dtype.endswith("fnuz")
    bias = 2 ** (exponent_bits - 1) - (0 if unsigned_zero else 1)
    return [_float8_value(code, exponent_bits, mantissa_bits, bias, unsigned_zero) for code in range(256)]


def _float8_value(code: int, exponent_bits: int, mantissa_bits: int, bias: int, unsigned_zero: bool) -> float:
    sign = -1.0 if code & 0x80 else 1.0
    exponent = (code >> mantissa_bits) & (2**exponent_bits - 1)
    mantissa = code & (2**mantissa_bits - 1)
    if unsigned_zero:
        if code == 0x80:
            return math.nan
    elif exponent == 2**exponent_bits - 1:
        if exponent_bits == 5:
            return sign * math.inf if mantissa == 0 else math.nan
        if mantissa == 2**mantissa_bits - 1:
            return math.nan
    if exponent == 0:
        return float(sign * mantissa * 2.0 ** (1 - bias - mantissa_bits))
    return float(sign * (1 + mantissa / 2**mantissa_bits) * 2.0 ** (exponent - bias))
