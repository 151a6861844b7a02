"""ONNX operators that carry a state along a sequence: linear attention and causal convolution."""

from __future__ import annotations

import numpy as np

from bn_audit.flow.algebra import as_cells, pointwise
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells, ShapeConflictError
from bn_audit.flow.joining import concatenated, padded
from bn_audit.flow.movement import reshaped, sliced
from bn_audit.flow.onnx_operators.linear import convolution, with_bias
from bn_audit.flow.onnx_operators.reducing import spread_line
from bn_audit.flow.reduction import reduced, running


def linear_attention(call: Call) -> Result:
    """Queries, keys and values (B, T, features): each token sees itself and those before it."""
    query, key, value = (as_cells(call.operand(index)) for index in range(3))
    heads, groups = call.integer("q_num_heads", 1), call.integer("kv_num_heads", 1)
    batch, _, width = value.shape
    if groups < 1 or heads < 1 or width % groups or key.shape[2] % groups:
        raise ShapeConflictError(f"{groups} groups of {value.shape}")
    given = [key, value, *(as_cells(call.operand(index)) for index in (4, 5) if call.has(index))]
    driven = pointwise((call.seed, "driven"), [_token(call, i, cells) for i, cells in enumerate(given)], selects=False)
    state = running(call.seed, driven, 1)
    end = reduced(driven, (1,), (call.seed, "end"), ordered=True)
    if call.has(3):
        past = as_cells(call.operand(3))
        start = reshaped(reduced(past, (1, 2, 3), (call.seed, "past"), ordered=True), (past.shape[0], 1, 1))
        state, end = pointwise("past", [state, start]), pointwise("past", [end, start])
    seen = pointwise(call.seed, [state, _token(call, -1, query)], selects=False)
    result = spread_line(seen, 2, heads * (width // groups), call.seed)
    present = reshaped(end, (batch, 1, 1, 1))
    for axis, size in enumerate((groups, key.shape[2] // groups, width // groups), start=1):
        present = spread_line(present, axis, size, (call.seed, "present"))
    return result, present


def _token(call: Call, index: int, cells: Cells) -> Cells:
    return reduced(cells, (2,), (call.seed, "token", index), ordered=True)


def causal_conv(call: Call) -> Result:
    """A convolution of each channel (B, C, length) with what came before, from the state or zero."""
    cells, weight = as_cells(call.operand(0)), call.operand(1)
    length, kept = cells.shape[2], weight.shape[2] - 1
    zero = call.constant(np.zeros((), np.float32)).cells()
    if call.has(3):
        whole = concatenated([call.operand(3), cells], 2)
    else:
        whole = padded(cells, 2, kept, 0, fill=zero, mode="constant")
    result = convolution(call, whole, weight, groups=cells.shape[1])
    result = with_bias(result, call.operand(2)) if call.has(2) else result
    present = sliced(whole, 2, length, 1, kept)
    return pointwise(("activation", call.text("activation", "none")), [result]), present


TABLE: dict[str, Handler] = {"LinearAttention": linear_attention, "CausalConvWithState": causal_conv}
