"""Constants of a graph: read only when their values decide something, and compared across samples and batch sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_audit.errors import ArtifactError
from bn_audit.flow.cells import EACH, LINE, LOW, LOWEST, SAME, ZERO, Cells, UndecidableError, grid, uniform
from bn_audit.flow.spans import Span, span_of
from bn_audit.flow.tokens import Bits, digest, token
from bn_audit.subject.tensor import TensorRef, decode

Array = NDArray[Any]

MAX_READ_BYTES = 1 << 20
"""Larger constants are weights: their values do not decide where samples go."""
MAX_FOLDED = 1 << 16
"""Elements of an operand up to which constants are computed; larger ones are followed without values."""
MAX_SPANS = 4096
"""Cells of a constant up to which its range is found."""
MAX_COPIED = 1 << 20
"""Elements of a constant that is made or rearranged; larger ones are followed without values."""
SMALL = 256
"""Elements up to which an initialiser is known by its values; larger ones by name."""

TOLERANCE = 2e-6
"""Relative difference up to which computed constants are equal, some 16 units in the last place of float32: numpy's
vectorised functions differ in the last place from lane to lane (found on the position encoding of EdgeNeXt)."""

LOWEST_SCORE = -0.99e9
"""Constants below it act as minus infinity beside any score that a network computes; masks use float32's lowest value
or -1e9."""
LOW_SCORE = -1e3
"""Constants below it leave little after a softmax beside usual scores."""

_NATIVE = {name: np.dtype(name) for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")}
_NATIVE |= {name: np.dtype(name) for name in ("uint64", "float16", "float32", "float64", "complex64", "complex128")}


@dataclass(slots=True)
class Ledger:
    """The forms given to computed values so far: close floating-point values get one form."""

    exact: dict[bytes, np.uint64] = field(default_factory=dict)
    close: dict[int, tuple[Array, list[np.uint64]]] = field(default_factory=dict)

    MAX_CLOSE = 256
    """Rows of one length that later ones are compared with."""

    def form(self, row: Array, *, stored: bool) -> np.uint64:
        """Return the form of a vector of values; `stored` ones are compared exactly."""
        if row.dtype.kind in "iub":
            row = row.astype(np.int64) if row.dtype != np.uint64 else row
        elif row.dtype.kind == "f":
            row = row.astype(np.float64)
        if not row.any():
            return ZERO
        key = row.dtype.kind.encode() + row.tobytes()
        if stored or row.dtype.kind != "f":
            return digest(key)
        found = self.exact.get(key)
        if found is None:
            found = self.exact[key] = self._close(row, key)
        return found

    def _close(self, row: Array, key: bytes) -> np.uint64:
        rows, forms = self.close.get(row.size, (np.empty((0, row.size)), []))
        if forms:
            finite = np.isfinite(row)
            room = TOLERANCE * (np.abs(row) + (np.abs(row[finite]).max() if finite.any() else 0.0))
            alike = (rows == row) | (np.abs(rows - row) <= room) | (np.isnan(rows) & np.isnan(row))
            found = np.flatnonzero(alike.all(axis=1))
            if found.size:
                return forms[int(found[0])]
        form = digest(key)
        if len(forms) < self.MAX_CLOSE:
            self.close[row.size] = (np.concatenate([rows, row[None]]), [*forms, form])
        return form


class Constant:
    """An array whose elements depend on no sample.

    Attributes:
        shape: Sizes of the array.
    """

    __slots__ = ("_form", "_read", "_values", "ledger", "reference", "shape")

    def __init__(self, ledger: Ledger, *, values: Array | None = None, reference: TensorRef | None = None) -> None:
        self.ledger = ledger
        self.reference = reference
        self._values = values
        self._read = reference is None
        self._form: np.uint64 | None = None
        self.shape: tuple[int, ...] = (
            tuple(reference.shape) if reference is not None else () if values is None else values.shape
        )

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def values(self) -> Array | None:
        """Return the elements, read on first use; None where they are too many or cannot be had."""
        if not self._read and self.reference is not None:
            self._read = True
            self._values = _read(self.reference)
        return self._values

    @property
    def is_light(self) -> bool:
        """Whether the values are at hand and few; repeated ones count once, whatever the batch size."""
        if self._values is not None:
            return thinned(self._values).size <= MAX_FOLDED
        return self.size <= MAX_FOLDED and self.values() is not None

    def form(self) -> np.uint64:
        """Return the form of the whole array."""
        if self._form is None:
            by_name = self.reference is not None and self.size > SMALL
            values = None if by_name else self.values()
            if values is not None:
                thin = thinned(values)
                inner = self.ledger.form(thin.reshape(-1), stored=self.reference is not None)
                self._form = inner if inner == ZERO or thin.size == 1 else token(int(inner), thin.shape)
            else:
                self._form = token("unread") if self.reference is None else _named(self.reference)
        return self._form

    def reshaped(self, shape: tuple[int, ...]) -> Constant:
        """Return the same elements in another shape that adds or drops axes of size 1 only; nothing is read."""
        other = Constant(self.ledger, values=None if self._values is None else self._values.reshape(shape))
        other.shape = shape
        if self._values is None and self.reference is not None and not self._read:
            other.reference, other._read = replace(self.reference, shape=shape), False
        other._form = self.form()
        return other

    def is_zero(self) -> bool:
        """Whether every element is known to be zero."""
        values = self.values()
        return values is not None and not thinned(values).any()

    def has_zeros(self) -> bool:
        """Whether some elements, not all, are known to be zero; values that are not at hand and many are not read."""
        if self._values is None and self.size > SMALL:
            return False
        values = self.values()
        if values is None:
            return False
        thin = thinned(values)
        return bool((thin == 0).any()) and bool(thin.any())

    def cells(self, each: tuple[int, ...] = ()) -> Cells:
        """Return the cells of this constant, with a cell for every index of the axes `each` along which it varies."""
        values = None
        if any(self.shape[axis] > 1 for axis in each):
            values = self.values()
        if values is None:
            lines = uniform(self.shape, self.form())
            if self._values is None and self.size > 1:
                return lines
            values = self.values()
            if values is None:
                return lines
            if self.size == 1:
                return self._cells_of(values, ())
            kinds = tuple(LINE if size > 1 else SAME for size in thinned(values).shape)
            return Cells(self.shape, kinds, lines.owners, lines.forms)
        return self._cells_of(values, each)

    def _cells_of(self, values: Array, each: tuple[int, ...]) -> Cells:
        thin = thinned(values)
        axes = [axis for axis in sorted(each) if thin.shape[axis] > 1]
        others = [axis for axis in range(thin.ndim) if axis not in axes]
        along = tuple(thin.shape[axis] if axis in axes else 1 for axis in range(thin.ndim))
        grid(along)
        rows = thin.transpose([*axes, *others]).reshape(math.prod(along), -1)
        forms = self._scalars(rows[:, 0]) if rows.shape[1] == 1 else self._rows(rows)
        kinds = tuple(EACH if a in axes else LINE if thin.shape[a] > 1 else SAME for a in range(thin.ndim))
        low = np.where((rows <= LOW_SCORE).all(axis=1), LOW, np.uint64(0)) if thin.dtype.kind == "f" else np.zeros(1)
        owners = np.broadcast_to(low.astype(np.uint64).reshape(along if low.size > 1 else (1,) * thin.ndim), along)
        forms = forms.reshape(along)
        return Cells(values.shape, kinds, owners, forms, range=self._range(rows, forms))

    def _range(self, rows: Array, forms: Bits) -> Span | None:
        """Return between which whole numbers each row lies."""
        if rows.dtype.kind not in "iu" or rows.shape[0] > MAX_SPANS or not rows.size:
            return None
        low, high = rows.min(axis=1), rows.max(axis=1)
        rest = np.zeros(len(rows), np.uint64)
        if (low != high).any():
            rest = self._rows(rows.astype(np.int64) - low.astype(np.int64)[:, None])
        first, last = (numbers.astype(np.float64).reshape(forms.shape) for numbers in (low, high))
        return span_of(forms, first, last, rest.reshape(forms.shape))

    def _rows(self, rows: Array) -> Bits:
        return np.array([self.ledger.form(row, stored=self.reference is not None) for row in rows], np.uint64)

    def _scalars(self, column: Array) -> Bits:
        """Return the form of each number, with minus infinity marked."""
        distinct, places = np.unique(column, return_inverse=True)
        forms = self._rows(distinct.reshape(-1, 1))
        if distinct.dtype.kind == "f":
            forms[distinct <= LOWEST_SCORE] = LOWEST
        return forms[places.reshape(-1)]


def small(array: Array) -> Array:
    """Refuse arrays that would be copied at length."""
    if array.size > MAX_COPIED:
        raise UndecidableError("too many elements")
    return array


def thinned(values: Array) -> Array:
    """Return the array with size 1 along the axes along which it is a broadcast view."""
    index = tuple(
        slice(0, 1) if step == 0 and n > 1 else slice(None)
        for step, n in zip(values.strides, values.shape, strict=True)
    )
    return values[index]


def _named(reference: TensorRef) -> np.uint64:
    return token("constant", reference.name, reference.shape, reference.dtype)


def _read(reference: TensorRef) -> Array | None:
    native = _NATIVE.get(reference.dtype)
    if reference.numel * (native.itemsize if native else 2) > MAX_READ_BYTES:
        return None
    try:
        data = reference.load()
        if native is not None:
            flat = np.frombuffer(data, native.newbyteorder("<")).astype(native)
        else:
            flat = np.array(decode(reference.dtype, data), np.float32)
    except (ArtifactError, ValueError):
        return None
    return flat.reshape(reference.shape) if flat.size == reference.numel else None
