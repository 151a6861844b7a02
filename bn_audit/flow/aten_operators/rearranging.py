"""ATen operators on constants that make, rearrange or reduce them."""

from __future__ import annotations

import math

import numpy as np

from bn_audit.flow.aten_operators.arguments import Arguments, Computation, computed
from bn_audit.flow.aten_operators.shaping import opened_sizes, sizes_of
from bn_audit.flow.aten_operators.splitting import bounds, equal_parts, place_of
from bn_audit.flow.cells import ShapeConflictError, UndecidableError
from bn_audit.flow.constants import MAX_COPIED, Array, small, thinned
from bn_audit.flow.movement import axis_of
from bn_audit.flow.values import known


def view(arguments: Arguments) -> Array:
    array = arguments.array("self")
    wanted = arguments.integers("size" if arguments.has("size") else "shape") or ()
    target = sizes_of(arguments, array.shape, wanted)
    if math.prod(target) != array.size:
        raise ShapeConflictError(f"{array.shape} has not as many elements as {target}")
    if target == array.shape:
        return array
    if thinned(array).size == 1:
        return np.broadcast_to(thinned(array).reshape(()), target)
    return small(array).reshape(target)


def flatten(arguments: Arguments) -> Array:
    array = small(arguments.array("self"))
    start, end = arguments.axis("start_dim", 0, array.ndim), arguments.axis("end_dim", -1, array.ndim)
    return array.reshape(*array.shape[:start], -1, *array.shape[end + 1 :]) if array.ndim else array.reshape(1)


def unsqueeze(arguments: Arguments) -> Array:
    array = arguments.array("self")
    return np.expand_dims(array, arguments.axis("dim", 0, array.ndim + 1))


def squeeze(arguments: Arguments) -> Array:
    array = arguments.array("self")
    given = arguments.integers("dim")
    axes = range(array.ndim) if given is None else [axis_of(axis, array.ndim) for axis in given]
    return np.squeeze(array, axis=tuple(axis for axis in axes if axis < array.ndim and array.shape[axis] == 1))


def swap(arguments: Arguments) -> Array:
    array = arguments.array("self")
    return np.swapaxes(array, arguments.integer("dim0", -1), arguments.integer("dim1", -2)) if array.ndim else array


def permute(arguments: Arguments) -> Array:
    return np.transpose(arguments.array("self"), arguments.integers("dims"))


def expand(arguments: Arguments) -> Array:
    array = arguments.array("self")
    wanted = arguments.integers("size") or ()
    own = (1,) * (len(wanted) - array.ndim) + array.shape
    return np.broadcast_to(array, tuple(opened_sizes(arguments, own, wanted)))


def expand_as(arguments: Arguments) -> Array:
    return np.broadcast_to(arguments.array("self"), arguments.operand("other").shape)


def repeat(arguments: Arguments) -> Array:
    array = arguments.array("self")
    times = arguments.integers("repeats" if arguments.has("repeats") else "dims") or ()
    if math.prod(times) * array.size > MAX_COPIED:
        raise UndecidableError("too many elements")
    return np.tile(array, times)


def cat(arguments: Arguments) -> Array:
    arrays = [array for array in arguments.arrays("tensors") if array.shape != (0,)] or arguments.arrays("tensors")[:1]
    small(np.broadcast_to(0, (sum(array.size for array in arrays),)))
    return np.concatenate(arrays, axis=arguments.integer("dim", 0))


def stack(arguments: Arguments) -> Array:
    arrays = arguments.arrays("tensors")
    small(np.broadcast_to(0, (sum(array.size for array in arrays),)))
    return np.stack(arrays, axis=arguments.integer("dim", 0))


def slice_(arguments: Arguments) -> Array:
    array = arguments.array("self")
    axis = arguments.axis("dim", 0, array.ndim)
    first, step, count = bounds(arguments, array.shape[axis])
    return array[(*(slice(None),) * axis, slice(first, first + step * count, step))]


def select(arguments: Arguments) -> Array:
    array = arguments.array("self")
    axis = arguments.axis("dim", 0, array.ndim)
    return np.asarray(np.take(array, place_of(arguments, array.shape[axis]), axis=axis))


def parts(arguments: Arguments, sizes: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """Return consecutive parts along an axis."""
    array = arguments.array("self")
    if sum(sizes) != array.shape[axis] or len(sizes) != len(arguments.call.node.outputs):
        raise ShapeConflictError(f"an axis of {array.shape[axis]} in parts of {sizes}")
    return tuple(np.split(array, np.cumsum(sizes)[:-1], axis=axis))


def split(arguments: Arguments) -> tuple[Array, ...]:
    array = arguments.array("self")
    axis = arguments.axis("dim", 0, array.ndim)
    name = "split_sizes" if arguments.has("split_sizes") else "split_size"
    sizes = arguments.integers(name) or (1,)
    each = sizes if isinstance(arguments.raw(name), tuple) else equal_parts(array.shape[axis], sizes[0])
    return parts(arguments, each, axis)


def chunk(arguments: Arguments) -> tuple[Array, ...]:
    array = arguments.array("self")
    axis = arguments.axis("dim", 0, array.ndim)
    each = -(-array.shape[axis] // max(arguments.integer("chunks", 1), 1))
    return parts(arguments, equal_parts(array.shape[axis], each), axis)


def unbind(arguments: Arguments) -> tuple[Array, ...]:
    array = arguments.array("self")
    axis = arguments.axis("dim", 0, array.ndim)
    pieces = parts(arguments, (1,) * array.shape[axis], axis)
    return tuple(np.squeeze(piece, axis=axis) for piece in pieces)


def index(arguments: Arguments) -> Array:
    array = arguments.array("self")
    places = tuple(slice(None) if value is None else known(value) for value in arguments.listed("indices"))
    return small(np.asarray(array[places]))


def index_select(arguments: Arguments) -> Array:
    array = arguments.array("self")
    return np.take(array, arguments.array("index").astype(np.int64), axis=arguments.axis("dim", 0, array.ndim))


def embedding(arguments: Arguments) -> Array:
    return np.take(arguments.array("weight"), arguments.array("indices").astype(np.int64), axis=0)


def gather(arguments: Arguments) -> Array:
    array = arguments.array("self")
    return np.take_along_axis(
        array, arguments.array("index").astype(np.int64), axis=arguments.axis("dim", 0, array.ndim)
    )


def flip(arguments: Arguments) -> Array:
    return np.flip(arguments.array("self"), arguments.integers("dims"))


def roll(arguments: Arguments) -> Array:
    return np.roll(
        small(arguments.array("self")), arguments.integers("shifts") or (0,), arguments.integers("dims") or None
    )


def put_slice(arguments: Arguments) -> Array:
    array = np.array(small(arguments.array("self")))
    axis = arguments.axis("dim", 0, array.ndim)
    moved = np.moveaxis(array, axis, 0)
    if arguments.op == "aten.select_scatter":
        moved[place_of(arguments, array.shape[axis])] = arguments.array("src")
    else:
        first, step, count = bounds(arguments, array.shape[axis])
        moved[first : first + step * count : step] = np.moveaxis(arguments.array("src"), axis, 0)
    return array


TABLE: dict[str, Computation] = computed(
    ("view.default _unsafe_view.default reshape.default view_copy.default _reshape_alias.default", view),
    ("flatten.using_ints", flatten),
    ("unsqueeze.default unsqueeze_copy.default", unsqueeze),
    ("squeeze.default squeeze.dim squeeze.dims squeeze_copy.dims", squeeze),
    ("transpose.int t.default mT.default transpose_copy.int", swap),
    ("permute.default permute_copy.default", permute),
    ("expand.default expand_copy.default broadcast_to.default", expand),
    ("expand_as.default", expand_as),
    ("repeat.default tile.default", repeat),
    ("cat.default concat.default concatenate.default", cat),
    ("stack.default", stack),
    ("slice.Tensor slice_copy.Tensor", slice_),
    ("select.int select_copy.int", select),
    ("split.Tensor split_with_sizes.default split.sizes split_with_sizes_copy.default", split),
    ("chunk.default", chunk),
    ("unbind.int", unbind),
    ("index.Tensor", index),
    ("index_select.default", index_select),
    ("embedding.default", embedding),
    ("gather.default", gather),
    ("flip.default", flip),
    ("roll.default", roll),
    ("select_scatter.default slice_scatter.default", put_slice),
)
