"""ONNX operators on images and signals: resampling, regions, transforms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import as_cells, pointwise
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import EACH, LINE, SAME, Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.joining import padded
from bn_audit.flow.lookup import any_of, looked_up
from bn_audit.flow.movement import axis_of, reshaped, sliced, taken
from bn_audit.flow.onnx_operators.indexing import by_data, indices_at
from bn_audit.flow.onnx_operators.reducing import spread_line
from bn_audit.flow.reduction import reduced
from bn_audit.flow.tokens import mixed, token


def resampled(seed: object, cells: Cells, axis: int, count: int) -> Cells:
    """Return an axis along which every element is computed from some of the old ones."""
    if cells.shape[axis] == count:
        return cells
    if cells.kinds[axis] == EACH:
        whole = reduced(cells, (axis,), seed, ordered=True)
        return spread_line(any_of(whole, (), seed), axis, count, seed)
    by = token("resample", seed, cells.lines_before(axis), cells.shape[axis], count)
    kind = SAME if count == 1 or cells.kinds[axis] == SAME else LINE
    return replace(
        cells,
        shape=(*cells.shape[:axis], count, *cells.shape[axis + 1 :]),
        kinds=(*cells.kinds[:axis], kind, *cells.kinds[axis + 1 :]),
        forms=cells.forms if kind == cells.kinds[axis] == SAME else mixed(cells.forms, by),
    )


def resize(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    sizes = _resized(call, cells)
    for axis, size in enumerate(sizes):
        if size != cells.shape[axis]:
            cells = _resized_axis(call, cells, axis, size)
    return cells


def _resized_axis(call: Call, cells: Cells, axis: int, size: int) -> Cells:
    plain = (
        call.text("mode", "nearest") == "nearest" and call.text("coordinate_transformation_mode", "") == "asymmetric"
    )
    if (
        cells.kinds[axis] == EACH
        and plain
        and size % cells.shape[axis] == 0
        and call.text("nearest_mode", "") == "floor"
    ):
        return taken(cells, axis, np.arange(size) // (size // cells.shape[axis]))
    if cells.kinds[axis] == EACH:
        raise UndecidableError("it resizes an axis along which samples lie")
    return resampled((call.seed,), cells, axis, size)


def _resized(call: Call, cells: Cells) -> tuple[int, ...]:
    """Return the sizes that Resize and Upsample give, from sizes or from scales."""
    axes = call.integers("axes") or tuple(range(cells.rank))
    axes = tuple(axis_of(axis, cells.rank) for axis in axes)
    result = list(cells.shape)
    given = call.attribute("scales")
    scales = None
    if isinstance(given, tuple):
        scales = [float(s) for s in given if isinstance(s, int | float)]
    elif call.node.op == "Upsample" or call.version == 10:
        scales = [float(s) for s in call.known(1)]
    elif call.has(3):
        targets = call.whole(3)
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            choose = min if policy == "not_larger" else max
            scale = choose(size / max(cells.shape[axis], 1) for axis, size in zip(axes, targets, strict=True))
            targets = tuple(math.floor(scale * cells.shape[axis] + 0.5) for axis in axes)
        for axis, size in zip(axes, targets, strict=True):
            result[axis] = size
        return tuple(result)
    elif call.has(2):
        scales = [float(s) for s in call.known(2)]
    if scales is None or len(scales) != len(axes):
        raise ShapeConflictError("its scales do not fit the axes")
    for axis, scale in zip(axes, scales, strict=True):
        result[axis] = math.floor(cells.shape[axis] * scale + 1e-6)
    return tuple(result)


def grid_sample(call: Call) -> Result:
    """X (N, C, ...) sampled at a grid (N, ..., axes)."""
    cells, grid = as_cells(call.operand(0)), as_cells(call.operand(1))
    count = cells.rank - 2
    inner = any_of(cells, tuple(range(2, cells.rank)), (call.seed, "image"))
    points = reduced(grid, (grid.rank - 1,), (call.seed, "points"), keep=False, ordered=True)
    points = reshaped(points, (points.shape[0], 1, *points.shape[1:]))
    result = pointwise(call.seed, [inner, points])
    return result if count else inner


def regions(call: Call) -> Result:
    """RoiAlign: X (N, C, H, W), regions (R, 4) and the image of each (R,) give (R, C, h, w)."""
    cells, boxes = as_cells(call.operand(0)), as_cells(call.operand(1))
    height, width = call.integer("output_height", 1), call.integer("output_width", 1)
    if call.node.op == "MaxRoiPool":
        height, width = call.integers("pooled_shape") or (1, 1)
    inner = reduced(cells, (2, 3), (call.seed, "image"), ordered=True)
    box = reduced(boxes, (1,), (call.seed, "box"), keep=False, ordered=True)
    box = reshaped(box, (box.shape[0], 1, 1, 1))
    if call.has(2) and call.node.op == "RoiAlign":
        known = indices_at(call, 2)
        images = taken(inner, 0, known) if known is not None else looked_up("Gather", inner, 0, call.operand(2))
    else:
        images = any_of(inner, (0,), "region")
    result = pointwise(call.seed, [images, box])
    return spread_line(spread_line(result, 2, height, call.seed), 3, width, call.seed)


def affine_grid(call: Call) -> Result:
    theta, size = as_cells(call.operand(0)), call.whole(1)
    one = reduced(theta, (1, 2), call.seed, ordered=True)
    one = reshaped(one, (theta.shape[0], *(1,) * (len(size) - 1)))
    for axis, count in enumerate((*size[2:], len(size) - 2), start=1):
        one = spread_line(one, axis, count, call.seed)
    return one


def columns_to_image(call: Call) -> Result:
    """Col2Im: (N, C * taps, places) gives (N, C, ...), each element a sum of some."""
    cells = as_cells(call.operand(0))
    image, block = call.whole(1), call.whole(2)
    channels = cells.shape[1] // max(1, math.prod(block))
    apart = reshaped(cells, (cells.shape[0], channels, math.prod(block), cells.shape[2]))
    if EACH in apart.kinds[2:]:
        raise UndecidableError("it adds up columns of several samples")
    whole = reduced(apart, (2, 3), (call.seed, image, block), ordered=True)
    result = reshaped(whole, (cells.shape[0], channels, *(1,) * len(image)))
    for axis, size in enumerate(image, start=2):
        result = spread_line(result, axis, size, call.seed)
    return result


def centre_crop_pad(call: Call) -> Result:
    cells, target = as_cells(call.operand(0)), call.whole(1)
    axes = call.integers("axes") or tuple(range(cells.rank))
    zero = call.constant(np.zeros((), np.float32)).cells()
    for axis, size in zip((axis_of(a, cells.rank) for a in axes), target, strict=True):
        have = cells.shape[axis]
        if size < have:
            cells = sliced(cells, axis, (have - size) // 2, 1, size)
        elif size > have:
            front = (size - have) // 2
            cells = padded(cells, axis, front, size - have - front, fill=zero, mode="constant")
    return cells


def max_unpool(call: Call) -> Result:
    """Each value goes back to the place in its own map that its index names, others are zero."""
    cells, places = as_cells(call.operand(0)), as_cells(call.operand(1))
    if EACH in cells.kinds[2:]:
        raise UndecidableError("samples lie along an axis that it unpools")
    taps, strides = call.integers("kernel_shape") or (), call.integers("strides")
    pads = call.integers("pads") or (0,) * 2 * len(taps)
    inner = tuple(range(2, cells.rank))
    sizes = [
        (n - 1) * (strides[i] if strides else 1) + tap - pads[i] - pads[i + len(taps)]
        for i, (n, tap) in enumerate(zip(cells.shape[2:], taps, strict=True))
    ]
    if call.has(2):
        sizes = list(call.whole(2))[2:]
    result = reduced(pointwise(call.seed, [cells, places]), inner, call.seed, ordered=True)
    for axis, size in zip(inner, sizes, strict=True):
        result = spread_line(result, axis, size, call.seed)
    return result


def fourier(call: Call) -> Result:
    """DFT: every element along an axis is computed from all along it."""
    cells = as_cells(call.operand(0))
    axis = axis_of(
        call.whole(2)[0] if call.has(2) else call.integer("axis", 1 if call.version < 20 else -2), cells.rank
    )
    one_sided, inverse = bool(call.integer("onesided", 0)), bool(call.integer("inverse", 0))
    back = one_sided and inverse
    length = call.whole(1)[0] if call.has(1) else 2 * (cells.shape[axis] - 1) if back else cells.shape[axis]
    if one_sided and not inverse:
        length = length // 2 + 1
    whole = reduced(cells, (axis, cells.rank - 1), call.seed, ordered=True)
    return spread_line(spread_line(whole, axis, length, call.seed), cells.rank - 1, 1 if back else 2, call.seed)


def short_fourier(call: Call) -> Result:
    """STFT: signal (B, length, 1 or 2) gives (B, frames, bins, 2)."""
    cells = as_cells(call.operand(0))
    step = call.whole(1)[0]
    size = call.whole(3)[0] if call.has(3) else call.operand(2).shape[0]
    frames = 1 + (cells.shape[1] - size) // max(step, 1)
    bins = size // 2 + 1 if call.integer("onesided", 1) else size
    whole = reduced(cells, (1, 2), (call.seed, step, size), ordered=True)
    result = reshaped(whole, (cells.shape[0], 1, 1, 1))
    for axis, count in enumerate((frames, bins, 2), start=1):
        result = spread_line(result, axis, count, call.seed)
    return result


def deformable(call: Call) -> Result:
    """DeformConv: each place reads its image wherever the offsets of the same sample say."""
    cells, weight, offset = as_cells(call.operand(0)), call.operand(1), as_cells(call.operand(2))
    whole = reduced(cells, (1, 2, 3), (call.seed, "image"), ordered=True)
    moves = reduced(offset, (1, 2, 3), (call.seed, "offset"), ordered=True)
    kernel = reduced(weight, range(len(weight.shape)), (call.seed, "weight"), keep=False)
    parts = [whole, moves, kernel]
    for index in (3, 4):
        if call.has(index):
            given = call.operand(index)
            first = 1 if len(given.shape) == 4 else 0
            rest = reduced(given, range(first, len(given.shape)), (call.seed, index), ordered=True)
            parts.append(rest if first else reshaped(rest, ()))
    result = pointwise(call.seed, parts)
    for axis, count in enumerate((weight.shape[0], *offset.shape[2:]), start=1):
        result = spread_line(result, axis, count, call.seed)
    return result


TABLE: dict[str, Handler] = {
    "Resize": resize,
    "Upsample": resize,
    "GridSample": grid_sample,
    "RoiAlign": regions,
    "MaxRoiPool": regions,
    "AffineGrid": affine_grid,
    "Col2Im": columns_to_image,
    "CenterCropPad": centre_crop_pad,
    "MaxUnpool": max_unpool,
    "DFT": fourier,
    "STFT": short_fourier,
    "DeformConv": deformable,
    "NonMaxSuppression": by_data,
}
