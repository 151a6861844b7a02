"""ATen operators that take elements from, or put them at, given places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells, broadcast_shape, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.choice import chosen
from bn_audit.flow.constants import Array, Constant
from bn_audit.flow.lookup import any_of, by_choice, chosen_along, gathered, looked_up
from bn_audit.flow.movement import broadcast, reshaped, taken, transposed
from bn_audit.flow.values import known, operand

MAX_PLACES = 1 << 20
"""Known places of one gather or scatter."""


def known_or_none(value: Operand) -> Array | None:
    """Return the elements of a constant; None where they depend on the data."""
    return known(value) if isinstance(value, Constant) else None


def table_cells(table: Operand, axis: int) -> Cells:
    """Return the cells of an array from which elements are taken along an axis."""
    return table.cells((axis,)) if isinstance(table, Constant) and table.is_light else as_cells(table)


def index_select(arguments: Arguments) -> Result:
    table = arguments.operand("self")
    axis = arguments.axis("dim", 0, len(table.shape))
    return picked(table, axis, arguments.operand("index"))


def picked(table: Operand, axis: int, indices: Operand) -> Cells:
    """Return the elements of a table along an axis at indices of any shape, which take the axis's place."""
    array = known_or_none(indices)
    if array is None:
        return looked_up("index", table, axis, indices)
    return taken(table_cells(table, axis), axis, array.astype(np.int64))


def embedding(arguments: Arguments) -> Result:
    return picked(arguments.operand("weight"), 0, arguments.operand("indices"))


def take(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    return picked(reshaped(cells, (math.prod(cells.shape),)), 0, arguments.operand("index"))


def embedding_bag(arguments: Arguments) -> Result:
    """Bags of equally many indices are reduced each for itself."""
    indices = arguments.cells("indices")
    starts = arguments.array("offsets").astype(np.int64)
    count = starts.size - (1 if arguments.flag("include_last_offset", False) else 0)
    each = indices.shape[0] // max(count, 1)
    even = count * each == indices.shape[0] and np.array_equal(starts[:count], np.arange(count) * each)
    if indices.rank != 1 or not even:
        raise UndecidableError("bags of unequal sizes are not followed")
    from bn_audit.flow.reduction import reduced

    bags = reshaped(indices, (count, each))
    entries = picked(arguments.operand("weight"), 0, bags)
    if arguments.has("per_sample_weights"):
        weights = reshaped(arguments.cells("per_sample_weights"), (count, each, 1))
        entries = pointwise("mul", [entries, weights])
    return reduced(entries, (1,), (arguments.op, arguments.raw("mode")), keep=False)


def gather(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    indices = arguments.operand("index" if arguments.has("index") else "indices")
    if not cells.rank:
        return cells
    axis = arguments.axis("dim", 0, cells.rank)
    array = known_or_none(indices)
    if array is None:
        return chosen_along("gather", cells, axis, indices)
    flat = places_along(array, axis, cells.shape)
    return gathered(cells, flat, array.shape, tuple(range(cells.rank)))


def places_along(indices: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """Return the row-major places in an array of `shape` that indices along an axis mean."""
    if indices.size > MAX_PLACES:
        raise UndecidableError(f"{indices.size} places are too many to follow")
    grid: list[Array] = list(np.indices(indices.shape, sparse=True))
    grid[axis] = np.where(indices < 0, indices + shape[axis], indices)
    return np.asarray(np.ravel_multi_index([g.astype(np.int64) for g in np.broadcast_arrays(*grid)], shape))


def index(arguments: Arguments) -> Result:
    """``self[indices]`` with arrays at some axes: the axes of the indices, broadcast, take their place."""
    cells = arguments.cells("self")
    places = indices_of(arguments, cells)
    at = sorted(places)
    shape = broadcast_shape([places[axis].shape for axis in at])
    arrays = {axis: known_or_none(places[axis]) for axis in at}
    fixed = [axis for axis in at if arrays[axis] is not None]
    open_ = [axis for axis in at if arrays[axis] is None]
    others = [axis for axis in range(cells.rank) if axis not in places]
    moved = transposed(cells, [*fixed, *open_, *others])
    result = moved
    if fixed:
        sizes = [cells.shape[axis] for axis in fixed]
        flat = flat_places([arrays[axis] for axis in fixed], sizes, shape if not open_ else None)
        merged = reshaped(moved, (math.prod(sizes), *moved.shape[len(fixed) :]))
        result = taken(table_cells(merged, 0), 0, flat)
        if open_:
            rank = len(shape) - flat.ndim
            result = reshaped(result, (*(1,) * rank, *result.shape))
    if open_:
        before = len(shape) if fixed else 0
        entry = any_of(result, tuple(range(before, before + len(open_))), ("index", tuple(open_)))
        tail = entry.shape[before + len(open_) :]
        lead = entry.shape[:before] if fixed else (1,) * len(shape)
        entry = reshaped(entry, (*lead, *tail))
        choosers = [as_cells(places[axis]) for axis in open_]
        chooser = choosers[0] if len(choosers) == 1 else pointwise(("places", tuple(open_)), choosers)
        chooser = reshaped(chooser, (*(1,) * (len(shape) - chooser.rank), *chooser.shape, *(1,) * len(tail)))
        result = broadcast(by_choice("index", chooser, entry), (*shape, *tail))
    return _in_place(result, at, len(shape))


def flat_places(arrays: Sequence[Array | None], sizes: Sequence[int], shape: tuple[int, ...] | None) -> Array:
    """Return row-major places among axes of `sizes`; of shape `shape`, or of the indices' own."""
    found = [
        np.where(array < 0, array + size, array) for array, size in zip(arrays, sizes, strict=True) if array is not None
    ]
    spread = np.broadcast_arrays(*found) if shape is None else [np.broadcast_to(array, shape) for array in found]
    if spread[0].size > MAX_PLACES:
        raise UndecidableError(f"{spread[0].size} places are too many to follow")
    return np.asarray(np.ravel_multi_index([array.astype(np.int64) for array in spread], tuple(sizes)))


def _in_place(result: Cells, at: Sequence[int], rank: int) -> Cells:
    """Return the array with the axes of the indices where they belong: in front, unless the indexed axes adjoin."""
    if list(at) != list(range(at[0], at[0] + len(at))) or at[0] == 0:
        return result
    before = list(range(rank, rank + at[0]))
    return transposed(result, [*before, *range(rank), *range(rank + at[0], result.rank)])


def indices_of(arguments: Arguments, cells: Cells) -> dict[int, Operand]:
    """Return the index array of each axis that has one; masks of truth values as the places where they are true."""
    found: dict[int, Operand] = {}
    axis = 0
    for value in arguments.listed("indices"):
        if value is None:
            axis += 1
            continue
        place = operand(value)
        values = place.values() if isinstance(place, Constant) else None
        if values is not None and values.dtype == np.bool_:
            for column in np.nonzero(values):
                found[axis] = arguments.constant(column)
                axis += 1
            continue
        if is_mask(arguments, place):
            raise UndecidableError("how many elements it takes depends on the data")
        found[axis] = place
        axis += 1
    if not found or axis > cells.rank:
        raise ShapeConflictError(f"{axis} indices for {cells.rank} axes")
    return found


def is_mask(arguments: Arguments, place: Operand) -> bool:
    """Whether an index array holds truth values."""
    values = place.values() if isinstance(place, Constant) else None
    if values is not None:
        return bool(values.dtype == np.bool_)
    return arguments.dtype_of(place) in ("bool", "uint8")


def triangle(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    rows_, columns = cells.shape[-2:]
    if rows_ * columns > MAX_PLACES:
        raise UndecidableError(f"a triangle of {rows_} by {columns} is too large to follow")
    cut = np.triu if arguments.op == "aten.triu" else np.tril
    mask = cut(np.ones((rows_, columns), bool), arguments.integer("diagonal", 0))
    return chosen("triangle", arguments.constant(mask), cells, arguments.constant(np.zeros((), np.float32)))


def diagonal(arguments: Arguments) -> Result:
    """The elements with equal indices along two axes, along a new last axis."""
    cells = arguments.cells("self")
    moved, places, _ = diagonal_places(arguments, cells)
    rest = moved.shape[2:]
    flat = reshaped(moved, (moved.shape[0] * moved.shape[1], *rest))
    result = taken(flat, 0, places)
    return transposed(result, [*range(1, result.rank), 0])


def diagonal_places(arguments: Arguments, cells: Cells) -> tuple[Cells, Array, list[int]]:
    one, other = arguments.axis("dim1", 0, cells.rank), arguments.axis("dim2", 1, cells.rank)
    offset = arguments.integer("offset", arguments.integer("diagonal", 0))
    order = [one, other, *(axis for axis in range(cells.rank) if axis not in (one, other))]
    rows_, columns = cells.shape[one], cells.shape[other]
    count = max(0, min(rows_ + min(offset, 0), columns - max(offset, 0)))
    steps = np.arange(count)
    places = (steps - min(offset, 0)) * columns + steps + max(offset, 0)
    return transposed(cells, order), places, order


def diagonal_matrix(arguments: Arguments) -> Result:
    """``diag_embed`` of the last axis, and ``diag`` of a vector."""
    cells = arguments.cells("self")
    if arguments.op == "aten.diag" and cells.rank == 2:
        return diagonal(arguments)
    usual = {"offset": 0, "diagonal": 0, "dim1": -2, "dim2": -1}
    if any(arguments.integer(name, default) != default for name, default in usual.items()):
        raise UndecidableError("a diagonal off the middle is not followed")
    size = cells.shape[-1]
    opened = broadcast(reshaped(cells, (*cells.shape[:-1], 1, size)), (*cells.shape[:-1], size, size))
    eye = arguments.constant(np.eye(size, dtype=bool))
    return chosen("diagonal", eye, opened, arguments.constant(np.zeros((), np.float32)))


def one_hot(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    classes = arguments.integer("num_classes", -1)
    if classes < 0:
        raise UndecidableError("the number of classes depends on the data")
    steps = arguments.constant(np.arange(classes))
    return pointwise(("one_hot", classes), [reshaped(cells, (*cells.shape, 1)), steps], selects=True)


def bucketize(arguments: Arguments) -> Result:
    """Where each element would stand among sorted numbers that are the same for all."""
    from bn_audit.flow.reduction import reduced

    if arguments.op == "aten.bucketize":
        element, table = arguments.operand("self"), arguments.operand("boundaries")
    else:
        element, table = arguments.operand("self"), arguments.operand("sorted_sequence")
    whole = reduced(table, (len(table.shape) - 1,), arguments.op, ordered=True)
    if len(table.shape) == 1:
        whole = reshaped(whole, ())
    return pointwise(arguments.seed, [element, whole], selects=True)


def isin(arguments: Arguments) -> Result:
    from bn_audit.flow.reduction import reduced

    table = arguments.operand("test_elements")
    whole = reduced(table, range(len(table.shape)), arguments.op, keep=False)
    return pointwise(arguments.seed, [arguments.operand("elements"), whole], selects=True)


def counted(arguments: Arguments) -> Result:
    """``bincount``: how often each number stands in the whole of the operand."""
    raise UndecidableError(f"the shape of what {arguments.op} gives depends on the data")


TABLE: Table = rows(
    ("index_select.default", index_select),
    ("embedding.default", embedding),
    ("embedding_bag.default _embedding_bag.default _embedding_bag_forward_only.default", embedding_bag),
    ("embedding_bag.padding_idx", embedding_bag),
    ("take.default", take),
    ("gather.default take_along_dim.default", gather),
    ("index.Tensor _unsafe_index.Tensor", index),
    ("tril.default triu.default", triangle),
    ("diagonal.default diagonal_copy.default", diagonal),
    ("diag_embed.default diag.default", diagonal_matrix),
    ("one_hot.default", one_hot),
    ("bucketize.Tensor bucketize.Scalar searchsorted.Tensor searchsorted.Scalar", bucketize),
    ("isin.Tensor_Tensor", isin),
    (
        "nonzero.default masked_select.default unique.default _unique2.default unique_consecutive.default"
        " unique_dim.default bincount.default nonzero_numpy.default repeat_interleave.Tensor"
        " _local_scalar_dense.default item.default nonzero_static.default argwhere.default",
        counted,
    ),
)
