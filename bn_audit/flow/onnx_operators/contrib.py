"""Operators of onnxruntime's own domain that fuse several standard ones."""

from __future__ import annotations

import math

from bn_audit.flow.algebra import Operand, added, as_cells, pointwise
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells, UndecidableError
from bn_audit.flow.contraction import matrix_product
from bn_audit.flow.lookup import looked_up
from bn_audit.flow.movement import reshaped, sliced, transposed
from bn_audit.flow.onnx_operators.linear import conv, gemm
from bn_audit.flow.onnx_operators.norms import scaled
from bn_audit.flow.onnx_operators.reducing import spread_line
from bn_audit.flow.reduction import normalised, reduced


def activated(call: Call) -> Result:
    """BiasGelu and its kin: an activation after adding a bias."""
    return pointwise(call.seed, call.operands())


def normalised_sum(call: Call) -> Result:
    """Skip layer norms: input and skip, then weight, bias and a bias of the sum."""
    simplified = "Simplified" in call.node.op
    total = added("Add", [call.operand(0), call.operand(1)])
    extra = 3 if simplified else 4
    if call.has(extra):
        total = added("Add", [total, call.operand(extra)])
    weight = call.operand(2) if call.has(2) else None
    bias = call.operand(3) if not simplified and call.has(3) else None
    last = (total.rank - 1,)
    statistic = reduced(total, last, (call.seed, "statistic"), kind="mean")
    return scaled(normalised(call.seed, total, last), weight, bias), statistic, statistic, total


def embedded(call: Call) -> Result:
    """EmbedLayerNormalization: words, positions and segments looked up, added and normalised."""
    words, segments = as_cells(call.operand(0)), call.operand(1) if call.has(1) else None
    total = looked_up("Gather", call.operand(2), 0, words)
    table = as_cells(call.operand(3))
    if call.has(8):
        places: Operand = call.operand(8)
        total = added("Add", [total, looked_up("Gather", table, 0, places)])
    else:
        total = added("Add", [total, sliced(table, 0, 0, 1, words.shape[1])])
    if segments is not None and call.has(4):
        total = added("Add", [total, looked_up("Gather", call.operand(4), 0, segments)])
    result = scaled(normalised(call.seed, total, (total.rank - 1,)), call.operand(5), call.operand(6))
    length = (
        reduced(call.operand(7), (1,), "length", keep=False) if call.has(7) else reduced(words, (1,), "n", keep=False)
    )
    return result, length, total


def fused_matmul(call: Call) -> Result:
    left, right = as_cells(call.operand(0)), call.operand(1)
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        raise UndecidableError("it transposes the axes of the batch")
    if call.integer("transA", 0):
        left = swapped(left)
    if call.integer("transB", 0):
        right = swapped(as_cells(right))
    return matrix_product(("MatMul", call.number("alpha", 1.0)), left, right)


def swapped(cells: Cells) -> Cells:
    """Return the array with its last two axes exchanged."""
    order = list(range(cells.rank))
    order[-2:] = order[-1], order[-2]
    return transposed(cells, order)


def fused_conv(call: Call) -> Result:
    result = conv(call)
    cells = result[0] if isinstance(result, tuple) else result
    if not isinstance(cells, Cells):
        return cells
    if call.has(3):
        cells = added("Add", [cells, call.operand(3)])
    return pointwise(("activation", call.text("activation", "")), [cells])


def fused_gemm(call: Call) -> Result:
    cells = gemm(call)
    return pointwise(("activation", call.text("activation", "")), [cells]) if isinstance(cells, Cells) else cells


def packed_weights(call: Call) -> Result:
    """MatMulNBits and its kin: rows by weights of N columns that are packed in ways of their own."""
    operand = as_cells(call.operand(0))
    columns = call.integer("N", 0)
    if columns < 1:
        raise UndecidableError("its number of columns is not recorded")
    weights = [
        reduced(call.operand(i), range(len(call.operand(i).shape)), (call.seed, i), keep=False)
        for i in range(1, len(call.inputs))
        if call.has(i)
    ]
    rows = reduced(operand, (operand.rank - 1,), (call.seed, "row"), ordered=True)
    return spread_line(pointwise(call.seed, [rows, *weights], selects=False), operand.rank - 1, columns, call.seed)


def experts(call: Call) -> Result:
    """MoE and QMoE without capacity: every token goes to experts of its own choice, and to no other's expense."""
    operand = as_cells(call.operand(0))
    choice = as_cells(call.operand(1))
    rows = normalised((call.seed, "row"), operand, (operand.rank - 1,), kind="other")
    chosen_by = reduced(choice, (choice.rank - 1,), (call.seed, "router"), ordered=True)
    chosen_by = reshaped(chosen_by, (*operand.shape[:-1], 1))
    weights = [
        reduced(call.operand(i), range(len(call.operand(i).shape)), (call.seed, i), keep=False)
        for i in range(2, len(call.inputs))
        if call.has(i)
    ]
    return pointwise(call.seed, [rows, chosen_by, *weights], selects=False)


def group_norm(call: Call) -> Result:
    """com.microsoft.GroupNorm: channels last by default, with an activation."""
    cells = as_cells(call.operand(0))
    last = bool(call.integer("channels_last", 1))
    if call.node.op == "SkipGroupNorm":
        cells = added("Add", [cells, call.operand(3)])
    moved = transposed(cells, (0, cells.rank - 1, *range(1, cells.rank - 1))) if last else cells
    groups = max(1, call.integer("groups", 1))
    split = reshaped(moved, (moved.shape[0], groups, math.prod(moved.shape[1:]) // groups))
    result = reshaped(normalised(call.seed, split, (2,)), moved.shape)
    back = transposed(result, (0, *range(2, cells.rank), 1)) if last else result
    weights = [reduced(call.operand(i), (0,), (call.seed, i), keep=False) for i in (1, 2) if call.has(i)]
    return pointwise(call.seed, [back, *weights], selects=False)


def biased_split_gelu(call: Call) -> Result:
    operand = added("Add", [call.operand(0), call.operand(1)])
    half = reshaped(operand, (*operand.shape[:-1], 2, operand.shape[-1] // 2))
    return reduced(half, (half.rank - 2,), call.seed, keep=False, ordered=True)


MICROSOFT: dict[str, Handler] = {
    **dict.fromkeys(("BiasGelu", "FastGelu", "QuickGelu", "Gelu", "BiasAdd", "BiasDropout"), activated),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), normalised_sum),
    "EmbedLayerNormalization": embedded,
    "FusedMatMul": fused_matmul,
    "TransposeMatMul": fused_matmul,
    "FusedConv": fused_conv,
    "FusedGemm": fused_gemm,
    "MatMulNBits": packed_weights,
    "MatMulBnb4": packed_weights,
    "MatMulFpQ4": packed_weights,
    "MoE": experts,
    "QMoE": experts,
    "GroupNorm": group_norm,
    "SkipGroupNorm": group_norm,
    "BiasSplitGelu": biased_split_gelu,
}
