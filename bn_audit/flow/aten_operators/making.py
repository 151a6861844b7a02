"""ATen operators that make constants, or reduce them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bn_audit.flow.aten_operators.arguments import Arguments, Computation, computed
from bn_audit.flow.aten_operators.arithmetic import spread
from bn_audit.flow.aten_operators.creating import shape_of
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.constants import MAX_COPIED, Array, small


def filled(arguments: Arguments) -> Array:
    name = arguments.op.removeprefix("aten.").removeprefix("new_").removesuffix("_like")
    if name == "empty":
        raise UndecidableError("it holds nothing yet")
    value = arguments.array("fill_value") if name == "full" else np.asarray(name == "ones")
    # Integers are compared with others by value, so a number needs no exact type.
    kind = arguments.kind(value if name == "full" else np.zeros((), np.float32))
    return np.broadcast_to(value.reshape(()).astype(kind), shape_of(arguments))


def arange(arguments: Arguments) -> Array:
    start, end = (arguments.array(name).item() if arguments.has(name) else 0 for name in ("start", "end"))
    step = arguments.array("step").item() if arguments.has("step") else 1
    if step == 0 or abs(end - start) / abs(step) > MAX_COPIED:
        raise UndecidableError("too many elements")
    values = np.arange(start, end, step)
    kind = arguments.kind()
    return values.astype(kind if kind is not None else np.float32 if values.dtype.kind == "f" else np.int64)


def linspace(arguments: Arguments) -> Array:
    steps = arguments.integer("steps", 0)
    small(np.broadcast_to(0, (steps,)))
    values = np.linspace(arguments.number("start", 0.0), arguments.number("end", 0.0), steps)
    return values.astype(arguments.kind() or np.float32)


def eye(arguments: Arguments) -> Array:
    n = arguments.integer("n", 0)
    m = arguments.integer("m", n)
    small(np.broadcast_to(0, (n, m)))
    return np.eye(n, m, dtype=arguments.kind() or np.float32)


def triangle(arguments: Arguments) -> Array:
    cut = np.triu if arguments.op == "aten.triu" else np.tril
    return np.asarray(cut(small(arguments.array("self")), arguments.integer("diagonal", 0)))


def triangle_places(arguments: Arguments) -> Array:
    row, column, offset = (arguments.integer(name, 0) for name in ("row", "col", "offset"))
    small(np.broadcast_to(0, (row, column)))
    make = np.tril_indices if arguments.op == "aten.tril_indices" else np.triu_indices
    return np.asarray(make(row, offset, column), np.int64)


def cumulative(arguments: Arguments) -> Array:
    array = small(np.array(arguments.array("self")))
    result = np.cumsum(array, axis=arguments.integer("dim", 0))
    return result.astype(array.dtype if array.dtype.kind == "f" else np.int64)


def reduce(function: Callable[..., Array]) -> Computation:
    """Return a computation that reduces axes."""

    def compute(arguments: Arguments) -> Array:
        array = small(arguments.array("self"))
        axes = arguments.axes("dim", array.ndim)
        result = function(array, axis=axes, keepdims=arguments.flag("keepdim", False))
        return np.asarray(result, array.dtype if array.dtype.kind == "f" else None)

    return compute


def meshgrid(arguments: Arguments) -> tuple[Array, ...]:
    arrays = arguments.arrays("tensors")
    indexing = "xy" if arguments.text("indexing", "ij") == "xy" else "ij"
    return tuple(np.meshgrid(*arrays, indexing=indexing, copy=False))  # type: ignore[call-overload]


def matmul(arguments: Arguments) -> Array:
    name = "other" if arguments.has("other") else "mat2"
    return np.asarray(np.matmul(small(arguments.array("self")), small(arguments.array(name))))


def scalar(arguments: Arguments) -> Array:
    array = arguments.array("s")
    return array.astype(arguments.kind(array))


def fill(arguments: Arguments) -> Array:
    own = arguments.operand("self").shape
    value = arguments.array("value") if arguments.has("value") else np.zeros(())
    array = arguments.array("self")
    return spread(value.reshape(()).astype(array.dtype), own)


def copy(arguments: Arguments) -> Array:
    return spread(arguments.array("src").astype(arguments.array("self").dtype), arguments.operand("self").shape)


def nonzero(arguments: Arguments) -> Array:
    return np.argwhere(small(arguments.array("self"))).astype(np.int64)


def item(arguments: Arguments) -> Array:
    return arguments.array("self").reshape(())


TABLE: dict[str, Computation] = computed(
    (
        "zeros.default ones.default full.default zeros_like.default ones_like.default full_like.default"
        " new_zeros.default new_ones.default new_full.default",
        filled,
    ),
    ("arange.default arange.start arange.start_step", arange),
    ("linspace.default", linspace),
    ("eye.default eye.m", eye),
    ("tril.default triu.default", triangle),
    ("tril_indices.default triu_indices.default", triangle_places),
    ("cumsum.default", cumulative),
    ("sum.default sum.dim_IntList", reduce(np.sum)),
    ("mean.default mean.dim", reduce(np.mean)),
    ("prod.default", reduce(np.prod)),
    ("amax.default max.default", reduce(np.max)),
    ("amin.default min.default", reduce(np.min)),
    ("any.default any.dim any.dims", reduce(np.any)),
    ("all.default all.dim all.dims", reduce(np.all)),
    ("meshgrid.default meshgrid.indexing", meshgrid),
    ("mm.default matmul.default bmm.default", matmul),
    ("scalar_tensor.default", scalar),
    ("fill.Scalar fill.Tensor zero.default", fill),
    ("copy.default", copy),
    ("nonzero.default", nonzero),
    ("_local_scalar_dense.default item.default", item),
)
