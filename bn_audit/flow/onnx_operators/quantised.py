"""ONNX operators on quantised numbers, those of onnxruntime's own domain included."""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.flow.algebra import Operand, as_cells, pointwise
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells
from bn_audit.flow.constants import Constant
from bn_audit.flow.contraction import contracted, matrix_product
from bn_audit.flow.joining import concatenated
from bn_audit.flow.movement import axis_of, reshaped
from bn_audit.flow.onnx_operators.linear import convolution, global_pool, pool, with_bias
from bn_audit.flow.onnx_operators.recurrent import unrolled
from bn_audit.flow.reduction import reduced, softmax


def setting(operand: Operand, seed: object) -> Cells:
    """Return a scale or zero point as one function of all its elements."""
    return reduced(operand, range(len(operand.shape)), (seed, "setting"), keep=False, ordered=True)


def with_settings(call: Call, cells: Operand, indices: Sequence[int], seed: object) -> Cells:
    """Return the array as scales and zero points change it."""
    settings = [setting(call.operand(index), (seed, index)) for index in indices if call.has(index)]
    return pointwise((seed, tuple(indices)), [cells, *settings], selects=False)


def linear(call: Call) -> Result:
    """QuantizeLinear and DequantizeLinear: a scale for all, for each index of an axis, or for each block."""
    operand = call.operand(0)
    rank = len(operand.shape)
    shaped: list[Operand] = [operand]
    for index in (1, 2):
        if not call.has(index):
            continue
        given = call.operand(index)
        if len(given.shape) == 1 and given.shape[0] > 1:
            axis = axis_of(call.integer("axis", 1), rank)
            shape = tuple(given.shape[0] if a == axis else 1 for a in range(axis, rank))
            shaped.append(given.reshaped(shape) if isinstance(given, Constant) else reshaped(given, shape))
        else:
            shaped.append(setting(given, index))
    return pointwise((call.node.op, call.seed), shaped, selects=as_cells(operand).selects)


def dynamic(call: Call) -> Result:
    """One range for everything that is given: each element depends on all."""
    operand = call.operand(0)
    span = reduced(operand, range(len(operand.shape)), (call.node.op, "range"), keep=False, kind="max")
    return pointwise(call.node.op, [operand, span], selects=False), span, pointwise("zero point", [span])


def conv(call: Call) -> Result:
    signal = with_settings(call, call.operand(0), (1, 2), "signal")
    weight = _weight(call, 3, (4, 5))
    result = convolution(call, signal, weight)
    if call.has(8):
        result = with_bias(result, call.operand(8))
    return with_settings(call, result, (6, 7), "result")


def _weight(call: Call, index: int, settings: tuple[int, ...]) -> Operand:
    """Return a weight; the settings of constant weights are constants too and do not change where zeros are."""
    operand = call.operand(index)
    if isinstance(operand, Constant) and all(isinstance(call.inputs[i], Constant) for i in settings if call.has(i)):
        return operand
    return with_settings(call, operand, settings, "weight")


def conv_integer(call: Call) -> Result:
    return convolution(call, with_settings(call, call.operand(0), (2,), "signal"), _weight(call, 1, (3,)))


def matmul(call: Call) -> Result:
    left = with_settings(call, call.operand(0), (1, 2), "left")
    product = matrix_product("MatMul", left, _weight(call, 3, (4, 5)))
    return with_settings(call, product, (6, 7), "result")


def matmul_integer(call: Call) -> Result:
    left = with_settings(call, call.operand(0), (2,), "left")
    return matrix_product("MatMul", left, _weight(call, 1, (3,)))


def matmul_to_float(call: Call) -> Result:
    left = with_settings(call, call.operand(0), (2, 4), "left")
    result = matrix_product("MatMul", left, _weight(call, 1, (3, 5)))
    return pointwise("Add", [result, call.operand(6)]) if call.has(6) else result


def dynamic_matmul(call: Call) -> Result:
    operand = call.operand(0)
    span = reduced(operand, range(len(operand.shape)), (call.node.op, "range"), keep=False, kind="max")
    left = pointwise(call.node.op, [operand, span], selects=False)
    result = matrix_product("MatMul", left, _weight(call, 1, (2, 3)))
    return pointwise("Add", [result, call.operand(4)]) if call.has(4) else result


def gemm(call: Call) -> Result:
    left = with_settings(call, call.operand(0), (1, 2), "left")
    terms = ("yx" if call.integer("transA", 0) else "xy", "zy" if call.integer("transB", 0) else "yz")
    result = contracted("MatMul", [left, _weight(call, 3, (4, 5))], terms, "xz")
    if call.has(6):
        result = pointwise("Add", [result, call.operand(6)])
    return with_settings(call, result, (7, 8), "result")


def binary(call: Call) -> Result:
    """QLinearAdd and QLinearMul: two arrays, each with scale and zero point."""
    left = with_settings(call, call.operand(0), (1, 2), "left")
    right = with_settings(call, call.operand(3), (4, 5), "right")
    return with_settings(call, pointwise(call.seed, [left, right]), (6, 7), "result")


def unary(call: Call) -> Result:
    return with_settings(call, call.operand(0), (1, 2, 3, 4), call.seed)


def pooling(call: Call) -> Result:
    result = (global_pool if "Global" in call.node.op else pool)(call)
    cells = result[0] if isinstance(result, tuple) else result
    return with_settings(call, cells, (1, 2, 3, 4), call.seed) if isinstance(cells, Cells | Constant) else cells


def concat(call: Call) -> Result:
    """Scale and zero point of the result, then an array, scale and zero point for each part."""
    parts = [
        with_settings(call, call.operand(index), (index + 1, index + 2), "part")
        for index in range(2, len(call.inputs), 3)
    ]
    joined = concatenated(parts, axis_of(call.integer("axis", 0), parts[0].rank))
    return with_settings(call, joined, (0, 1), "result")


def soft_max(call: Call) -> Result:
    operand = with_settings(call, call.operand(0), (1, 2), "signal")
    axis = axis_of(call.integer("axis", -1), operand.rank)
    axes = tuple(range(axis, operand.rank)) if call.integer("opset", 13) < 13 else (axis,)
    return with_settings(call, softmax("Softmax", operand, axes), (3, 4), "result")


def recurrent(call: Call) -> Result:
    """DynamicQuantizeLSTM: one range for the whole signal."""
    operand = call.operand(0)
    span = reduced(operand, range(len(operand.shape)), (call.node.op, "range"), keep=False, kind="max")
    return unrolled(call, pointwise(call.node.op, [operand, span], selects=False), (1, 2, 3, 7, 8, 9, 10, 11))


TABLE: dict[str, Handler] = {
    "QuantizeLinear": linear,
    "DequantizeLinear": linear,
    "DynamicQuantizeLinear": dynamic,
    "QLinearConv": conv,
    "ConvInteger": conv_integer,
    "QLinearMatMul": matmul,
    "MatMulInteger": matmul_integer,
}

MICROSOFT: dict[str, Handler] = {
    "QuantizeLinear": linear,
    "DequantizeLinear": linear,
    "QLinearConv": conv,
    "QGemm": gemm,
    "QLinearMatMul": matmul,
    "QLinearAdd": binary,
    "QLinearMul": binary,
    "QLinearSigmoid": unary,
    "QLinearLeakyRelu": unary,
    "QLinearAveragePool": pooling,
    "QLinearGlobalAveragePool": pooling,
    "QLinearConcat": concat,
    "QLinearSoftmax": soft_max,
    "MatMulIntegerToFloat": matmul_to_float,
    "DynamicQuantizeMatMul": dynamic_matmul,
    "DynamicQuantizeLSTM": recurrent,
}
