"""ATen operators that take arrays apart along an axis and put them together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.joining import concatenated, padded
from bn_audit.flow.movement import broadcast, reshaped, sliced, squeezed, taken, tiled
from bn_audit.flow.values import Value


def slice_(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    first, step, count = bounds(arguments, cells.shape[axis])
    return sliced(cells, axis, first, step, count)


def bounds(arguments: Arguments, size: int) -> tuple[int, int, int]:
    """Return start, step and count of a slice."""
    start, end = (arguments.integer(name, 0) if arguments.has(name) else None for name in ("start", "end"))
    steps = range(*slice(start, end, arguments.integer("step", 1)).indices(size))
    return steps.start, steps.step, len(steps)


def select(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    index = place_of(arguments, cells.shape[axis])
    return squeezed(sliced(cells, axis, index, 1, 1), (axis,))


def place_of(arguments: Arguments, size: int) -> int:
    """Return the index of a select, counted from the front."""
    index = arguments.integer("index", 0)
    if not -size <= index < size:
        raise ShapeConflictError(f"index {index} is outside an axis of {size}")
    return index % size


def narrow(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    start, length = arguments.integer("start", 0), arguments.integer("length", 0)
    start = start + cells.shape[axis] if start < 0 else start
    if not 0 <= start <= start + length <= cells.shape[axis]:
        raise ShapeConflictError(f"{length} elements from {start} on of an axis of {cells.shape[axis]}")
    return sliced(cells, axis, start, 1, length)


def unbind(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    parts = pieces(arguments, cells, axis, (1,) * cells.shape[axis])
    return tuple(squeezed(part, (axis,)) for part in parts)


def split(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    sizes = arguments.integers("split_sizes") or arguments.integers("split_size") or ()
    if isinstance(arguments.raw("split_sizes" if arguments.has("split_sizes") else "split_size"), tuple):
        return pieces(arguments, cells, axis, sizes)
    return pieces(arguments, cells, axis, equal_parts(cells.shape[axis], sizes[0]))


def chunk(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    count = max(arguments.integer("chunks", 1), 1)
    return pieces(arguments, cells, axis, equal_parts(cells.shape[axis], -(-cells.shape[axis] // count)))


def tensor_split(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    size = cells.shape[axis]
    if arguments.has("indices"):
        cuts = [0, *(min(i + size if i < 0 else i, size) for i in arguments.integers("indices") or ()), size]
        return pieces(arguments, cells, axis, [after - before for before, after in pairwise(cuts)])
    count = max(arguments.integer("sections", 1), 1)
    return pieces(arguments, cells, axis, [size // count + (i < size % count) for i in range(count)])


def equal_parts(size: int, each: int) -> tuple[int, ...]:
    """Return the sizes of parts of `each` elements, the last smaller where it does not come out even."""
    return tuple(min(each, size - start) for start in range(0, size, each)) if each > 0 else (size,)


def pieces(arguments: Arguments, cells: Cells, axis: int, sizes: Sequence[int]) -> tuple[Cells, ...]:
    """Return consecutive parts along an axis, as many as the node has outputs."""
    outputs = len(arguments.call.node.outputs)
    if sum(sizes) != cells.shape[axis] or len(sizes) != outputs or any(size < 0 for size in sizes):
        raise ShapeConflictError(f"an axis of {cells.shape[axis]} in parts of {tuple(sizes)} gives no {outputs}")
    starts = np.cumsum([0, *sizes[:-1]])
    return tuple(sliced(cells, axis, int(start), 1, size) for start, size in zip(starts, sizes, strict=True))


def cat(arguments: Arguments) -> Result:
    parts = arguments.operands("tensors")
    # An empty vector joins anything.
    parts = [part for part in parts if part.shape != (0,)] or parts[:1]
    name = "dim" if arguments.has("dim") else "axis"
    return concatenated(parts, arguments.axis(name, 0, len(parts[0].shape)))


def stack(arguments: Arguments) -> Result:
    parts = [as_cells(part) for part in arguments.operands("tensors")]
    axis = arguments.axis("dim", 0, parts[0].rank + 1)
    return concatenated([reshaped(part, (*part.shape[:axis], 1, *part.shape[axis:])) for part in parts], axis)


def stack_rows(arguments: Arguments) -> Result:
    """``hstack`` and ``vstack``: rows of vectors, or axes that are there."""
    parts = [as_cells(part) for part in arguments.operands("tensors")]
    if arguments.op == "aten.hstack":
        return concatenated(parts, 0 if parts[0].rank <= 1 else 1)
    return concatenated([reshaped(part, (1,) * max(0, 2 - part.rank) + part.shape) for part in parts], 0)


def meshgrid(arguments: Arguments) -> Result:
    parts = [as_cells(part) for part in arguments.operands("tensors")]
    shape = [part.shape[0] if part.rank else 1 for part in parts]
    grids: list[Value] = []
    for axis, part in enumerate(parts):
        column = reshaped(part, [n if at == axis else 1 for at, n in enumerate(shape)])
        grids.append(broadcast(column, shape))
    if arguments.text("indexing", "ij") == "xy":
        raise UndecidableError("a grid in xy order is not followed")
    return tuple(grids)


def repeat_interleave(arguments: Arguments) -> Result:
    """Each element along an axis, as many times as the data or a number says."""
    cells = arguments.cells("self")
    if not arguments.has("dim"):
        cells = reshaped(cells, (int(np.prod(cells.shape)),))
    axis = arguments.axis("dim", 0, cells.rank)
    times = arguments.array("repeats").astype(np.int64).reshape(-1)
    if times.size == 1:
        opened = reshaped(cells, (*cells.shape[: axis + 1], 1, *cells.shape[axis + 1 :]))
        return reshaped(
            tiled(opened, axis + 1, int(times[0])),
            (*cells.shape[:axis], cells.shape[axis] * int(times[0]), *cells.shape[axis + 1 :]),
        )
    if times.size != cells.shape[axis]:
        raise ShapeConflictError(f"{times.size} repeats for an axis of {cells.shape[axis]}")
    return taken(cells, axis, np.repeat(np.arange(times.size), times))


def select_scatter(arguments: Arguments) -> Result:
    cells, news = arguments.cells("self"), arguments.cells("src")
    axis = arguments.axis("dim", 0, cells.rank)
    index = place_of(arguments, cells.shape[axis])
    news = broadcast(news, [*cells.shape[:axis], *cells.shape[axis + 1 :]])
    return _replaced(cells, reshaped(news, (*news.shape[:axis], 1, *news.shape[axis:])), axis, index, 1)


def slice_scatter(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    first, step, count = bounds(arguments, cells.shape[axis])
    news = broadcast(arguments.cells("src"), [*cells.shape[:axis], count, *cells.shape[axis + 1 :]])
    return _replaced(cells, news, axis, first, step)


def _replaced(cells: Cells, news: Cells, axis: int, first: int, step: int) -> Cells:
    """Return the array with elements along an axis replaced."""
    size, count = cells.shape[axis], news.shape[axis]
    if not count:
        return cells
    if count == size:
        return news
    if step == 1:
        last = first + count
        parts: list[Operand] = [sliced(cells, axis, 0, 1, first), news, sliced(cells, axis, last, 1, size - last)]
        return concatenated([part for part in parts if part.shape[axis]], axis)
    places = np.arange(size)
    places[first : first + step * count : step] = size + np.arange(count)
    return taken(concatenated([cells, news], axis), axis, places)


def pad(arguments: Arguments) -> Result:
    """The list begins with the last axis: in front of it, behind it, then the one before."""
    cells = arguments.cells("self")
    pads = arguments.integers("pad" if arguments.has("pad") else "padding") or ()
    mode = _MODES.get(arguments.op) or _MODES.get(arguments.text("mode", "constant"))
    if mode is None or len(pads) % 2 or len(pads) > 2 * cells.rank:
        raise ShapeConflictError(f"{len(pads)} sizes of padding for {cells.rank} axes")
    given = arguments.optional("value")
    fill = as_cells(given if given is not None else arguments.constant(np.zeros(()))) if mode == "constant" else None
    for place in range(len(pads) // 2):
        axis = cells.rank - 1 - place
        cells = padded(cells, axis, pads[2 * place], pads[2 * place + 1], fill=fill, mode=mode)
    return cells


_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "aten._pad_circular": "wrap",
    **{f"aten.reflection_pad{n}d": "reflect" for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d": "edge" for n in (1, 2, 3)},
}

TABLE: Table = rows(
    ("slice.Tensor slice_copy.Tensor", slice_),
    ("select.int select_copy.int", select),
    ("narrow.default narrow_copy.default", narrow),
    ("unbind.int unbind_copy.int", unbind),
    ("split.Tensor split.sizes split_with_sizes.default split_with_sizes_copy.default split_copy.Tensor", split),
    ("unsafe_split.Tensor unsafe_split_with_sizes.default", split),
    ("chunk.default unsafe_chunk.default", chunk),
    ("tensor_split.sections tensor_split.indices", tensor_split),
    ("cat.default concat.default concatenate.default", cat),
    ("stack.default", stack),
    ("hstack.default vstack.default", stack_rows),
    ("meshgrid.default meshgrid.indexing", meshgrid),
    ("repeat_interleave.self_int repeat_interleave.self_Tensor", repeat_interleave),
    ("select_scatter.default", select_scatter),
    ("slice_scatter.default", slice_scatter),
    ("constant_pad_nd.default pad.default _pad_circular.default", pad),
    ("reflection_pad1d.default reflection_pad2d.default reflection_pad3d.default", pad),
    ("replication_pad1d.default replication_pad2d.default replication_pad3d.default", pad),
)
