"""ATen operators that give the same elements another shape or order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bn_audit.flow.algebra import as_cells
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.movement import axis_of, broadcast, reshaped, sliced, squeezed, taken, tiled, transposed


def view(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    wanted = arguments.integers("size" if arguments.has("size") else "shape") or ()
    return reshaped(cells, sizes_of(arguments, cells.shape, wanted))


def sizes_of(arguments: Arguments, shape: tuple[int, ...], wanted: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes that a view gives, with -1 filled in and a hard-coded batch replaced."""
    target, total = list(wanted), math.prod(shape)
    if target.count(-1) > 1 or any(size < -1 for size in target):
        raise ShapeConflictError(f"{target} is no shape")
    setting = arguments.call.setting
    declared = setting.declared_batch
    if -1 in target:
        if setting.relaxing and target[0] == declared and len(target) > 1:
            opened = [setting.batch_size, *target[1:]]
            rest = math.prod(size for size in opened if size != -1)
            if rest and total % rest == 0:
                setting.relaxed(arguments.call.node, f"its shape {tuple(wanted)} fixes the batch size to {declared}")
                target = opened
        rest = math.prod(size for size in target if size != -1)
        if not rest or total % rest:
            raise ShapeConflictError(f"{shape} has no {tuple(wanted)} as a shape")
        return tuple(total // rest if size == -1 else size for size in target)
    per_sample = total // setting.batch_size
    rest = math.prod(target)
    if rest != total and target and per_sample and not rest % per_sample:
        # The shape holds the elements of the batch size that the model was exported with.
        fixed = rest // per_sample
        if target[0] % fixed == 0 and declared in (None, fixed):
            setting.relaxed(arguments.call.node, f"its shape {tuple(wanted)} fixes the batch size to {fixed}")
            return (target[0] // fixed * setting.batch_size, *target[1:])
    return tuple(target)


def view_as(arguments: Arguments) -> Result:
    return reshaped(arguments.cells("self"), arguments.operand("other").shape)


def flatten(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    if not cells.rank:
        return reshaped(cells, (1,))
    start, end = arguments.axis("start_dim", 0, cells.rank), arguments.axis("end_dim", -1, cells.rank)
    return reshaped(cells, (*cells.shape[:start], math.prod(cells.shape[start : end + 1]), *cells.shape[end + 1 :]))


def unflatten(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank)
    sizes = list(arguments.integers("sizes") or ())
    rest = math.prod(size for size in sizes if size != -1)
    sizes = [cells.shape[axis] // max(rest, 1) if size == -1 else size for size in sizes]
    return reshaped(cells, (*cells.shape[:axis], *sizes, *cells.shape[axis + 1 :]))


def squeeze(arguments: Arguments) -> Result:
    """An axis that is not of size 1 stays."""
    cells = arguments.cells("self")
    given = arguments.integers("dim")
    if given is None:
        setting = arguments.call.setting
        if setting.batch_size in cells.shape and setting.declared_batch is None:
            why = "squeeze without axes drops the batch axis too where the batch holds one sample"
            setting.remark("fixed-batch", arguments.call.node, why)
        axes = set(range(cells.rank))
    else:
        axes = {axis_of(axis, cells.rank) for axis in given}
    return squeezed(cells, [axis for axis in axes if axis < cells.rank and cells.shape[axis] == 1])


def unsqueeze(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axis = arguments.axis("dim", 0, cells.rank + 1)
    return reshaped(cells, (*cells.shape[:axis], 1, *cells.shape[axis:]))


def swap(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    names = next((pair for pair in (("dim0", "dim1"), ("axis0", "axis1")) if arguments.has(pair[0])), None)
    pair = (-1, -2) if names is None else tuple(arguments.integer(name, 0) for name in names)
    return swapped(cells, *pair) if cells.rank else cells


def swapped(cells: Cells, one: int, other: int) -> Cells:
    """Return the array with two axes exchanged."""
    order = list(range(cells.rank))
    one, other = axis_of(one, cells.rank), axis_of(other, cells.rank)
    order[one], order[other] = other, one
    return transposed(cells, order)


def reverse_axes(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    return transposed(cells, tuple(reversed(range(cells.rank))))


def permute(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    order = [axis_of(axis, cells.rank) for axis in arguments.integers("dims") or ()]
    if sorted(order) != list(range(cells.rank)):
        raise ShapeConflictError(f"{order} is no order of {cells.rank} axes")
    return transposed(cells, order)


def move_axes(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    sources = [axis_of(axis, cells.rank) for axis in arguments.integers("source") or ()]
    targets = [axis_of(axis, cells.rank) for axis in arguments.integers("destination") or ()]
    order = [axis for axis in range(cells.rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return transposed(cells, order)


def expand(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    wanted = arguments.integers("size") or ()
    own = (1,) * (len(wanted) - cells.rank) + cells.shape
    return broadcast(cells, opened_sizes(arguments, own, wanted))


def opened_sizes(arguments: Arguments, own: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Return the sizes that an expansion gives, with -1 filled in and a hard-coded batch replaced."""
    setting = arguments.call.setting
    declared, batch = setting.declared_batch, setting.batch_size
    sizes = [size if target == -1 else target for size, target in zip(own, wanted, strict=True)]
    for axis, (size, target) in enumerate(zip(own, wanted, strict=True)):
        fixed = declared is not None and declared != batch and target == declared
        if fixed and (size == batch or (setting.relaxing and size == 1 and axis == 0)):
            setting.relaxed(arguments.call.node, f"its size {tuple(wanted)} fixes the batch size to {declared}")
            sizes[axis] = batch
    return sizes


def expand_as(arguments: Arguments) -> Result:
    return broadcast(arguments.cells("self"), arguments.operand("other").shape)


def repeat(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    times = arguments.integers("repeats" if arguments.has("repeats") else "dims") or ()
    rank = max(cells.rank, len(times))
    times = (1,) * (rank - len(times)) + times
    setting = arguments.call.setting
    declared = setting.declared_batch
    cells = reshaped(cells, (1,) * (rank - cells.rank) + cells.shape)
    if setting.relaxing and rank and times[0] == declared != setting.batch_size and cells.shape[0] == 1:
        setting.relaxed(arguments.call.node, f"its repeats {times} fix the batch size to {declared}")
        times = (setting.batch_size, *times[1:])
    for axis, count in enumerate(times):
        cells = tiled(cells, axis, count) if count else sliced(cells, axis, 0, 1, 0)
    return cells


def roll(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    shifts, dims = arguments.integers("shifts") or (), arguments.integers("dims")
    if not dims:
        flat = reshaped(cells, (math.prod(cells.shape),))
        return reshaped(_rolled(flat, 0, shifts[0]), cells.shape)
    for axis, shift in zip(dims, shifts, strict=True):
        cells = _rolled(cells, axis_of(axis, cells.rank), shift)
    return cells


def _rolled(cells: Cells, axis: int, shift: int) -> Cells:
    size = cells.shape[axis]
    return taken(cells, axis, (np.arange(size) - shift) % size) if size and shift % size else cells


def flip(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    axes = arguments.integers("dims")
    axes = {"aten.fliplr": (1,), "aten.flipud": (0,)}.get(arguments.op, axes or ())
    for axis in axes:
        at = axis_of(axis, cells.rank)
        cells = sliced(cells, at, cells.shape[at] - 1, -1, cells.shape[at]) if cells.shape[at] > 1 else cells
    return cells


def rot90(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    one, other = (axis_of(axis, cells.rank) for axis in arguments.integers("dims") or (0, 1))
    for _ in range(arguments.integer("k", 1) % 4):
        turned = swapped(cells, one, other)
        cells = sliced(turned, one, turned.shape[one] - 1, -1, turned.shape[one]) if turned.shape[one] > 1 else turned
    return cells


def pixel_shuffle(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    *lead, c, h, w = cells.shape
    r, n = arguments.integer("upscale_factor", 1), len(lead)
    opened = reshaped(cells, (*lead, c // r**2, r, r, h, w))
    moved = transposed(opened, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshaped(moved, (*lead, c // r**2, h * r, w * r))


def pixel_unshuffle(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    *lead, c, h, w = cells.shape
    r, n = arguments.integer("downscale_factor", 1), len(lead)
    opened = reshaped(cells, (*lead, c, h // r, r, w // r, r))
    moved = transposed(opened, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshaped(moved, (*lead, c * r**2, h // r, w // r))


def channel_shuffle(arguments: Arguments) -> Result:
    cells = arguments.cells("self")
    n, c, *rest = cells.shape
    groups = arguments.integer("groups", 1)
    opened = reshaped(cells, (n, groups, c // groups, *rest))
    return reshaped(swapped(opened, 1, 2), cells.shape)


def unfold(arguments: Arguments) -> Result:
    """Windows along one axis, their elements along a new last axis."""
    cells = arguments.cells("self")
    axis = arguments.axis("dimension", 0, cells.rank)
    size, step = arguments.integer("size", 1), arguments.integer("step", 1)
    starts = np.arange((cells.shape[axis] - size) // step + 1)[:, None] * step
    windows = taken(cells, axis, starts + np.arange(size))
    order = [at for at in range(windows.rank) if at != axis + 1]
    return transposed(windows, [*order, axis + 1])


def as_strided(arguments: Arguments) -> Result:
    """The elements in the order of the memory, where operand and result both fill it."""
    cells = arguments.cells("self")
    order = arguments.integers("input_order")
    sizes, strides = arguments.integers("size") or (), arguments.integers("stride") or ()
    if order is None or arguments.integer("storage_offset", 0) or len(order) != cells.rank:
        raise UndecidableError("where its elements lie in memory is not recorded")
    axes = sorted(range(len(sizes)), key=lambda axis: (-strides[axis], axis))
    expected = 1
    for axis in reversed(axes):
        if sizes[axis] != 1 and strides[axis] != expected:
            raise UndecidableError("its result does not fill its memory")
        expected *= sizes[axis]
    stored = reshaped(transposed(cells, order), sizes_of(arguments, cells.shape, [sizes[axis] for axis in axes]))
    return transposed(stored, [axes.index(axis) for axis in range(len(sizes))])


def atleast(arguments: Arguments) -> Result:
    cells = as_cells(arguments.operand("self"))
    rank = {"aten.atleast_1d": 1, "aten.atleast_2d": 2}.get(arguments.op, 3)
    if rank == 3 and cells.rank == 2:
        return reshaped(cells, (*cells.shape, 1))
    if rank == 3 and cells.rank == 1:
        return reshaped(cells, (1, *cells.shape, 1))
    return reshaped(cells, (1,) * max(0, rank - cells.rank) + cells.shape)


TABLE: Table = rows(
    ("view.default _unsafe_view.default reshape.default view_copy.default", view),
    ("_reshape_alias.default _reshape_copy.default", view),
    ("view_as.default reshape_as.default", view_as),
    ("flatten.using_ints ravel.default", flatten),
    ("unflatten.int", unflatten),
    ("squeeze.default squeeze.dim squeeze.dims squeeze_copy.default squeeze_copy.dim squeeze_copy.dims", squeeze),
    ("unsqueeze.default unsqueeze_copy.default", unsqueeze),
    ("transpose.int transpose_copy.int swapaxes.default swapdims.default mT.default adjoint.default mH.default", swap),
    ("t.default t_copy.default numpy_T.default", reverse_axes),
    ("permute.default permute_copy.default", permute),
    ("movedim.int movedim.intlist moveaxis.int moveaxis.intlist", move_axes),
    ("expand.default expand_copy.default broadcast_to.default", expand),
    ("expand_as.default", expand_as),
    ("repeat.default tile.default", repeat),
    ("roll.default", roll),
    ("flip.default fliplr.default flipud.default", flip),
    ("rot90.default", rot90),
    ("pixel_shuffle.default", pixel_shuffle),
    ("pixel_unshuffle.default", pixel_unshuffle),
    ("channel_shuffle.default native_channel_shuffle.default", channel_shuffle),
    ("unfold.default unfold_copy.default", unfold),
    ("as_strided.default as_strided_copy.default", as_strided),
    ("atleast_1d.default atleast_2d.default atleast_3d.default", atleast),
)
