"""ONNX operators on constants that rearrange or reduce them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bn_audit.flow.algebra import broadcast_shape
from bn_audit.flow.call import Call, Evaluator
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.constants import MAX_COPIED, Array, small, thinned
from bn_audit.flow.movement import axis_of
from bn_audit.flow.onnx_operators.arithmetic import TYPES, spread
from bn_audit.flow.onnx_operators.shaping import axes_of, even_sizes, reshape_target


def reshape(call: Call, arrays: list[Array]) -> Array:
    target = [int(n) for n in arrays[1].reshape(-1)] if len(arrays) > 1 else list(call.integers("shape") or ())
    if thinned(arrays[0]).size == 1:
        return np.broadcast_to(thinned(arrays[0]).reshape(()), reshape_target(call, arrays[0].shape, target))
    return small(arrays[0]).reshape(reshape_target(call, arrays[0].shape, target))


def flatten(call: Call, arrays: list[Array]) -> Array:
    axis = call.integer("axis", 1)
    axis = axis + arrays[0].ndim if axis < 0 else axis
    return small(arrays[0]).reshape(math.prod(arrays[0].shape[:axis]), -1)


def squeeze(call: Call, arrays: list[Array]) -> Array:
    axes = axes_of(call, 1, arrays[0].ndim)
    return np.squeeze(arrays[0], axis=axes)


def unsqueeze(call: Call, arrays: list[Array]) -> Array:
    axes = call.integers("axes")
    return np.expand_dims(arrays[0], axes if axes is not None else call.whole(1))


def transpose(call: Call, arrays: list[Array]) -> Array:
    return np.transpose(arrays[0], call.integers("perm"))


def expand(call: Call, arrays: list[Array]) -> Array:
    return np.broadcast_to(arrays[0], broadcast_shape([arrays[0].shape, call.whole(1)]))


def tile(call: Call, arrays: list[Array]) -> Array:
    repeats = call.whole(1)
    if all(size == 1 for size, times in zip(thinned(arrays[0]).shape, repeats, strict=True) if times != 1):
        shape = tuple(n * times for n, times in zip(arrays[0].shape, repeats, strict=True))
        return np.broadcast_to(thinned(arrays[0]), shape)
    if math.prod(repeats) * arrays[0].size > MAX_COPIED:
        raise UndecidableError("too many elements")
    return np.tile(arrays[0], repeats)


def concat(call: Call, arrays: list[Array]) -> Array:
    if sum(array.size for array in arrays) > MAX_COPIED:
        raise UndecidableError("too many elements")
    return np.concatenate(arrays, axis=axis_of(call.integer("axis", 1 if call.version < 4 else 0), arrays[0].ndim))


def slice_(call: Call, arrays: list[Array]) -> Array:
    old = call.version < 10 and call.attribute("starts") is not None
    starts = (call.integers("starts") or ()) if old else call.whole(1)
    ends = (call.integers("ends") or ()) if old else call.whole(2)
    axes = (call.integers("axes") if old else call.whole(3) if call.has(3) else None) or tuple(range(len(starts)))
    steps = (1,) * len(starts) if old or not call.has(4) else call.whole(4)
    array = arrays[0]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = None if step < 0 and end <= -(2**31) + 1 else end
        array = array[(slice(None),) * axis_of(axis, array.ndim) + (slice(start, stop, step),)]
    return array


def split(call: Call, arrays: list[Array]) -> tuple[Array, ...]:
    axis = axis_of(call.integer("axis", 0), arrays[0].ndim)
    sizes = call.integers("split") or (call.whole(1) if call.has(1) else None)
    sizes = sizes or even_sizes(arrays[0].shape[axis], len(call.node.outputs))
    return tuple(np.split(arrays[0], np.cumsum(sizes)[:-1], axis=axis))


def gather(call: Call, arrays: list[Array]) -> Array:
    return np.take(arrays[0], arrays[1].astype(np.int64), axis=axis_of(call.integer("axis", 0), arrays[0].ndim))


def shape(call: Call, arrays: list[Array]) -> Array:
    sizes = arrays[0].shape
    return np.array(sizes[slice(call.integer("start", 0), call.integer("end", len(sizes)))], np.int64)


def size(_: Call, arrays: list[Array]) -> Array:
    return np.array(arrays[0].size, np.int64)


def constant_of_shape(call: Call, arrays: list[Array]) -> Array:
    value = call.tensor("value")
    fill = np.zeros(1, np.float32) if value is None else value.values()
    if fill is None:
        raise UndecidableError("its value cannot be read")
    return np.broadcast_to(fill.reshape(()), tuple(int(n) for n in arrays[0].reshape(-1)))


def range_(_: Call, arrays: list[Array]) -> Array:
    start, limit, step = (array.reshape(-1)[0] for array in arrays)
    if step == 0 or (limit - start) / step > MAX_COPIED:
        raise UndecidableError("too many elements")
    return np.arange(start, limit, step, dtype=arrays[0].dtype)


def constant(call: Call, _: list[Array]) -> Array:
    for name, kind in (("value_int", np.int64), ("value_float", np.float32)):
        if call.attribute(name) is not None:
            return np.array(call.attribute(name), kind)
    for name, kind in (("value_ints", np.int64), ("value_floats", np.float32)):
        if call.attribute(name) is not None:
            return np.array(call.attribute(name), kind).reshape(-1)
    raise UndecidableError("a constant without a value that is followed")


def non_zero(_: Call, arrays: list[Array]) -> Array:
    return np.array(np.nonzero(small(arrays[0])), np.int64)


def cumulative(call: Call, arrays: list[Array]) -> Array:
    axis = axis_of(int(arrays[1].reshape(-1)[0]), arrays[0].ndim)
    thin = thinned(arrays[0])
    if thin.shape[axis] != arrays[0].shape[axis]:
        thin = np.repeat(thin, arrays[0].shape[axis], axis=axis)
    turned = np.flip(thin, axis) if call.integer("reverse", 0) else thin
    total = np.cumsum(turned, axis=axis, dtype=turned.dtype)
    if call.integer("exclusive", 0):
        total = total - turned
    return spread(np.flip(total, axis) if call.integer("reverse", 0) else total, arrays[0].shape)


def reduce(function: Callable[..., Array]) -> Evaluator:
    """Return an evaluator that reduces axes."""

    def evaluate(call: Call, arrays: list[Array]) -> Array:
        axes = axes_of(call, 1, arrays[0].ndim)
        if not axes:
            if axes is not None and call.integer("noop_with_empty_axes", 0):
                return arrays[0]
            axes = tuple(range(arrays[0].ndim))
        result = function(small(arrays[0]), axis=axes, keepdims=bool(call.integer("keepdims", 1)))
        return np.asarray(result, arrays[0].dtype)

    return evaluate


def one_hot(call: Call, arrays: list[Array]) -> Array:
    depth = int(arrays[1].reshape(-1)[0])
    axis = call.integer("axis", -1)
    if depth * arrays[0].size > MAX_COPIED:
        raise UndecidableError("too many elements")
    places = np.expand_dims(arrays[0].astype(np.int64) % max(depth, 1), axis)
    steps = np.arange(depth).reshape([-1 if a == axis % places.ndim else 1 for a in range(places.ndim)])
    return np.asarray(np.where(places == steps, arrays[2][1], arrays[2][0]))


def trilu(call: Call, arrays: list[Array]) -> Array:
    offset = int(arrays[1].reshape(-1)[0]) if len(arrays) > 1 else 0
    cut = np.triu if call.integer("upper", 1) else np.tril
    return np.asarray(cut(small(arrays[0]), offset))


def eye_like(call: Call, arrays: list[Array]) -> Array:
    rows, columns = arrays[0].shape
    if rows * columns > MAX_COPIED:
        raise UndecidableError("too many elements")
    kind = TYPES.get(call.integer("dtype", 0), arrays[0].dtype)
    return np.eye(rows, columns, call.integer("k", 0), dtype=kind)


def matmul(_: Call, arrays: list[Array]) -> Array:
    if arrays[0].size * arrays[1].shape[-1] > MAX_COPIED << 4:
        raise UndecidableError("too many products")
    return np.asarray(np.matmul(small(arrays[0]), small(arrays[1])))


def gather_elements(call: Call, arrays: list[Array]) -> Array:
    axis = axis_of(call.integer("axis", 0), arrays[0].ndim)
    return gathered(small(arrays[0]), small(arrays[1]), axis)


def gathered(table: Array, indices: Array, axis: int) -> Array:
    """Return the elements of `table` at indices along an axis; the other axes of the indices may be shorter."""
    window = tuple(slice(None) if a == axis else slice(0, n) for a, n in enumerate(indices.shape))
    places = np.where(indices < 0, indices + table.shape[axis], indices)
    return np.take_along_axis(table[window], places, axis)


def gather_nd(call: Call, arrays: list[Array]) -> Array:
    if call.integer("batch_dims", 0):
        raise UndecidableError("batch axes are not computed")
    return np.asarray(small(arrays[0])[tuple(np.moveaxis(small(arrays[1]), -1, 0))])


def scatter_elements(call: Call, arrays: list[Array]) -> Array:
    if call.text("reduction", "none") != "none":
        raise UndecidableError("a reduction is not computed")
    axis = axis_of(call.integer("axis", 0), arrays[0].ndim)
    result = small(arrays[0]).copy()
    grid: list[Array] = list(np.indices(small(arrays[1]).shape, sparse=True))
    grid[axis] = arrays[1]
    result[tuple(grid)] = arrays[2]
    return result


def scatter_nd(call: Call, arrays: list[Array]) -> Array:
    if call.text("reduction", "none") != "none":
        raise UndecidableError("a reduction is not computed")
    result = small(arrays[0]).copy()
    result[tuple(np.moveaxis(small(arrays[1]), -1, 0))] = arrays[2]
    return result


def einsum(call: Call, arrays: list[Array]) -> Array:
    equation = call.text("equation", "").replace(" ", "")
    letters = {
        letter: size
        for term, a in zip(equation.split("->")[0].split(","), arrays, strict=True)
        for letter, size in zip(term, a.shape, strict=False)
    }
    if "." in equation or math.prod(letters.values()) > MAX_COPIED:
        raise UndecidableError("too many products")
    return np.asarray(np.einsum(equation, *arrays))


TABLE: dict[str, Evaluator] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Slice": slice_,
    "Split": split,
    "Gather": gather,
    "Shape": shape,
    "Size": size,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Range": range_,
    "NonZero": non_zero,
    "CumSum": cumulative,
    "ReduceSum": reduce(np.sum),
    "ReduceProd": reduce(np.prod),
    "ReduceMax": reduce(np.max),
    "ReduceMin": reduce(np.min),
    "ReduceMean": reduce(np.mean),
    "OneHot": one_hot,
    "Trilu": trilu,
    "EyeLike": eye_like,
    "MatMul": matmul,
    "Einsum": einsum,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
}
