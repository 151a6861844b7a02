"""ATen operators that normalise."""

from __future__ import annotations

import math

from bn_audit.flow.algebra import Operand, added, pointwise, product
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.aten_operators.layers import per_channel
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells
from bn_audit.flow.movement import reshaped
from bn_audit.flow.reduction import dropped, normalised, reduced
from bn_audit.flow.values import Value


def scaled(result: Cells, weight: Operand | None, bias: Operand | None) -> Cells:
    """Return ``result * weight + bias``."""
    if weight is not None:
        result = product("mul", [result, weight])
    return result if bias is None else added("add", [result, bias])


def channel_pair(arguments: Arguments, rank: int) -> tuple[Operand | None, Operand | None]:
    """Return weight and bias along the second axis."""
    found = [arguments.optional(name) for name in ("weight", "bias")]
    weight, bias = (None if value is None else per_channel(value, rank) for value in found)
    return weight, bias


TRAINS = {
    "aten._native_batch_norm_legit_no_training": False,
    "aten._batch_norm_no_update": False,
    "aten._batch_norm_with_update": True,
    "aten._batch_norm_with_update_functional": True,
}
"""Batch norms whose name says whether they use the batch's statistics."""

_RUNNING = {
    "aten._native_batch_norm_legit_functional": 3,
    "aten._batch_norm_with_update_functional": 4,
    "aten._batch_norm_with_update": 4,
    "aten._batch_norm_impl_index": 5,
    "aten.batch_norm": 1,
    "aten.instance_norm": 1,
}
"""Where the new running statistics stand among the outputs; after three for any other operator."""


def batch_norm(arguments: Arguments) -> Result:
    """Samples (N, C, ...); the further outputs are statistics, and the new running ones where there are any."""
    cells = arguments.cells("input")
    weight, bias = channel_pair(arguments, cells.rank)
    eps = arguments.number("eps" if arguments.has("eps") else "epsilon", 1e-5)
    if not TRAINS.get(arguments.op, arguments.flag("training", False)):
        return _outputs(arguments, scaled(_by_running(arguments, cells, eps), weight, bias), None)
    axes = [axis for axis in range(cells.rank) if axis != 1]
    result = scaled(normalised(("batch_norm", eps), cells, axes), weight, bias)
    return _outputs(arguments, result, dropped(reduced(cells, axes, "batch_norm", kind="mean"), axes))


def _by_running(arguments: Arguments, cells: Cells, eps: float) -> Cells:
    mean, variance = (per_channel(arguments.operand(name), cells.rank) for name in ("running_mean", "running_var"))
    return pointwise(("div", "sqrt", eps), [added("sub", [cells, mean], minus=True), variance])


def _outputs(arguments: Arguments, result: Cells, statistic: Cells | None) -> tuple[Value, ...]:
    """Return as many outputs as the node has: the result, statistics, new running statistics."""
    count = len(arguments.call.node.outputs)
    if statistic is None:
        return (result,)
    first = _RUNNING.get(arguments.op, 3)
    running = [
        pointwise(("running", name), [arguments.operand(name), statistic])
        for name in ("running_mean", "running_var")
        if arguments.has(name)
    ]
    between: list[Value] = [pointwise(("statistic", index), [statistic]) for index in range(1, first)]
    return (result, *between, *running)[:count]


def instance_norm(arguments: Arguments) -> Result:
    cells = arguments.cells("input")
    weight, bias = channel_pair(arguments, cells.rank)
    eps = arguments.number("eps", 1e-5)
    if not arguments.flag("use_input_stats", True):
        return scaled(_by_running(arguments, cells, eps), weight, bias)
    axes = range(2, cells.rank)
    statistic = dropped(reduced(reduced(cells, axes, "instance_norm"), (0,), "aten.mean", kind="mean"), (0, *axes))
    return _outputs(arguments, scaled(normalised(("instance_norm", eps), cells, axes), weight, bias), statistic)


def group_norm(arguments: Arguments) -> Result:
    cells = arguments.cells("input")
    groups = arguments.integer("num_groups" if arguments.has("num_groups") else "group", 1)
    split = reshaped(cells, (cells.shape[0], groups, math.prod(cells.shape[1:]) // max(groups, 1)))
    normal = reshaped(normalised(("group_norm", arguments.number("eps", 1e-5), groups), split, (2,)), cells.shape)
    statistic = reduced(split, (2,), "group_norm", keep=False, kind="mean")
    return _with_statistics(arguments, scaled(normal, *channel_pair(arguments, cells.rank)), statistic)


def layer_norm(arguments: Arguments) -> Result:
    cells = arguments.cells("input")
    count = len(arguments.integers("normalized_shape") or ())
    axes = range(cells.rank - count, cells.rank)
    seed = (arguments.op.replace("native_", "").replace("_fused_", ""), arguments.raw("eps"))
    statistic = reduced(cells, axes, (seed, "statistic"), kind="mean")
    result = scaled(normalised(seed, cells, axes), arguments.optional("weight"), arguments.optional("bias"))
    return _with_statistics(arguments, result, statistic)


def _with_statistics(arguments: Arguments, result: Cells, statistic: Cells) -> tuple[Value, ...]:
    count = len(arguments.call.node.outputs)
    return (result, *(pointwise(("statistic", index), [statistic]) for index in range(1, count)))


def renormalised(arguments: Arguments) -> Result:
    """Every slice along an axis scaled to a norm of at most so much."""
    operand = arguments.operand("self")
    rank = len(operand.shape)
    axis = arguments.axis("dim", 0, rank)
    return normalised(arguments.seed, operand, [other for other in range(rank) if other != axis], kind="other")


def weight_norm(arguments: Arguments) -> Result:
    """``v * g / norm(v)``, the norm over all axes but one."""
    direction, size = arguments.cells("v"), arguments.operand("g")
    axis = arguments.axis("dim", 0, direction.rank)
    axes = [other for other in range(direction.rank) if other != axis]
    result = product("mul", [normalised("weight_norm", direction, axes, kind="other"), size])
    statistic = reduced(direction, axes, "norm")
    return (result, statistic)[: len(arguments.call.node.outputs)]


TABLE: Table = rows(
    (
        "batch_norm.default native_batch_norm.default _native_batch_norm_legit.default"
        " _native_batch_norm_legit.no_stats _native_batch_norm_legit_functional.default"
        " _native_batch_norm_legit_no_training.default _batch_norm_with_update.default"
        " _batch_norm_with_update_functional.default _batch_norm_no_update.default _batch_norm_impl_index.default"
        " cudnn_batch_norm.default miopen_batch_norm.default",
        batch_norm,
    ),
    ("instance_norm.default", instance_norm),
    ("group_norm.default native_group_norm.default", group_norm),
    ("layer_norm.default native_layer_norm.default rms_norm.default _fused_rms_norm.default", layer_norm),
    ("renorm.default", renormalised),
    ("_weight_norm.default _weight_norm_interface.default", weight_norm),
)
