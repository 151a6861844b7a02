"""ONNX operators on constants, element by element: what the shapes and indices of a graph are computed with."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bn_audit.flow.algebra import broadcast_shape
from bn_audit.flow.call import Call, Evaluator
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.constants import MAX_FOLDED, Array, thinned

TYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    12: np.uint32,
    13: np.uint64,
    14: np.complex64,
    15: np.complex128,
    16: np.float32,
}
"""Element types by the codes of ONNX; bfloat16 is computed in float32."""


def spread(values: Array, shape: tuple[int, ...]) -> Array:
    """Return a view of the values that fills a shape, without copies."""
    return values if values.shape == shape else np.broadcast_to(values, shape)


def elementwise(function: Callable[..., Array]) -> Evaluator:
    """Return an evaluator that works on one element of each broadcast axis."""

    def evaluate(_: Call, arrays: list[Array]) -> Array:
        shape = broadcast_shape([array.shape for array in arrays])
        thin = [thinned(array) for array in arrays]
        if math.prod(broadcast_shape([array.shape for array in thin])) > MAX_FOLDED:
            raise UndecidableError("too many elements")
        with np.errstate(all="ignore"):
            return spread(np.asarray(function(*thin)), shape)

    return evaluate


def divide(left: Array, right: Array) -> Array:
    """Integers are divided towards zero."""
    if left.dtype.kind in "iu":
        safe = np.where(right == 0, 1, right)
        quotient = np.abs(left) // np.abs(safe)
        return np.asarray(np.where((left < 0) != (safe < 0), -quotient, quotient).astype(left.dtype))
    return np.asarray(left / right)


def modulo(call: Call, arrays: list[Array]) -> Array:
    function = np.fmod if call.integer("fmod", 0) else np.mod
    return np.asarray(elementwise(function)(call, arrays))


def many(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """Return a function of any number of operands from one of two."""

    def fold(first: Array, *others: Array) -> Array:
        for other in others:
            first = function(first, other)
        return first

    return fold


def cast(call: Call, arrays: list[Array]) -> Array:
    kind = TYPES.get(call.integer("to", 1)) if call.node.op == "Cast" else arrays[1].dtype
    if kind is None:
        raise UndecidableError("a type without numbers")
    with np.errstate(all="ignore"):
        return spread(thinned(arrays[0]).astype(kind), arrays[0].shape)


def clip(call: Call, arrays: list[Array]) -> Array:
    low = call.known(1) if call.has(1) else np.array(call.number("min", -np.inf))
    high = call.known(2) if call.has(2) else np.array(call.number("max", np.inf))
    values = thinned(arrays[0])
    return spread(np.minimum(np.maximum(values, low), high).astype(values.dtype), arrays[0].shape)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), x.dtype)


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": divide,
    "Pow": lambda x, y: np.power(x, y).astype(x.dtype),
    "Min": many(np.minimum),
    "Max": many(np.maximum),
    "Sum": many(np.add),
    "Neg": np.negative,
    "Abs": np.abs,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tanh": np.tanh,
    "Sigmoid": sigmoid,
    "Relu": lambda x: np.maximum(x, 0),
    "Reciprocal": np.reciprocal,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
    "Sign": np.sign,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "IsNaN": np.isnan,
    "IsInf": np.isinf,
    "Where": np.where,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "BitwiseNot": np.invert,
}

TABLE: dict[str, Evaluator] = {
    **{name: elementwise(function) for name, function in FUNCTIONS.items()},
    "Mod": modulo,
    "Cast": cast,
    "CastLike": cast,
    "Clip": clip,
    "Identity": lambda _, arrays: arrays[0],
}
