"""ATen operators on constants, element by element: what masks, indices and sizes are computed with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bn_audit.flow.algebra import broadcast_shape
from bn_audit.flow.aten_operators.arguments import Arguments, Computation, computed
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.constants import MAX_FOLDED, Array, thinned


def spread(values: Array, shape: Sequence[int]) -> Array:
    """Return a view of the values that fills a shape, without copies."""
    return values if values.shape == tuple(shape) else np.broadcast_to(values, tuple(shape))


def thin(function: Callable[..., Array], arrays: Sequence[Array]) -> Array:
    """Return a function of corresponding elements, computed once for each repeated one."""
    shape = broadcast_shape([array.shape for array in arrays])
    few = [thinned(array) for array in arrays]
    if math.prod(broadcast_shape([array.shape for array in few])) > MAX_FOLDED:
        raise UndecidableError("too many elements")
    with np.errstate(all="ignore"):
        return spread(np.asarray(function(*few)), shape)


def weak(array: Array, like: Array) -> Array:
    """Return a number in the type of an array, where that can hold it: numbers do not widen arrays."""
    if array.ndim == 0 and like.ndim and array.dtype.kind in "biu" + ("f" if like.dtype.kind in "fc" else ""):
        return array.astype(like.dtype) if like.dtype.kind != "b" else array
    if array.ndim == 0 and array.dtype == np.float64 and like.ndim:
        return array.astype(np.float32)
    return array


def unary(function: Callable[[Array], Array]) -> Computation:
    """Return a computation with one operand."""
    return lambda arguments: thin(function, [arguments.array(first_name(arguments))])


def first_name(arguments: Arguments) -> str:
    return next((name for name in ("self", "input", "a") if arguments.has(name)), "self")


def binary(function: Callable[[Array, Array], Array]) -> Computation:
    """Return a computation with two operands."""

    def compute(arguments: Arguments) -> Array:
        left, right = pair(arguments)
        return thin(function, [left, right])

    return compute


def pair(arguments: Arguments) -> tuple[Array, Array]:
    """Return both operands, a number in the type of the other."""
    second = next((n for n in ("other", "exponent", "b", "end") if arguments.has(n)), "other")
    left, right = arguments.array(first_name(arguments)), arguments.array(second)
    return weak(left, right), weak(right, left)


def add(arguments: Arguments) -> Array:
    left, right = pair(arguments)
    alpha = arguments.number("alpha", 1.0)
    right = right if alpha == 1.0 else thin(lambda x: x * weak(np.asarray(alpha), x), [right])
    if left.dtype == right.dtype == np.bool_:
        return thin(np.logical_or, [left, right])
    sign = -1 if arguments.op in ("aten.sub", "aten.subtract", "aten.rsub") else 1
    if arguments.op == "aten.rsub":
        left, right = right, left
    return thin(np.add if sign == 1 else np.subtract, [left, right])


def divide(arguments: Arguments) -> Array:
    left, right = pair(arguments)
    mode = arguments.text("rounding_mode", "")
    if mode == "floor":
        return thin(_floor_divide, [left, right])
    quotient = thin(lambda x, y: np.asarray(np.true_divide(x, y), np.float32), [left, right])
    if mode == "trunc":
        whole = left.dtype.kind in "iu" and right.dtype.kind in "iu"
        return np.trunc(quotient).astype(left.dtype if whole else quotient.dtype)
    return quotient


def _floor_divide(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iub" and right.dtype.kind in "iub":
        return np.asarray(left // np.where(right == 0, 1, right))
    return np.asarray(np.floor_divide(left, right))


def exact_divide(arguments: Arguments) -> Array:
    left, right = pair(arguments)
    return thin(np.true_divide, [left, right])


def cast(arguments: Arguments) -> Array:
    array = arguments.array(first_name(arguments))
    kind = arguments.kind(array)
    with np.errstate(all="ignore"):
        return spread(thinned(array).astype(kind), array.shape)


def clamp(arguments: Arguments) -> Array:
    array = arguments.array("self")
    for name, function in (("min", np.maximum), ("max", np.minimum)):
        if arguments.has(name):
            array = thin(function, [array, weak(arguments.array(name), array)])
    return array


def _where(condition: Array, yes: Array, no: Array) -> Array:
    return np.asarray(np.where(condition, yes, no))


def where(arguments: Arguments) -> Array:
    left, right = arguments.array("self"), arguments.array("other")
    return thin(_where, [arguments.array("condition").astype(bool), weak(left, right), weak(right, left)])


def masked_fill(arguments: Arguments) -> Array:
    array = arguments.array("self")
    value = arguments.array("value").astype(array.dtype)
    return thin(_where, [arguments.array("mask"), value, array])


def identity(arguments: Arguments) -> Array:
    return arguments.array(first_name(arguments))


def power(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iub" and right.dtype.kind in "iub" and (right < 0).any():
        return np.power(left.astype(np.float32), right)
    return np.asarray(np.power(left, right))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), x.dtype if x.dtype.kind == "f" else np.float32)


def in_float(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a function that gives float32 for integers, as torch's default type has it."""
    return lambda x: np.asarray(function(x if x.dtype.kind in "fc" else x.astype(np.float32)))


UNARY: dict[str, Callable[[Array], Array]] = {
    "neg.default": np.negative,
    "abs.default": np.abs,
    "sign.default": np.sign,
    "square.default": np.square,
    "floor.default": np.floor,
    "ceil.default": np.ceil,
    "trunc.default": np.trunc,
    "round.default": np.round,
    "relu.default": lambda x: np.maximum(x, 0),
    "logical_not.default": np.logical_not,
    "bitwise_not.default": np.invert,
    "isnan.default": np.isnan,
    "isinf.default": np.isinf,
    "isfinite.default": np.isfinite,
    "sigmoid.default": sigmoid,
    **{
        f"{name}.default": in_float(function)
        for name, function in (
            *(("sqrt", np.sqrt), ("exp", np.exp), ("log", np.log), ("sin", np.sin), ("cos", np.cos)),
            *(("tanh", np.tanh), ("log2", np.log2), ("log10", np.log10), ("expm1", np.expm1), ("log1p", np.log1p)),
            *(("reciprocal", np.reciprocal), ("rsqrt", lambda x: 1 / np.sqrt(x)), ("atan", np.arctan)),
        )
    },
}

COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}

TABLE: dict[str, Computation] = computed(
    *((name, unary(function)) for name, function in UNARY.items()),
    *((f"{name}.Tensor {name}.Scalar _operator.{name}", binary(function)) for name, function in COMPARISONS.items()),
    ("add.Tensor add.Scalar sub.Tensor sub.Scalar subtract.Tensor subtract.Scalar rsub.Tensor rsub.Scalar", add),
    ("_operator.add", binary(np.add)),
    ("_operator.sub", binary(np.subtract)),
    ("mul.Tensor mul.Scalar multiply.Tensor _operator.mul", binary(np.multiply)),
    ("div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode true_divide.Tensor divide.Tensor", divide),
    ("floor_divide.default floor_divide.Scalar _operator.floordiv", binary(_floor_divide)),
    ("_operator.truediv torch._sym_truediv", exact_divide),
    ("remainder.Tensor remainder.Scalar _operator.mod", binary(np.mod)),
    ("fmod.Tensor fmod.Scalar", binary(np.fmod)),
    ("pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar _operator.pow", binary(power)),
    ("maximum.default max.other torch.sym_max", binary(np.maximum)),
    ("minimum.default min.other torch.sym_min", binary(np.minimum)),
    ("atan2.default", binary(np.arctan2)),
    ("logical_and.default __and__.Tensor __and__.Scalar _operator.and_", binary(np.logical_and)),
    ("logical_or.default __or__.Tensor __or__.Scalar _operator.or_", binary(np.logical_or)),
    ("logical_xor.default", binary(np.logical_xor)),
    ("bitwise_and.Tensor bitwise_and.Scalar", binary(np.bitwise_and)),
    ("bitwise_or.Tensor bitwise_or.Scalar", binary(np.bitwise_or)),
    ("bitwise_xor.Tensor bitwise_xor.Scalar", binary(np.bitwise_xor)),
    ("_operator.neg", unary(np.negative)),
    ("_operator.not_ torch.sym_not", unary(np.logical_not)),
    ("torch.sym_float", unary(lambda x: x.astype(np.float64))),
    ("torch.sym_int math.trunc", unary(lambda x: np.trunc(x).astype(np.int64))),
    ("math.ceil", unary(lambda x: np.ceil(x).astype(np.int64))),
    ("math.floor", unary(lambda x: np.floor(x).astype(np.int64))),
    ("_to_copy.default to.dtype to.device to.dtype_layout prims.convert_element_type.default", cast),
    ("clamp.default clamp.Tensor clip.default clamp_min.default clamp_max.default", clamp),
    ("where.self where.ScalarSelf where.ScalarOther where.Scalar", where),
    ("masked_fill.Scalar masked_fill.Tensor", masked_fill),
    (
        "alias.default detach.default clone.default contiguous.default lift_fresh.default lift_fresh_copy.default"
        " detach_copy.default alias_copy.default _operator.pos",
        identity,
    ),
)
