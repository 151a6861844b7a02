"""Compares the elements of tensors of any size, a piece at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest

import numpy as np

from bn_audit.alignment.arrays import CHUNK_BYTES, Array, elements, floor, pieces, rounding
from bn_audit.alignment.filters import MAX_ELEMENTS
from bn_audit.errors import ArtifactError, LimitExceededError
from bn_audit.subject.comparison import NotCompared, ValueMismatch
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef

_PIECE = 1 << 18
"""Elements of one piece. Pieces of 1 MiB are compared five times as fast as those of 4 MiB, for which memory is mapped
anew each time; smaller ones gain nothing (measured with float32)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPair:
    """Two tensors that should hold the same elements, with the names by which they are known.

    Attributes:
        is_transposed: The target's is a matrix that lies the other way round; a square one may.
    """

    reference: TensorRef
    target: TensorRef
    reference_name: str
    target_name: str
    is_transposed: bool = False


def compare_values(pair: TensorPair) -> ValueMismatch | NotCompared | None:
    """Return how two tensors of one shape differ beyond rounding; None where they do not.

    Both are read once where they are equal bit for bit, and a second time where not.
    """
    one, other = pair.reference, pair.target
    if one.dtype not in ITEM_SIZES or other.dtype not in ITEM_SIZES:
        return NotCompared(what=pair.target_name, reason=f"its dtype is {other.dtype}, the reference's {one.dtype}")
    try:
        if pair.is_transposed:
            if one.shape == other.shape and one.dtype == other.dtype and _same_bytes(one, other):
                return None
            pair = replace(pair, target=_turned(other))
            other = pair.target
        if one.dtype == other.dtype and _same_bytes(one, other):
            return None
        return _difference(pair)
    except ArtifactError as error:
        return NotCompared(what=pair.target_name, reason=str(error))


def _turned(ref: TensorRef) -> TensorRef:
    """Return a matrix with its axes exchanged, in memory."""
    size, (rows, columns) = ITEM_SIZES[ref.dtype], ref.shape
    if ref.numel > MAX_ELEMENTS:
        raise LimitExceededError(f"{ref.name}: {ref.numel} elements are not transposed here")
    units = np.frombuffer(b"".join(ref.chunks(CHUNK_BYTES)), f"V{size}").reshape(rows, columns)
    return TensorRef(
        name=ref.name,
        dtype=ref.dtype,
        shape=(columns, rows),
        load=partial(bytes, np.ascontiguousarray(units.T).tobytes()),
    )


def _same_bytes(one: TensorRef, other: TensorRef) -> bool:
    return all(a == b for a, b in zip_longest(pieces(one, _PIECE), pieces(other, _PIECE)))


def _difference(pair: TensorPair) -> ValueMismatch | None:
    one, other = pair.reference, pair.target
    tolerance = rounding(one.dtype, other.dtype)
    largest = max((_largest(elements(one.dtype, data)) for data in pieces(one, _PIECE)), default=0.0)
    allowed = tolerance * largest + floor(one.dtype, other.dtype)
    beyond, worst, position = 0, -1.0, 0
    found = (0, 0.0, 0.0)
    for data, stored in zip(pieces(one, _PIECE), pieces(other, _PIECE), strict=True):
        a, b = elements(one.dtype, data), elements(other.dtype, stored)
        with np.errstate(all="ignore"):
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(b - a))
        apart = np.where(np.isnan(apart), np.inf, apart)
        beyond += int(np.sum(apart > allowed))
        index = int(np.argmax(apart)) if apart.size else 0
        if apart.size and apart[index] > worst:
            worst, found = float(apart[index]), (position + index, float(a[index]), float(b[index]))
        position += a.size
    if not beyond:
        return None
    inner = max(1, one.numel // (one.shape[0] if one.shape else 1))
    return ValueMismatch(
        reference=pair.reference_name,
        target=pair.target_name,
        size=worst / largest if largest else float("inf"),
        index=found[0],
        channel=found[0] // inner,
        reference_value=found[1],
        target_value=found[2],
        beyond=beyond,
        tolerance=tolerance,
    )


def _largest(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(np.max(finite, initial=0.0))
