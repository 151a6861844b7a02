"""ONNX operators that normalise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bn_audit.flow.algebra import Operand, added, as_cells, pointwise, product
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells
from bn_audit.flow.movement import axis_of, reshaped
from bn_audit.flow.onnx_operators.linear import per_channel
from bn_audit.flow.reduction import dropped, normalised, reduced, softmax

Pair = tuple[Operand | None, Operand | None]


def scaled(result: Cells, weight: Operand | None, bias: Operand | None) -> Cells:
    """Return ``result * weight + bias``."""
    if weight is not None:
        result = product("Mul", [result, weight])
    return result if bias is None else added("Add", [result, bias])


def channel_pair(call: Call, rank: int) -> Pair:
    """Return the weight and bias of a norm, inputs 1 and 2, along the second axis."""
    given = [per_channel(call.operand(i), rank) if call.has(i) else None for i in (1, 2)]
    return given[0], given[1]


def batch_norm(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    weight, bias = channel_pair(call, cells.rank)
    if not trains(call):
        mean, variance = per_channel(call.operand(3), cells.rank), per_channel(call.operand(4), cells.rank)
        centred = added("Sub", [cells, mean], minus=True)
        return scaled(pointwise(("Div", "sqrt", call.number("epsilon", 1e-5)), [centred, variance]), weight, bias)
    axes = [axis for axis in range(cells.rank) if axis != 1] if call.integer("spatial", 1) else [0]
    seed = ("BatchNormalization", call.number("epsilon", 1e-5))
    result = scaled(normalised(seed, cells, axes, kind="mean"), weight, bias)
    statistic = reduced(cells, axes, seed, kind="mean")
    statistic = dropped(statistic, axes)
    running = [pointwise((seed, i), [call.operand(i), statistic]) if call.has(i) else statistic for i in (3, 4)]
    return (result, *running, statistic, statistic)[: max(1, len(call.node.outputs))]


def trains(call: Call) -> bool:
    """Whether a batch norm normalises with the batch, by the rules of its operator set."""
    if call.version >= 14:
        return call.integer("training_mode", 0) == 1
    if call.version >= 7:
        return sum(map(bool, call.node.outputs)) > 1
    return call.integer("is_test", 0) == 0


def instance_norm(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    weight, bias = channel_pair(call, cells.rank)
    seed = ("InstanceNormalization", call.number("epsilon", 1e-5))
    return scaled(normalised(seed, cells, range(2, cells.rank)), weight, bias)


def group_norm(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    groups = call.integer("num_groups", 1)
    split = reshaped(cells, (cells.shape[0], groups, math.prod(cells.shape[1:]) // max(groups, 1)))
    result = reshaped(normalised(call.seed, split, (2,)), cells.shape)
    weight = call.operand(1)
    if weight.shape and weight.shape[0] == groups != cells.shape[1]:
        # Before operator set 21 the weights are one for each group.
        spread = reshaped(result, (cells.shape[0], groups, cells.shape[1] // groups, *cells.shape[2:]))
        pair = channel_pair(call, spread.rank)
        return reshaped(scaled(spread, *pair), cells.shape)
    return scaled(result, *channel_pair(call, cells.rank))


def layer_norm(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    axes = range(axis_of(call.integer("axis", -1), cells.rank), cells.rank)
    weight = call.operand(1) if call.has(1) else None
    bias = call.operand(2) if call.has(2) else None
    statistic = reduced(cells, axes, (call.seed, "statistic"), kind="mean")
    return scaled(normalised(call.seed, cells, axes), weight, bias), statistic, statistic


def over_axes(call: Call, axes: Sequence[int]) -> Result:
    return normalised(call.seed, call.operand(0), axes)


def lp_norm(call: Call) -> Result:
    operand = call.operand(0)
    return normalised(call.seed, operand, (axis_of(call.integer("axis", -1), len(operand.shape)),), kind="other")


def mean_variance(call: Call) -> Result:
    operand = call.operand(0)
    rank = len(operand.shape)
    return over_axes(call, [axis_of(axis, rank) for axis in call.integers("axes") or (0, 2, 3)])


def local_response(call: Call) -> Result:
    return over_axes(call, (1,))


def soft_max(call: Call) -> Result:
    operand = call.operand(0)
    rank = len(operand.shape)
    if call.version < 13:
        axes = range(axis_of(call.integer("axis", 1), rank), rank)
    else:
        last = axis_of(call.integer("axis", -1), rank)
        axes = range(last, last + 1)
    if call.node.op == "Softmax":
        return softmax(call.node.op, operand, tuple(axes))
    return normalised(call.node.op, operand, tuple(axes), kind="other" if call.node.op == "Hardmax" else "exponential")


TABLE: dict[str, Handler] = {
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    "SimplifiedLayerNormalization": layer_norm,
    "LpNormalization": lp_norm,
    "MeanVarianceNormalization": mean_variance,
    "LRN": local_response,
    "Softmax": soft_max,
    "LogSoftmax": soft_max,
    "Hardmax": soft_max,
}
