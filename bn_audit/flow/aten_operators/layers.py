"""ATen operators that slide windows: convolutions, pooling, resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import Operand, added, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.aten_operators.reducing import spread_along
from bn_audit.flow.call import Result
from bn_audit.flow.cells import EACH, LINE, SAME, Cells, ShapeConflictError, UndecidableError, at_most, certain_of_all
from bn_audit.flow.constants import Constant
from bn_audit.flow.joining import padded
from bn_audit.flow.movement import reshaped, squeezed, taken, transposed
from bn_audit.flow.reduction import reduced
from bn_audit.flow.tokens import mixed, token
from bn_audit.flow.windows import Window, convolved, pooled, spread


def per_channel(operand: Operand, rank: int) -> Operand:
    """Return an array of shape (C,) as one that broadcasts along the second of `rank` axes."""
    shape = (operand.shape[0] if operand.shape else 1, *(1,) * (rank - 2))
    return operand.reshaped(shape) if isinstance(operand, Constant) else reshaped(operand, shape)


def times(values: Sequence[int] | None, count: int, default: int) -> tuple[int, ...]:
    """Return one setting for each window; a single one holds for all."""
    if not values:
        return (default,) * count
    return tuple(values) if len(values) == count else (values[0],) * count


def zero(arguments: Arguments, value: float = 0.0) -> Cells:
    """Return the cells of what padding holds."""
    return arguments.constant(np.asarray(value, np.float32)).cells()


def convolution(arguments: Arguments) -> Result:
    """Signal (N, C, ...) or without N; weight (O, C / groups, ...), or (C, O / groups, ...) where transposed."""
    signal = arguments.cells("self" if arguments.has("self") else "input")
    weight = arguments.operand("weight")
    count = len(weight.shape) - 2
    lacking = signal.rank == count + 1
    if lacking:
        signal = reshaped(signal, (1, *signal.shape))
    if signal.rank != count + 2:
        raise ShapeConflictError(f"a convolution of {signal.shape} by {weight.shape}")
    is_transposed = "conv_transpose" in arguments.op or arguments.flag("transposed", False)
    result = (_transposed if is_transposed else _convolved)(arguments, signal, weight, count)
    if arguments.has("bias"):
        result = added("add", [result, per_channel(arguments.operand("bias"), result.rank)])
    return squeezed(result, (0,)) if lacking else result


def _convolved(arguments: Arguments, signal: Cells, weight: Operand, count: int) -> Cells:
    strides = times(arguments.integers("stride"), count, 1)
    dilations = times(arguments.integers("dilation"), count, 1)
    rule = arguments.raw("padding")
    pads = times(None if isinstance(rule, str) else arguments.integers("padding"), count, 0)
    windows = []
    for i, tap in enumerate(weight.shape[2:]):
        reach = (tap - 1) * dilations[i] + 1
        # An uneven padding of "same" has the larger half behind.
        around = reach - 1 if rule == "same" else 2 * pads[i]
        places = (signal.shape[2 + i] + around - reach) // strides[i] + 1
        if places < 1:
            raise ShapeConflictError(f"a window of {reach} is larger than an axis of {signal.shape[2 + i]}")
        windows.append(Window(tap, strides[i], dilations[i], around // 2, places))
    groups = arguments.integer("groups", 1)
    return convolved(("conv", pads, rule), signal, weight, windows, groups, zero(arguments))


def _transposed(arguments: Arguments, signal: Cells, weight: Operand, count: int) -> Cells:
    strides = times(arguments.integers("stride"), count, 1)
    dilations, pads = times(arguments.integers("dilation"), count, 1), times(arguments.integers("padding"), count, 0)
    extra, groups = times(arguments.integers("output_padding"), count, 0), arguments.integer("groups", 1)
    if signal.shape[1] != weight.shape[0]:
        raise ShapeConflictError(f"a transposed convolution of {signal.shape} by {weight.shape}")
    sizes = [
        strides[i] * (signal.shape[2 + i] - 1) + extra[i] + (tap - 1) * dilations[i] + 1 - 2 * pads[i]
        for i, tap in enumerate(weight.shape[2:])
    ]
    return spread(arguments.seed, signal, weight, (signal.shape[0], weight.shape[1] * groups, *sizes))


def pool(arguments: Arguments) -> Result:
    """Windows over the last axes; the maximum may come with its place."""
    cells = arguments.cells("self")
    count = int(arguments.op.split("pool")[1][0])
    taps = times(arguments.integers("kernel_size"), count, 1)
    strides = times(arguments.integers("stride") or taps, count, 1)
    dilations, pads = times(arguments.integers("dilation"), count, 1), times(arguments.integers("padding"), count, 0)
    largest = "max_pool" in arguments.op
    ceil = arguments.flag("ceil_mode", False)
    windows = [
        _window(size, taps[i], strides[i], dilations[i], pads[i], ceil=ceil)
        for i, size in enumerate(cells.shape[cells.rank - count :])
    ]
    kind = "max" if largest else "other"
    result = pooled(arguments.seed, cells, windows, kind, zero(arguments, -np.inf if largest else 0.0))
    return (result, pointwise("places", [result], selects=True))[: len(arguments.call.node.outputs)]


def _window(size: int, tap: int, stride: int, dilation: int, pad: int, *, ceil: bool) -> Window:
    reach = (tap - 1) * dilation + 1
    room = size + 2 * pad - reach
    if room < 0:
        raise ShapeConflictError(f"a window of {reach} is larger than an axis of {size}")
    places = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (places - 1) * stride >= size + pad:
        places -= 1
    return Window(tap, stride, dilation, pad, places)


def adaptive_pool(arguments: Arguments) -> Result:
    """Pooling to a given size along the last axes; None in it keeps an axis as it is."""
    cells = arguments.cells("self")
    raw = arguments.raw("output_size")
    targets = raw if isinstance(raw, tuple) else (raw,)
    count = int(arguments.op.split("pool")[1][0])
    wanted = [arguments.integers("output_size") or ()] if None not in targets else []
    sizes = times(wanted[0], count, 1) if wanted else _with_kept(cells, targets, count)
    for place, size in enumerate(sizes):
        axis = cells.rank - count + place
        if size != cells.shape[axis]:
            cells = _adaptive(cells, axis, size, arguments.op)
    return (cells, pointwise("places", [cells], selects=True))[: len(arguments.call.node.outputs)]


def _with_kept(cells: Cells, targets: Sequence[object], count: int) -> tuple[int, ...]:
    own = cells.shape[cells.rank - count :]
    return tuple(target if isinstance(target, int) else size for target, size in zip(targets, own, strict=True))


def _adaptive(cells: Cells, axis: int, size: int, seed: str) -> Cells:
    kind = "max" if "max" in seed else "mean"
    if size == 1:
        return reduced(cells, (axis,), "aten.amax" if kind == "max" else "aten.mean", kind=kind)
    if cells.kinds[axis] != EACH:
        return resized(cells, axis, size, (seed, "adaptive"))
    old = cells.shape[axis]
    starts = [place * old // size for place in range(size)]
    ends = [-(-(place + 1) * old // size) for place in range(size)]
    from bn_audit.flow.joining import concatenated

    parts = [taken(cells, axis, np.arange(s, e)) for s, e in zip(starts, ends, strict=True)]
    return concatenated([reduced(part, (axis,), seed, kind=kind) for part in parts], axis)


def resized(cells: Cells, axis: int, size: int, seed: object) -> Cells:
    """Return the array with another number of elements along an axis without cells, each computed from some."""
    by = token("resize", seed, cells.lines_before(axis), cells.kinds[axis], cells.shape[axis], size)
    kinds = (*cells.kinds[:axis], LINE if size > 1 else SAME, *cells.kinds[axis + 1 :])
    shape = (*cells.shape[:axis], size, *cells.shape[axis + 1 :])
    return replace(cells, shape=shape, kinds=kinds, owners=certain_of_all(cells.owners), forms=mixed(cells.forms, by))


def upsample(arguments: Arguments) -> Result:
    """Resampling of the last axes of (N, C, ...)."""
    cells = arguments.cells("self" if arguments.has("self") else "input")
    sizes = arguments.integers("output_size")
    if sizes is None:
        raw = arguments.raw("scale_factors")
        factors = [float(factor) for factor in raw if isinstance(factor, int | float)] if isinstance(raw, tuple) else []
        sizes = tuple(int(size * factor) for size, factor in zip(cells.shape[2:], factors, strict=True))
    if len(sizes) != cells.rank - 2:
        raise ShapeConflictError(f"{len(sizes)} sizes for {cells.shape}")
    for axis, size in enumerate(sizes, 2):
        if size != cells.shape[axis]:
            cells = _resampled(arguments, cells, axis, size)
    return cells


def _resampled(arguments: Arguments, cells: Cells, axis: int, size: int) -> Cells:
    if cells.kinds[axis] != EACH:
        return resized(cells, axis, size, arguments.seed)
    if arguments.op in {f"aten.upsample_nearest{n}d" for n in (1, 2, 3)}:
        return taken(cells, axis, np.arange(size) * cells.shape[axis] // size)
    whole = spread_along(reduced(cells, (axis,), arguments.seed, ordered=True), axis, size, arguments.seed)
    return replace(whole, owners=at_most(whole.owners))


def sample_grid(arguments: Arguments) -> Result:
    """Elements of (N, C, ...) at places (N, ..., 2 or 3) that the data chooses, within each sample."""
    from bn_audit.flow.lookup import any_of

    cells, grid = arguments.cells("input"), arguments.cells("grid")
    count = grid.shape[-1]
    entry = any_of(cells, tuple(range(2, cells.rank)), arguments.seed)
    places = reduced(grid, (grid.rank - 1,), "place", keep=False, ordered=True)
    places = reshaped(places, (places.shape[0], 1, *places.shape[1:]))
    if len(entry.shape) != count + 2:
        raise ShapeConflictError(f"a grid of {grid.shape} for {cells.shape}")
    return pointwise(arguments.seed, [entry, places])


def affine_grid(arguments: Arguments) -> Result:
    """Places (N, ..., 2 or 3) from matrices (N, 2 or 3, 3 or 4)."""
    theta = arguments.cells("theta")
    sizes = arguments.integers("size") or ()
    result = reduced(theta, (1, 2), arguments.seed, keep=False, ordered=True)
    result = reshaped(result, (theta.shape[0], *(1,) * (len(sizes) - 1)))
    for axis, size in enumerate((*sizes[2:], len(sizes) - 2), 1):
        result = spread_along(result, axis, size, ("grid", axis))
    return result


def unfold_windows(arguments: Arguments) -> Result:
    """``im2col``: (N, C, H, W) as (N, C * taps, places)."""
    cells = arguments.cells("self")
    if cells.rank != 4:
        raise UndecidableError("windows of an image without batch axis are not followed")
    n, c = cells.shape[:2]
    taps = times(arguments.integers("kernel_size"), 2, 1)
    counts = []
    for i, axis in enumerate((2, 4)):
        stride, dilation, pad = (times(arguments.integers(k), 2, 1)[i] for k in ("stride", "dilation", "padding"))
        cells = padded(cells, axis, pad, pad, fill=zero(arguments), mode="constant")
        count = (cells.shape[axis] - (taps[i] - 1) * dilation - 1) // stride + 1
        starts = np.arange(count)[:, None] * stride
        cells = taken(cells, axis, starts + np.arange(taps[i]) * dilation)
        counts.append(count)
    moved = transposed(cells, (0, 1, 3, 5, 2, 4))
    return reshaped(moved, (n, c * taps[0] * taps[1], counts[0] * counts[1]))


def fold_windows(arguments: Arguments) -> Result:
    """``col2im``: windows (N, C * taps, places) added up to (N, C, H, W)."""
    cells = arguments.cells("self")
    if cells.rank != 3 or EACH in cells.kinds[1:]:
        raise UndecidableError("samples lie among the windows that are added up")
    taps = times(arguments.integers("kernel_size"), 2, 1)
    height, width = times(arguments.integers("output_size"), 2, 1)
    whole = reshaped(reduced(cells, (1, 2), arguments.seed, ordered=True), (cells.shape[0], 1, 1, 1))
    for axis, size in enumerate((cells.shape[1] // (taps[0] * taps[1]), height, width), 1):
        whole = spread_along(whole, axis, size, ("fold", axis))
    return replace(whole, owners=certain_of_all(cells.owners.reshape(-1, 1, 1, 1)))


_RESAMPLING = [f"upsample_{kind}{n}d" for kind in ("nearest", "_nearest_exact") for n in (1, 2, 3)] + [
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    *(f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)),
]

TABLE: Table = rows(
    (
        "conv1d.default conv2d.default conv3d.default conv1d.padding conv2d.padding conv3d.padding convolution.default"
        " _convolution.default conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input"
        " mkldnn_convolution.default cudnn_convolution.default _convolution_mode.default"
        " convolution_overrideable.default",
        convolution,
    ),
    (
        "max_pool1d.default max_pool2d.default max_pool3d.default max_pool1d_with_indices.default"
        " max_pool2d_with_indices.default max_pool3d_with_indices.default avg_pool1d.default avg_pool2d.default"
        " avg_pool3d.default",
        pool,
    ),
    (
        "adaptive_avg_pool1d.default adaptive_avg_pool2d.default adaptive_avg_pool3d.default"
        " _adaptive_avg_pool2d.default _adaptive_avg_pool3d.default adaptive_max_pool1d.default"
        " adaptive_max_pool2d.default adaptive_max_pool3d.default",
        adaptive_pool,
    ),
    (" ".join(f"{name}.{overload}" for name in _RESAMPLING for overload in ("default", "vec")), upsample),
    ("grid_sampler.default grid_sampler_2d.default grid_sampler_3d.default", sample_grid),
    ("affine_grid_generator.default", affine_grid),
    ("im2col.default", unfold_windows),
    ("col2im.default", fold_windows),
)
