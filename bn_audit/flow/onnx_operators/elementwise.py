"""ONNX operators that work element by element."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import (
    added,
    as_cells,
    comparison,
    keeping_zero,
    pointwise,
    product,
    quotient,
    truth,
    with_constant,
)
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import DOUBT, SAME, TRUE, ZERO, Cells
from bn_audit.flow.choice import chosen
from bn_audit.flow.constants import Constant
from bn_audit.flow.movement import broadcast
from bn_audit.flow.reduction import reduced
from bn_audit.flow.spans import between
from bn_audit.flow.tokens import token

KEEP_ZERO = frozenset(
    [
        "Abs",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Celu",
        "Ceil",
        "Elu",
        "Erf",
        "Floor",
        "Gelu",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "Neg",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sign",
        "Sin",
        "Sinh",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
    ]
)
"""Functions of one operand that map zero to zero."""

PLAIN = frozenset(
    [
        "Acos",
        "Acosh",
        "BitCast",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Clip",
        "Cos",
        "Cosh",
        "Exp",
        "HardSigmoid",
        "Log",
        "Max",
        "Mean",
        "Min",
        "PRelu",
        "Pow",
        "Reciprocal",
        "RegexFullMatch",
        "Sigmoid",
        "Softplus",
        "StringConcat",
    ]
)
"""Any other functions of corresponding elements."""

SELECTING = frozenset(
    ["And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"]
)
"""Functions whose results are masks."""

COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})

MASK_TYPES = frozenset({2, 3, 4, 5, 6, 7, 9, 12, 13})
"""Codes of the integer types and of bool: a cast to one of them cuts values off."""


def keeps_zero(call: Call) -> Result:
    return keeping_zero(call.seed, as_cells(call.operand(0)))


def plain(call: Call) -> Result:
    return pointwise(call.seed, call.operands())


def selecting(call: Call) -> Result:
    operands = call.operands()
    if call.node.op in COMPARISONS and len(operands) == 2:
        return comparison(call.seed, call.node.op, operands)
    return truth(pointwise(call.seed, operands, selects=True))


def negation(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    result = pointwise(call.seed, [cells], selects=True)
    result = with_constant(with_constant(result, cells.forms == ZERO, TRUE), cells.forms == TRUE, ZERO)
    return truth(result)


def identity(call: Call) -> Result:
    value = call.inputs[0]
    return value if value is not None else call.operand(0)


def cast(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    target = call.integer("to", 1)
    if cells.span is not None or target not in MASK_TYPES:
        return cells
    return keeping_zero(("Cast", target), cells, selects=True)


def add(call: Call) -> Result:
    return added(call.seed, call.operands())


def subtract(call: Call) -> Result:
    return added(call.seed, call.operands(), minus=True)


def multiply(call: Call) -> Result:
    return product(call.seed, call.operands())


def divide(call: Call) -> Result:
    return quotient(call.seed, call.operand(0), call.operand(1))


def where(call: Call) -> Result:
    return chosen(call.seed, call.operand(0), call.operand(1), call.operand(2))


def dropout(call: Call) -> Result:
    """Each element is kept or not, whatever the others are; the noise itself is not followed."""
    cells = as_cells(call.operand(0))
    return cells, noise(call, cells.shape)


def noise(call: Call, shape: tuple[int, ...]) -> Cells:
    """Return the cells of random numbers: they belong to no sample, and their law is the same for all."""
    ones = (1,) * len(shape)
    forms = np.full(ones, token("noise", call.node.name))
    return Cells(shape, (SAME,) * len(shape), np.full(ones, DOUBT), forms, selects=True)


def random_like(call: Call) -> Result:
    return noise(call, call.operand(0).shape)


def random_shape(call: Call) -> Result:
    return noise(call, call.integers("shape") or ())


def random_choice(call: Call) -> Result:
    """Bernoulli: each element is drawn with its own probability."""
    return pointwise(call.seed, [call.operand(0)], selects=True)


def multinomial(call: Call) -> Result:
    """Each row of probabilities, shape (B, classes), gives a row of draws."""
    rows = reduced(call.operand(0), (1,), call.seed, ordered=True)
    wide = broadcast(rows, (rows.shape[0], call.integer("sample_size", 1)))
    return replace(wide, selects=True)


def extreme(call: Call) -> Result:
    """The larger or smaller of equal elements is either."""
    operands = call.operands()
    if all(operand is operands[0] for operand in operands):
        return operands[0]
    return pointwise(call.seed, operands)


def modulo(call: Call) -> Result:
    """A remainder by a positive constant lies below it."""
    result = pointwise(call.seed, call.operands())
    divisor = call.operand(1)
    values = divisor.values() if isinstance(divisor, Constant) else None
    if values is None or values.size != 1 or call.integer("fmod", 0) or values.dtype.kind not in "iu":
        return result
    return replace(result, range=between(result.forms, 0, int(values.reshape(-1)[0]) - 1))


def gated(call: Call) -> Result:
    """SwiGLU: the second array times an activation of the first that keeps zero."""
    gate = keeping_zero((call.seed, "gate"), as_cells(call.operand(0)))
    return product("Mul", [gate, call.operand(1)])


TABLE: dict[str, Handler] = {
    **dict.fromkeys(KEEP_ZERO, keeps_zero),
    **dict.fromkeys(PLAIN, plain),
    **dict.fromkeys(SELECTING, selecting),
    **dict.fromkeys(("Max", "Min", "Mean"), extreme),
    "SwiGLU": gated,
    "Mod": modulo,
    "Add": add,
    "Sum": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Where": where,
    "Cast": cast,
    "CastLike": cast,
    "Not": negation,
    "Identity": identity,
    "Dropout": dropout,
    "RandomNormalLike": random_like,
    "RandomUniformLike": random_like,
    "Bernoulli": random_choice,
    "Multinomial": multinomial,
    "RandomNormal": random_shape,
    "RandomUniform": random_shape,
}
