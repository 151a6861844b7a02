"""ONNX operators that move elements without combining them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells, ShapeConflictError
from bn_audit.flow.joining import concatenated, padded
from bn_audit.flow.movement import axis_of, broadcast, reshaped, sliced, squeezed, tiled, transposed


def axes_of(call: Call, index: int, rank: int) -> tuple[int, ...] | None:
    """Return axes given as an attribute (older operator sets) or as an input; None where not given."""
    axes = call.integers("axes")
    if axes is None and call.has(index):
        axes = call.whole(index)
    return None if axes is None else tuple(axis_of(axis, rank) for axis in axes)


def reshape(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    target = call.whole(1) if call.has(1) else call.integers("shape") or ()
    return reshaped(cells, reshape_target(call, cells.shape, list(target)))


def reshape_target(call: Call, shape: tuple[int, ...], target: list[int]) -> tuple[int, ...]:
    """Return the sizes that a reshape gives, with 0 and -1 filled in and a hard-coded batch replaced."""
    if not call.integer("allowzero", 0):
        target = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(target)]
    total = math.prod(shape)
    if target.count(-1) > 1 or any(size < -1 for size in target):
        raise ShapeConflictError(f"{target} is no shape")
    rest = math.prod(size for size in target if size != -1)
    setting = call.setting
    declared = setting.declared_batch or 1
    if -1 in target:
        if setting.relaxing and target[0] == declared and setting.batch_size != declared and len(target) > 1:
            opened = [setting.batch_size, *target[1:]]
            rest = math.prod(size for size in opened if size != -1)
            if rest and total % rest == 0:
                setting.relaxed(call.node, f"its shape {tuple(target)} fixes the batch size to {declared}")
                target = opened
        if not rest or total % rest:
            raise ShapeConflictError(f"{shape} has no {target} as a shape")
        return tuple(total // rest if size == -1 else size for size in target)
    per_sample = total // setting.batch_size
    if rest != total and target and per_sample and not rest % per_sample:
        # The shape holds the elements of the batch size that the model was exported with.
        fixed = rest // per_sample
        if target[0] % fixed == 0 and setting.declared_batch in (None, fixed):
            setting.relaxed(call.node, f"its shape {tuple(target)} fixes the batch size to {fixed}")
            return (target[0] // fixed * setting.batch_size, *target[1:])
    return tuple(target)


def flatten(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    axis = call.integer("axis", 1)
    axis = axis + cells.rank if axis < 0 else axis
    return reshaped(cells, (math.prod(cells.shape[:axis]), math.prod(cells.shape[axis:])))


def squeeze(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    axes = axes_of(call, 1, cells.rank)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(cells.shape) if size == 1)
        if call.setting.batch_size in cells.shape and call.setting.declared_batch is None:
            why = "Squeeze without axes drops the batch axis too where the batch holds one sample"
            call.setting.remark("fixed-batch", call.node, why)
    return squeezed(cells, axes)


def unsqueeze(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    raw = call.integers("axes")
    raw = raw if raw is not None else call.whole(1)
    rank = cells.rank + len(raw)
    axes = {axis_of(axis, rank) for axis in raw}
    if len(axes) != len(raw):
        raise ShapeConflictError(f"axes {raw} repeat")
    sizes = iter(cells.shape)
    return reshaped(cells, [1 if axis in axes else next(sizes) for axis in range(rank)])


def transpose(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    order = call.integers("perm") or tuple(reversed(range(cells.rank)))
    if sorted(order) != list(range(cells.rank)):
        raise ShapeConflictError(f"{order} is no order of {cells.rank} axes")
    return transposed(cells, order)


def expand(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    target = call.whole(1)
    rank = max(cells.rank, len(target))
    own = (1,) * (rank - cells.rank) + cells.shape
    wanted = (1,) * (rank - len(target)) + target
    return broadcast(cells, [w if o == 1 else o if w == 1 else _agreed(o, w) for o, w in zip(own, wanted, strict=True)])


def _agreed(size: int, wanted: int) -> int:
    if size != wanted:
        raise ShapeConflictError(f"an axis of {size} cannot be expanded to {wanted}")
    return size


def tile(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    repeats = call.whole(1)
    if len(repeats) != cells.rank:
        raise ShapeConflictError(f"{len(repeats)} repeats for {cells.rank} axes")
    for axis, times in enumerate(repeats):
        cells = tiled(cells, axis, times)
    return cells


def slice_(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    if call.version < 10 and call.attribute("starts") is not None:
        starts, ends = call.integers("starts") or (), call.integers("ends") or ()
        axes, steps = call.integers("axes"), None
    else:
        starts, ends = call.whole(1), call.whole(2)
        axes = call.whole(3) if call.has(3) else None
        steps = call.whole(4) if call.has(4) else None
    axes = axes if axes is not None else tuple(range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, steps or (1,) * len(starts), strict=True):
        axis = axis_of(axis, cells.rank)
        first, after, step = slice(start, _end(end, step), step).indices(cells.shape[axis])
        cells = sliced(cells, axis, first, step, len(range(first, after, step)))
    return cells


def _end(end: int, step: int) -> int | None:
    """Return the end of a slice; numbers far below zero mean the front when going backwards."""
    return None if step < 0 and end <= -(2**31) + 1 else end


def concat(call: Call) -> Result:
    parts = call.operands()
    return concatenated(parts, axis_of(call.integer("axis", 1 if call.version < 4 else 0), len(parts[0].shape)))


def split(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    axis = axis_of(call.integer("axis", 0), cells.rank)
    sizes = call.integers("split") or (call.whole(1) if call.has(1) else None)
    return pieces(cells, axis, sizes or even_sizes(cells.shape[axis], len(call.node.outputs)))


def even_sizes(size: int, count: int) -> tuple[int, ...]:
    """Return the sizes of `count` parts, the last smaller where it does not come out even."""
    each = -(-size // max(count, 1))
    return tuple(max(0, min(each, size - start)) for start in range(0, each * count, each)) if each else (0,) * count


def pieces(cells: Cells, axis: int, sizes: Sequence[int]) -> tuple[Cells, ...]:
    """Return consecutive parts along an axis."""
    if sum(sizes) != cells.shape[axis] or any(size < 0 for size in sizes):
        raise ShapeConflictError(f"cannot split an axis of {cells.shape[axis]} into {tuple(sizes)}")
    starts = np.cumsum([0, *sizes[:-1]])
    return tuple(sliced(cells, axis, int(start), 1, size) for start, size in zip(starts, sizes, strict=True))


def pad(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    pads = call.integers("pads") or call.integers("paddings") or (call.whole(1) if call.has(1) else ())
    axes = [axis_of(a, cells.rank) for a in call.whole(3)] if call.has(3) else list(range(cells.rank))
    mode = call.text("mode", "constant")
    fill = None
    if mode == "constant":
        given: Operand = (
            call.operand(2) if call.has(2) else call.constant(np.array(call.number("value", 0.0), np.float32))
        )
        fill = as_cells(given)
    if len(pads) != 2 * len(axes):
        raise ShapeConflictError(f"{len(pads)} sizes of padding for {len(axes)} axes")
    for place, axis in enumerate(axes):
        cells = padded(cells, axis, pads[place], pads[place + len(axes)], fill=fill, mode=mode)
    return cells


def depth_to_space(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    n, c, h, w = cells.shape
    b = call.integer("blocksize", 1)
    if call.text("mode", "DCR") == "CRD":
        opened = transposed(reshaped(cells, (n, c // b**2, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    else:
        opened = transposed(reshaped(cells, (n, b, b, c // b**2, h, w)), (0, 3, 4, 1, 5, 2))
    return reshaped(opened, (n, c // b**2, h * b, w * b))


def space_to_depth(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    n, c, h, w = cells.shape
    b = call.integer("blocksize", 1)
    opened = transposed(reshaped(cells, (n, c, h // b, b, w // b, b)), (0, 3, 5, 1, 2, 4))
    return reshaped(opened, (n, c * b * b, h // b, w // b))


def shape(call: Call) -> Result:
    sizes = call.operand(0).shape
    rank = len(sizes)
    start, end = call.integer("start", 0), call.integer("end", rank)
    return call.constant(np.array(sizes[slice(start, end)], np.int64))


def size(call: Call) -> Result:
    return call.constant(np.array(math.prod(call.operand(0).shape), np.int64))


TABLE: dict[str, Handler] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Expand": expand,
    "Tile": tile,
    "Slice": slice_,
    "Concat": concat,
    "Split": split,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Shape": shape,
    "Size": size,
}
