"""ATen operators that put elements at given places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells, broadcast_shape, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.aten_operators.indexing import (
    diagonal_places,
    flat_places,
    indices_of,
    is_mask,
    known_or_none,
    places_along,
)
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells
from bn_audit.flow.choice import chosen
from bn_audit.flow.constants import Constant
from bn_audit.flow.lookup import any_of, by_choice, put
from bn_audit.flow.movement import broadcast, reshaped, sliced, transposed
from bn_audit.flow.overwriting import put_by_data
from bn_audit.flow.reduction import running
from bn_audit.flow.values import operand


def index_put(arguments: Arguments) -> Result:
    cells, news = arguments.cells("self"), arguments.cells("values")
    combine = "add" if arguments.flag("accumulate", False) else None
    masks = [operand(value) for value in arguments.listed("indices") if value is not None]
    if (
        len(arguments.listed("indices")) == 1
        and len(masks) == 1
        and news.shape in ((), (1,))
        and is_mask(arguments, masks[0])
    ):
        mask = masks[0]
        opened = reshaped(as_cells(mask), (*mask.shape, *(1,) * (cells.rank - len(mask.shape))))
        wide: Operand = opened
        if isinstance(mask, Constant):
            wide = mask.reshaped(opened.shape)
        return chosen(("put", combine), wide, reshaped(news, ()), cells)
    places = indices_of(arguments, cells)
    at = sorted(places)
    shape = broadcast_shape([places[axis].shape for axis in at])
    others = [axis for axis in range(cells.rank) if axis not in places]
    order = [*at, *others]
    moved = transposed(cells, order)
    adjoin = at == list(range(at[0], at[0] + len(at)))
    tail = moved.shape[len(at) :]
    given = [*shape, *tail] if not adjoin else [*cells.shape[: at[0]], *shape, *cells.shape[at[0] + len(at) :]]
    wide_news = broadcast(news, given)
    if adjoin and at[0]:
        wide_news = transposed(
            wide_news,
            [*range(at[0], at[0] + len(shape)), *range(at[0]), *range(at[0] + len(shape), wide_news.rank)],
        )
    arrays = [known_or_none(places[axis]) for axis in at]
    if all(array is not None for array in arrays):
        flat = flat_places(arrays, [cells.shape[axis] for axis in at], shape)
        result = put(moved, flat, wide_news, tuple(range(len(at))), combine=combine)
    else:
        result = _put_somewhere(moved, [places[axis] for axis in at], wide_news, len(shape))
    return transposed(result, [order.index(axis) for axis in range(cells.rank)])


def _put_somewhere(cells: Cells, places: Sequence[Operand], news: Cells, rank: int) -> Cells:
    """Return the array with elements replaced at places among its leading axes that the data chooses."""
    count = len(places)
    chooser = as_cells(places[0]) if count == 1 else pointwise("places", list(places))
    flat = reshaped(chooser, (math.prod(chooser.shape), *(1,) * (cells.rank - 1)))
    rest = news.shape[rank:]
    updates = reshaped(news, (math.prod(news.shape[:rank]), *(1,) * (count - 1), *rest))
    return put_by_data("put", cells, tuple(range(count)), flat, updates)


def scatter(arguments: Arguments) -> Result:
    """``self[index[i][j]][j] = src[i][j]`` along axis 0, and so on along the others."""
    cells = arguments.cells("self")
    places = arguments.operand("index")
    news = arguments.cells("src" if arguments.has("src") else "value")
    axis = arguments.axis("dim", 0, cells.rank)
    name = arguments.raw("reduce")
    combine: object | None = name if isinstance(name, str) else "add" if arguments.op == "aten.scatter_add" else None
    if not news.shape:
        news = broadcast(news, places.shape)
    for other, size in enumerate(places.shape):
        if news.shape[other] != size:
            news = sliced(news, other, 0, 1, size)
    array = known_or_none(places)
    if array is None:
        aligned = all(places.shape[a] == size for a, size in enumerate(cells.shape) if a != axis)
        axes = (axis,) if aligned else tuple(range(cells.rank))
        return put_by_data(("scatter", combine), cells, axes, as_cells(places), news)
    flat = places_along(array, axis, cells.shape)
    return put(cells, flat, news, tuple(range(cells.rank)), combine=combine)


def index_write(arguments: Arguments) -> Result:
    """``index_add``, ``index_copy``, ``index_fill``: whole slices along an axis."""
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    places = arguments.operand("index")
    combine = {"aten.index_add": "add", "aten.index_reduce": arguments.raw("reduce")}.get(arguments.op)
    name = next((n for n in ("source", "value") if arguments.has(n)), "source")
    size = places.shape[0] if places.shape else 1
    news = broadcast(arguments.cells(name), (*cells.shape[:axis], size, *cells.shape[axis + 1 :]))
    if arguments.has("alpha") and arguments.number("alpha", 1.0) != 1.0:
        news = pointwise(("scale", arguments.number("alpha", 1.0)), [news])
    order = [axis, *(other for other in range(cells.rank) if other != axis)]
    moved, news = transposed(cells, order), transposed(news, order)
    array = known_or_none(places)
    if array is None:
        flat = reshaped(as_cells(places), (size, *(1,) * (cells.rank - 1)))
        result = put_by_data(("index", combine), moved, (0,), flat, news)
    else:
        places_ = np.where(array < 0, array + cells.shape[axis], array).astype(np.int64).reshape(-1)
        result = put(moved, places_, news, (0,), combine=combine)
    return transposed(result, [order.index(at) for at in range(cells.rank)])


def diagonal_scatter(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    moved, places, order = diagonal_places(arguments, cells)
    news = arguments.cells("src")
    news = transposed(news, [news.rank - 1, *range(news.rank - 1)])
    flat = reshaped(moved, (moved.shape[0] * moved.shape[1], *moved.shape[2:]))
    result = reshaped(put(flat, places, news, (0,), combine=None), moved.shape)
    return transposed(result, [order.index(axis) for axis in range(cells.rank)])


def masked_scatter(arguments: Arguments) -> Result:
    """Elements of the source, in order, where the mask is true: which one depends on all of the mask before it."""
    cells, mask = arguments.cells("self"), arguments.cells("mask")
    mask = broadcast(mask, cells.shape)
    flat = reshaped(mask, (math.prod(cells.shape),))
    places = reshaped(running("masked", flat, 0), cells.shape)
    source = arguments.cells("source")
    entry = reshaped(any_of(reshaped(source, (math.prod(source.shape),)), (0,), "entry"), ())
    return chosen("masked_scatter", mask, by_choice("masked", places, entry), cells)


TABLE: Table = rows(
    ("index_put.default _unsafe_index_put.default _index_put_impl.default", index_put),
    ("scatter.src scatter.value scatter_add.default scatter.reduce scatter.value_reduce scatter_reduce.two", scatter),
    ("diagonal_scatter.default", diagonal_scatter),
    ("masked_scatter.default", masked_scatter),
    (
        "index_add.default index_copy.default index_fill.int_Scalar index_fill.int_Tensor index_reduce.default",
        index_write,
    ),
)
