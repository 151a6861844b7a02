"""Operators that reshape a value or reorder its axes, and where the samples lie afterwards."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from bn_audit.flow.placement import Along, Folded, Operation, Placement, Shape, Size, Special

SIZED_RESHAPES = frozenset(("view", "reshape", "_unsafe_view", "view_copy", "reshape_copy"))
"""Reshapes whose integer arguments are the new sizes and nothing else."""

RESHAPES = SIZED_RESHAPES | {"_reshape_alias", "flatten", "unflatten", "view_as", "reshape_as"}


def reshaped(operation: Operation, place: Along, before: Shape) -> Placement:
    """Row-major reshape, with the samples along axis 0 before it.

    With more than one sample and more than one row, the first and the last row never lie in the same sample: a row is
    at most half of all elements, and so is a sample. So the samples stay along axis 0 whatever the other axes become.
    """
    after = _target(operation)
    if before is not None and before == after and None not in before:
        return place
    if place.axis != 0:
        return Special.UNKNOWN
    if operation.op == "flatten" and (not after or (operation.integers[:1] or (0,))[0] not in (0, None)):
        return place
    if not after or (before is not None and before[:1] == (1,)):
        # An example batch of one row: what becomes of further rows does not show.
        return Special.UNKNOWN
    if after[0] == 1:
        if place.whole and before is not None and len(after) > 1 and _divides(after[2:], before[1:]):
            return Folded(sample=before[1:])
        return Special.UNKNOWN
    if isinstance(after[0], int) and not (before and _nested(before[0], after[0])):
        return Special.UNKNOWN
    if not before:
        return Along(axis=0, whole=False)
    kept = (before[0] is not None and before[0] == after[0]) or _divides(after[1:], before[1:])
    return Along(axis=0, whole=place.whole and kept)


def unfolded(operation: Operation, place: Folded) -> Placement:
    """Row-major reshape of samples that were folded into axis 1."""
    after = _target(operation)
    if not after:
        return Special.UNKNOWN
    if after[0] != 1:
        return Along(axis=0, whole=_divides(after[1:], place.sample))
    return place if len(after) > 1 and _divides(after[2:], place.sample) else Special.UNKNOWN


def _target(operation: Operation) -> Shape:
    """Return the shape after a reshape: as recorded, or else as far as the arguments tell."""
    if operation.shape is not None or operation.op not in SIZED_RESHAPES:
        return operation.shape
    return tuple(None if size == -1 else size for size in operation.integers)


def _nested(rows: Size, new_rows: int) -> bool:
    """Return whether each new row lies within one old row, or is made of whole ones."""
    return isinstance(rows, int) and min(rows, new_rows) > 0 and max(rows, new_rows) % min(rows, new_rows) == 0


def _divides(part: Sequence[Size], total: Sequence[Size]) -> bool:
    """Return whether the product of `part` provably divides the product of `total`."""
    if None in part or None in total:
        return False
    numbers = math.prod(size for size in part if isinstance(size, int))
    of_total = math.prod(size for size in total if isinstance(size, int))
    symbols = Counter(size for size in part if isinstance(size, str))
    of_symbols = Counter(size for size in total if isinstance(size, str))
    return numbers > 0 and of_total > 0 and of_total % numbers == 0 and symbols <= of_symbols


def _reduced(operation: Operation, place: Along, before: Shape) -> Placement:
    dims = operation.integers
    rank = len(before) if before is not None else None
    if not dims or None in dims:
        return Special.UNKNOWN
    if rank is None and place.axis == 0 and set(dims) == set(range(-len(set(dims)), 0)):
        # All trailing axes: axis 0 is not among them, or nothing would be left to normalise.
        return place
    axes = [_normalised(dim, rank) for dim in dims]
    if None in axes or place.axis in axes:
        return Special.UNKNOWN
    if operation.shape is not None and before is not None and len(operation.shape) == len(before):
        return place
    before_it = sum(1 for axis in set(axes) if axis is not None and axis < place.axis)
    if before_it and operation.shape is None:
        return Special.UNKNOWN
    return Along(axis=place.axis - before_it, whole=place.whole)


def _normalised(dim: int | None, rank: int | None) -> int | None:
    if dim is None or dim >= 0:
        return dim
    return None if rank is None or dim + rank < 0 else dim + rank


def _rank(operation: Operation, before: Shape) -> int | None:
    if before is not None:
        return len(before)
    return len(operation.shape) if operation.shape is not None else None


def _permuted(operation: Operation, place: Along, _before: Shape) -> Placement:
    order = [_normalised(dim, len(operation.integers)) for dim in operation.integers]
    return Along(axis=order.index(place.axis), whole=place.whole) if place.axis in order else Special.UNKNOWN


def _transposed(operation: Operation, place: Along, before: Shape) -> Placement:
    dims = (0, 1) if operation.op in ("t", "numpy_T") else operation.integers
    axes = [_normalised(dim, _rank(operation, before)) for dim in dims]
    if len(axes) != 2 or None in axes or (operation.op == "numpy_T" and _rank(operation, before) != 2):
        return Special.UNKNOWN
    swapped = {axes[0]: axes[1], axes[1]: axes[0]}.get(place.axis, place.axis)
    return Special.UNKNOWN if swapped is None else Along(axis=swapped, whole=place.whole)


def _unsqueezed(operation: Operation, place: Along, before: Shape) -> Placement:
    rank = _rank(operation, before)
    new_rank = None if rank is None else (rank + 1 if before is not None else rank)
    dim = _normalised(operation.integers[0], new_rank) if operation.integers else None
    if dim is None:
        return Special.UNKNOWN
    return Along(axis=place.axis + (dim <= place.axis), whole=place.whole)


def _squeezed(operation: Operation, place: Along, before: Shape) -> Placement:
    if not operation.integers and place.axis == 0 and before and before[0] not in (1, None):
        return place
    axes = [_normalised(dim, None if before is None else len(before)) for dim in operation.integers]
    if not axes or None in axes or place.axis in axes:
        return Special.UNKNOWN
    gone = [axis for axis in axes if axis is not None and axis < place.axis]
    if not gone:
        return place
    if before is None or any(axis >= len(before) or isinstance(before[axis], str | None) for axis in gone):
        return Special.UNKNOWN
    return Along(axis=place.axis - sum(before[axis] == 1 for axis in gone), whole=place.whole)


def _selected(operation: Operation, place: Along, before: Shape) -> Placement:
    dim = _normalised(operation.integers[0], None if before is None else len(before)) if operation.integers else None
    if dim is None or dim == place.axis:
        return Special.UNKNOWN
    return Along(axis=place.axis - (dim < place.axis), whole=place.whole)


def _expanded(operation: Operation, place: Along, before: Shape) -> Placement:
    rank = len(operation.shape) if operation.shape is not None else len(operation.integers)
    if before is None or rank < len(before):
        return Special.UNKNOWN
    return Along(axis=place.axis + rank - len(before), whole=place.whole)


MOVES = {
    **dict.fromkeys(("permute", "permute_copy"), _permuted),
    **dict.fromkeys(("transpose", "transpose_", "transpose_copy", "swapaxes", "swapdims"), _transposed),
    **dict.fromkeys(("t", "t_", "t_copy", "numpy_T"), _transposed),
    **dict.fromkeys(("unsqueeze", "unsqueeze_", "unsqueeze_copy", "stack"), _unsqueezed),
    **dict.fromkeys(("squeeze", "squeeze_", "squeeze_copy"), _squeezed),
    **dict.fromkeys(("select", "select_copy"), _selected),
    **dict.fromkeys(("expand", "expand_copy", "expand_as", "repeat"), _expanded),
    **dict.fromkeys(("sum", "mean", "amax", "amin", "var", "std", "logsumexp", "nansum", "var_mean"), _reduced),
}
"""Operators that put the samples along another axis, by name."""
