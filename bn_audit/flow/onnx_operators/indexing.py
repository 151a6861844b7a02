"""ONNX operators that take elements from, or put them at, given places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import as_cells, pointwise, truth
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import (
    EACH,
    FLAGS,
    LINE,
    SAME,
    SAMPLES,
    ZERO,
    Cells,
    ShapeConflictError,
    UndecidableError,
    every,
    packed,
)
from bn_audit.flow.choice import chosen
from bn_audit.flow.constants import Array, Constant
from bn_audit.flow.lookup import chosen_along, gathered, looked_up, picked, put
from bn_audit.flow.movement import axis_of, broadcast, reshaped, sliced, taken
from bn_audit.flow.overwriting import put_by_data, written
from bn_audit.flow.reduction import reduced
from bn_audit.flow.tokens import mixed, token
from bn_audit.flow.values import known

MAX_PLACES = 1 << 20
"""Known places of one gather or scatter."""


def indices_at(call: Call, index: int) -> Array | None:
    """Return known indices; None where they depend on the data."""
    value = call.operand(index)
    return known(value) if isinstance(value, Constant) else None


def gather(call: Call) -> Result:
    table, indices = call.operand(0), indices_at(call, 1)
    axis = axis_of(call.integer("axis", 0), len(table.shape))
    if indices is None:
        return looked_up("Gather", table, axis, call.operand(1))
    cells = table.cells((axis,)) if isinstance(table, Constant) and table.is_light else as_cells(table)
    return taken(cells, axis, np.asarray(indices))


def places_of(indices: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """Return the row-major places of elements that GatherElements and its kin take from an array of `shape`."""
    if indices.size > MAX_PLACES:
        raise UndecidableError(f"{indices.size} places are too many to follow")
    grid: list[Array] = list(np.indices(indices.shape, sparse=True))
    grid[axis] = np.where(indices < 0, indices + shape[axis], indices)
    return ravelled(np.broadcast_arrays(*grid), shape)


def ravelled(rows: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """Return the row-major places that indices along each axis name."""
    return np.asarray(np.ravel_multi_index([row.astype(np.int64) for row in rows], shape))


def gather_elements(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    axis = axis_of(call.integer("axis", 0), cells.rank)
    indices = indices_at(call, 1)
    if indices is None:
        return chosen_along("GatherElements", cells, axis, call.operand(1))
    flat = places_of(indices, axis, cells.shape)
    return gathered(cells, flat, indices.shape, tuple(range(cells.rank)))


def gather_nd(call: Call) -> Result:
    cells, indices = as_cells(call.operand(0)), indices_at(call, 1)
    batch = call.integer("batch_dims", 0)
    if indices is None:
        return _gather_nd_by_data(call, cells, batch)
    depth = indices.shape[-1]
    axes = tuple(range(batch + depth))
    if len(axes) > cells.rank:
        raise ShapeConflictError(f"indices of {depth} axes for {cells.shape}")
    columns = [np.moveaxis(indices, -1, 0)[i] for i in range(depth)]
    own = np.indices(indices.shape[:-1], sparse=True)[:batch]
    rows = [*own, *(np.where(c < 0, c + cells.shape[batch + i], c) for i, c in enumerate(columns))]
    flat = np.broadcast_to(ravelled(np.broadcast_arrays(*rows), cells.shape[: len(axes)]), indices.shape[:-1])
    return gathered(cells, flat, (*flat.shape, *cells.shape[len(axes) :]), axes)


def _gather_nd_by_data(call: Call, cells: Cells, batch: int) -> Result:
    indices = as_cells(call.operand(1))
    depth = indices.shape[-1]
    if batch or not 0 < depth <= cells.rank:
        raise UndecidableError("which elements it takes depends on the data")
    last = indices.rank - 1
    columns = [reshaped(sliced(indices, last, i, 1, 1), indices.shape[:-1]) for i in range(depth)]
    return picked("GatherND", cells, columns)


def reduction_of(call: Call) -> object | None:
    """Return how a scatter combines; None where it replaces."""
    name = call.text("reduction", "none")
    return None if name == "none" else name


def scatter_elements(call: Call) -> Result:
    cells, updates = as_cells(call.operand(0)), as_cells(call.operand(2))
    axis = axis_of(call.integer("axis", 0), cells.rank)
    indices = indices_at(call, 1)
    if indices is None:
        places = as_cells(call.operand(1))
        aligned = all(places.shape[a] == n for a, n in enumerate(cells.shape) if a != axis)
        axes = (axis,) if aligned else tuple(range(cells.rank))
        return put_by_data("ScatterElements", cells, axes, places, updates)
    flat = places_of(indices, axis, cells.shape)
    return put(cells, flat, updates, tuple(range(cells.rank)), combine=reduction_of(call))


def scatter_nd(call: Call) -> Result:
    cells, updates = as_cells(call.operand(0)), as_cells(call.operand(2))
    indices = indices_at(call, 1)
    if indices is None:
        places = as_cells(call.operand(1))
        last, depth = places.rank - 1, places.shape[-1]
        columns = [reshaped(sliced(places, last, i, 1, 1), places.shape[:-1]) for i in range(depth)]
        return written(("ScatterND", reduction_of(call)), cells, columns, updates)
    depth = indices.shape[-1]
    known_columns = [np.moveaxis(indices, -1, 0)[i] for i in range(depth)]
    rows_known = [np.where(c < 0, c + cells.shape[i], c) for i, c in enumerate(known_columns)]
    flat = ravelled(rows_known, cells.shape[:depth])
    return put(cells, flat, updates, tuple(range(depth)), combine=reduction_of(call))


def one_hot(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    depth = call.whole(1)[0]
    axis = call.integer("axis", -1)
    axis = axis + cells.rank + 1 if axis < 0 else axis
    opened = reshaped(cells, (*cells.shape[:axis], 1, *cells.shape[axis:]))
    steps = call.constant(np.arange(depth).reshape((-1,) + (1,) * (cells.rank - axis)))
    values = call.operand(2)
    ends = values.values() if isinstance(values, Constant) else None
    if ends is not None and np.array_equal(ends, [0, 1]):
        return truth(pointwise(("OneHot", depth), [opened, steps], selects=True))
    both = reduced(values, (0,), "values", keep=False, ordered=True)
    return pointwise(("OneHot", depth), [opened, steps, both], selects=ends is None or bool((ends == 0).any()))


def trilu(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    offset = call.whole(1)[0] if call.has(1) else 0
    rows, columns = cells.shape[-2:]
    upper = bool(call.integer("upper", 1))
    if EACH not in cells.kinds[-2:]:
        return part_zero(("Trilu", offset, upper), cells)
    if rows * columns > MAX_PLACES:
        raise UndecidableError(f"a triangle of {rows} by {columns} is too large to follow")
    ones = np.ones((rows, columns), bool)
    mask = np.triu(ones, offset) if upper else np.tril(ones, offset)
    zero = call.constant(np.zeros((), np.float32))
    return chosen("Trilu", call.constant(mask), cells, zero)


def part_zero(seed: object, cells: Cells) -> Cells:
    """Return the array with zeros at some of the places that one cell stands for."""
    kinds = (*cells.kinds[:-2], *(LINE if size > 1 else SAME for size in cells.shape[-2:]))
    by = token(seed, cells.kinds[-2:], cells.shape[-2:], sum(kind == LINE for kind in cells.kinds[:-2]))
    left = every(cells.owners)
    owners = packed(cells.owners & (SAMPLES | FLAGS), left, np.zeros_like(left))
    forms = np.where(cells.forms == ZERO, ZERO, mixed(cells.forms, by))
    return replace(cells, kinds=kinds, owners=owners, forms=forms)


def eye_like(call: Call) -> Result:
    rows, columns = call.operand(0).shape
    if rows * columns > MAX_PLACES:
        raise UndecidableError(f"an identity of {rows} by {columns} is too large to follow")
    return call.constant(np.eye(rows, columns, call.integer("k", 0), dtype=np.float32))


def reverse_sequence(call: Call) -> Result:
    """The first elements along the time axis are reversed, as many as each sequence is long."""
    cells, lengths = as_cells(call.operand(0)), as_cells(call.operand(1))
    batch, along = call.integer("batch_axis", 1), call.integer("time_axis", 0)
    sizes = reshaped(lengths, [n if a == batch else 1 for a, n in enumerate(cells.shape)])
    return chosen_along("ReverseSequence", cells, along, broadcast(sizes, cells.shape))


def compress(call: Call) -> Result:
    mask = known(call.operand(1)).astype(bool).reshape(-1)
    cells = as_cells(call.operand(0))
    axis = call.integer("axis", -1 if call.attribute("axis") is not None else 10**6)
    if axis == 10**6:
        cells, axis = reshaped(cells, (math.prod(cells.shape),)), 0
    return taken(cells, axis_of(axis, cells.rank), np.flatnonzero(mask))


def by_data(call: Call) -> Result:
    raise UndecidableError(f"the shape of what {call.node.op} gives depends on the data")


def tensor_scatter(call: Call) -> Result:
    """A key-value cache, shape (B, ..., length, ...), written at one place for each sample."""
    cells, updates = as_cells(call.operand(0)), as_cells(call.operand(1))
    axis = axis_of(call.integer("axis", -2), cells.rank)
    if call.has(2):
        starts = as_cells(call.operand(2))
        places = reshaped(starts, (starts.shape[0], *(1,) * (cells.rank - 1)))
    else:
        places = as_cells(call.constant(np.zeros((1,) * cells.rank, np.int64)))
    return put_by_data("TensorScatter", cells, (axis,), places, updates)


TABLE: dict[str, Handler] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "Scatter": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
    "OneHot": one_hot,
    "Trilu": trilu,
    "EyeLike": eye_like,
    "ReverseSequence": reverse_sequence,
    "Compress": compress,
    **dict.fromkeys(("NonZero", "Unique", "ConstantOfShape", "Range"), by_data),
}
