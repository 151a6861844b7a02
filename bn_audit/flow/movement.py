"""Moving elements: reshape, transpose, take, join, repeat and pad.

Nothing here combines elements, so owners move exactly; where one cell stands for a whole axis, its form records what
was done to the axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_audit.flow.cells import (
    EACH,
    LINE,
    LOWEST,
    SAME,
    Cells,
    ShapeConflictError,
    certain_of_all,
    explicit,
    grid,
    may,
    tidied,
)
from bn_audit.flow.spans import moved
from bn_audit.flow.tokens import digest, mixed, token

MAX_REPEATED = 1 << 13
"""Elements along regrouped axes up to which a constant keeps a cell for each."""


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise ShapeConflictError(f"there is no axis {axis} among {rank}")
    return axis % rank if rank else 0


def transposed(cells: Cells, order: Sequence[int]) -> Cells:
    """Return the array with its axes in another order."""
    lines = [axis for axis in order if cells.kinds[axis] == LINE]
    forms = cells.forms
    if lines != sorted(lines):
        places = tuple(cells.lines_before(axis) for axis in lines)
        forms = np.where(forms <= LOWEST, forms, mixed(forms, token("transpose", places)))
    return replace(
        cells,
        shape=tuple(cells.shape[axis] for axis in order),
        kinds=tuple(cells.kinds[axis] for axis in order),
        owners=cells.owners.transpose(order),
        forms=(turned := forms.transpose(order)),
        range=moved(cells.span if lines == sorted(lines) else None, turned, lambda numbers: numbers.transpose(order)),
    )


def reshaped(cells: Cells, shape: Sequence[int]) -> Cells:
    """Return the elements in row-major order as an array of another shape."""
    new = tuple(shape)
    if math.prod(new) != math.prod(cells.shape):
        raise ShapeConflictError(f"{cells.shape} has not as many elements as {new}")
    groups = list(_groups(cells.shape, new))
    opened = tuple(a for old, _ in groups if len(old) > 1 or len(_) > 1 for a in old if _holds_cells(cells, old))
    kept = [] if may(cells.owners).any() else [pair for pair in groups if _is_repeated(cells, *pair)]
    cells = explicit(cells, (*opened, *(axis for old, _ in kept for axis in old)))
    kinds, along, forms, lined = [SAME] * len(new), [1] * len(new), cells.forms, False
    for old, fresh in groups:
        regrouped = len(old) > 1 or len(fresh) > 1
        kind = cells.kinds[old[0]] if not regrouped else EACH if _holds_cells(cells, old) else LINE
        if regrouped and all(cells.kinds[axis] == SAME for axis in old):
            kind = SAME
        if regrouped and kind == LINE:
            before = tuple((cells.kinds[axis], cells.shape[axis]) for axis in old)
            by = token("reshape", cells.lines_before(old[0]), before, tuple(new[axis] for axis in fresh))
            forms, lined = np.where(forms <= LOWEST, forms, mixed(forms, by)), True
        for axis in fresh:
            kinds[axis], along[axis] = kind, new[axis] if kind == EACH else 1
    forms = forms.reshape(along)
    span = moved(None if lined else cells.span, forms, lambda numbers: numbers.reshape(along))
    result = replace(cells, shape=new, kinds=tuple(kinds), owners=cells.owners.reshape(along), forms=forms, range=span)
    return tidied(result) if opened and not kept else result


def _is_repeated(cells: Cells, old: Sequence[int], fresh: Sequence[int]) -> bool:
    """Whether axes are regrouped along one of which elements repeat and along another not: most often a constant for
    each sample, and samples and heads put into one axis. One cell would not tell the samples' parts apart.
    """
    kinds = [cells.kinds[axis] for axis in old]
    few = math.prod(cells.shape[axis] for axis in old) <= MAX_REPEATED
    return len(fresh) < len(old) and few and SAME in kinds and LINE in kinds


def _holds_cells(cells: Cells, axes: Sequence[int]) -> bool:
    return any(cells.kinds[axis] == EACH for axis in axes)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest runs of axes (of size above 1) of both shapes that hold equally many elements."""
    left = [axis for axis, size in enumerate(old) if size != 1]
    right = [axis for axis, size in enumerate(new) if size != 1]
    if 0 in old:
        return
    while left:
        mine, yours = [left.pop(0)], [right.pop(0)]
        have, want = old[mine[0]], new[yours[0]]
        while have != want:
            if have < want:
                mine.append(left.pop(0))
                have *= old[mine[-1]]
            else:
                yours.append(right.pop(0))
                want *= new[yours[-1]]
        yield mine, yours


def squeezed(cells: Cells, axes: Sequence[int]) -> Cells:
    """Return the array without the given axes of size 1."""
    if any(cells.shape[axis] != 1 for axis in axes):
        raise ShapeConflictError(f"cannot drop axes {tuple(axes)} of {cells.shape}")
    return reshaped(cells, [size for axis, size in enumerate(cells.shape) if axis not in axes])


def sliced(cells: Cells, axis: int, start: int, step: int, count: int) -> Cells:
    """Return `count` elements along `axis`, from `start` on, every `step`-th."""
    size = cells.shape[axis]
    if (start, step, count) == (0, 1, size):
        return cells
    shape = (*cells.shape[:axis], count, *cells.shape[axis + 1 :])
    kind = cells.kinds[axis]
    if kind == EACH:
        stop = start + step * count
        window = (slice(None),) * axis + (slice(start, stop if stop >= 0 else None, step),)
        kinds = cells.kinds if count > 1 else (*cells.kinds[:axis], SAME, *cells.kinds[axis + 1 :])
        forms = cells.forms[window]
        span = moved(cells.span, forms, lambda numbers: numbers[window])
        part = replace(cells, shape=shape, kinds=kinds, owners=cells.owners[window], forms=forms, range=span)
        return tidied(part)
    if kind == SAME:
        return replace(cells, shape=shape)
    if count == 1:
        return _one_of_line(cells, axis, start)
    by = token("slice", cells.lines_before(axis), start, step, count)
    forms = np.where(cells.forms <= LOWEST, cells.forms, mixed(cells.forms, by))
    return replace(cells, shape=shape, owners=certain_of_all(cells.owners), forms=forms)


def _one_of_line(cells: Cells, axis: int, index: int) -> Cells:
    """Return one element along a LINE axis, with the form that it has among explicit cells."""
    by = mixed(np.full(1, index, np.uint64), token("at", cells.lines_before(axis)))[0]
    return replace(
        cells,
        shape=(*cells.shape[:axis], 1, *cells.shape[axis + 1 :]),
        kinds=(*cells.kinds[:axis], SAME, *cells.kinds[axis + 1 :]),
        owners=certain_of_all(cells.owners),
        forms=np.where(cells.forms <= LOWEST, cells.forms, mixed(cells.forms, by)),
    )


def taken(cells: Cells, axis: int, indices: NDArray[Any]) -> Cells:
    """Return the elements at known `indices` along `axis`; the axes of `indices` take its place."""
    size = cells.shape[axis]
    flat = np.where(indices < 0, indices + size, indices).astype(np.int64)
    if flat.size and (flat.min() < 0 or flat.max() >= size):
        raise ShapeConflictError(f"index {int(flat.min())}..{int(flat.max())} is outside an axis of {size}")
    shape = (*cells.shape[:axis], *flat.shape, *cells.shape[axis + 1 :])
    kind = cells.kinds[axis]
    if kind == LINE and flat.size > 1 and (flat == flat.flat[0]).all():
        one = _one_of_line(cells, axis, int(flat.flat[0]))
        one = reshaped(one, (*cells.shape[:axis], *(1,) * flat.ndim, *cells.shape[axis + 1 :]))
        return broadcast(one, shape)
    if kind == LINE and flat.size == 1:
        return reshaped(_one_of_line(cells, axis, int(flat.reshape(-1)[0])), shape)
    if kind == LINE and flat.ndim == 1 and np.array_equal(flat, np.arange(size)):
        return cells
    here = tuple((EACH if kind == EACH else kind) if n > 1 else SAME for n in flat.shape)
    along = flat.shape if kind == EACH else (1,) * flat.ndim
    grid((*cells.owners.shape[:axis], *along, *cells.owners.shape[axis + 1 :]))
    owners, forms = cells.owners, cells.forms
    if kind == LINE:
        by = token("take", cells.lines_before(axis), flat.shape, int(digest(np.ascontiguousarray(flat).tobytes())))
        forms, owners = np.where(forms <= LOWEST, forms, mixed(forms, by)), certain_of_all(owners)
    where = flat if kind == EACH else np.zeros((1,) * flat.ndim, np.int64)
    result = Cells(
        shape,
        (*cells.kinds[:axis], *here, *cells.kinds[axis + 1 :]),
        np.take(owners, where, axis=axis),
        (chosen := np.take(forms, where, axis=axis)),
        cells.selects,
        moved(cells.span if kind != LINE else None, chosen, lambda numbers: np.take(numbers, where, axis=axis)),
    )
    return tidied(result) if kind == EACH else result


def broadcast(cells: Cells, shape: Sequence[int]) -> Cells:
    """Return the array repeated along axes of size 1, and along new ones in front, to fill `shape`."""
    new = len(shape) - cells.rank
    own = (1,) * new + cells.shape
    if new < 0 or any(size not in (1, wanted) for size, wanted in zip(own, shape, strict=True)):
        raise ShapeConflictError(f"{cells.shape} does not broadcast to {tuple(shape)}")
    front = (1,) * new
    return replace(
        cells,
        shape=tuple(shape),
        kinds=(SAME,) * new + cells.kinds,
        owners=cells.owners.reshape(front + cells.owners.shape),
        forms=(forms := cells.forms.reshape(front + cells.forms.shape)),
        range=moved(cells.span, forms, lambda numbers: numbers.reshape(front + numbers.shape)),
    )


def tiled(cells: Cells, axis: int, times: int) -> Cells:
    """Return the array repeated as a whole `times` times along `axis`."""
    if times == 1:
        return cells
    shape = (*cells.shape[:axis], cells.shape[axis] * times, *cells.shape[axis + 1 :])
    kind = cells.kinds[axis]
    if kind == SAME:
        return replace(cells, shape=shape)
    if kind == LINE:
        by = token("tile", cells.lines_before(axis), cells.shape[axis], times)
        return replace(cells, shape=shape, forms=np.where(cells.forms <= LOWEST, cells.forms, mixed(cells.forms, by)))
    repeats = tuple(times if a == axis else 1 for a in range(cells.rank))
    grid(tuple(n * r for n, r in zip(cells.owners.shape, repeats, strict=True)))
    return replace(cells, shape=shape, owners=np.tile(cells.owners, repeats), forms=np.tile(cells.forms, repeats))
