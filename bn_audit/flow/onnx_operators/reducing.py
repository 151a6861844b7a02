"""ONNX operators that reduce axes or scan along them."""

from __future__ import annotations

from dataclasses import replace

from bn_audit.flow.algebra import Operand, as_cells
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import LINE, SAME, Cells, ShapeConflictError
from bn_audit.flow.movement import axis_of, broadcast
from bn_audit.flow.onnx_operators.shaping import axes_of
from bn_audit.flow.reduction import reduced, running
from bn_audit.flow.spans import between
from bn_audit.flow.tokens import mixed, token

KINDS = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceL1": "other",
    "ReduceL2": "other",
    "ReduceLogSum": "other",
    "ReduceLogSumExp": "other",
    "ReduceProd": "other",
    "ReduceSumSquare": "other",
}
"""What each reduction does with equal elements and with zeros."""


def reduce(call: Call) -> Result:
    operand = call.operand(0)
    rank = len(operand.shape)
    axes = axes_of(call, 1, rank)
    if not axes:
        if axes is not None and call.integer("noop_with_empty_axes", 0):
            return operand
        axes = tuple(range(rank))
    keep = bool(call.integer("keepdims", 1))
    return reduced(operand, sorted(set(axes)), call.node.op, keep=keep, kind=KINDS[call.node.op])


def arg_extreme(call: Call) -> Result:
    operand = call.operand(0)
    axis = axis_of(call.integer("axis", 0), len(operand.shape))
    place = reduced(operand, (axis,), call.seed, keep=bool(call.integer("keepdims", 1)), ordered=True)
    return replace(place, selects=True, range=between(place.forms, 0, operand.shape[axis] - 1))


def cumulative(call: Call) -> Result:
    operand = call.operand(0)
    (axis,) = call.whole(1)
    return running(
        call.node.op,
        operand,
        axis_of(axis, len(operand.shape)),
        backwards=bool(call.integer("reverse", 0)),
        exclusive=bool(call.integer("exclusive", 0)),
        sums=call.node.op == "CumSum",
    )


def top_k(call: Call) -> Result:
    operand = call.operand(0)
    axis = axis_of(call.integer("axis", -1), len(operand.shape))
    count = call.whole(1)[0] if call.has(1) else call.integer("k", 1)
    if not 0 <= count <= operand.shape[axis]:
        raise ShapeConflictError(f"the top {count} of an axis of {operand.shape[axis]}")
    best = along(call, operand, axis, count)
    places = replace(best, selects=True, range=between(best.forms, 0, operand.shape[axis] - 1))
    return replace(best, selects=as_cells(operand).selects), places


def along(call: Call, operand: Operand, axis: int, count: int) -> Cells:
    """Return `count` results along an axis, each computed from the whole of it."""
    inner = reduced(operand, (axis,), call.seed, ordered=True)
    return spread_line(inner, axis, count, call.seed)


def spread_line(cells: Cells, axis: int, count: int, seed: object) -> Cells:
    """Return the array with `count` different functions of each element along an axis of size 1."""
    wide = broadcast(cells, (*cells.shape[:axis], count, *cells.shape[axis + 1 :]))
    kinds = (*wide.kinds[:axis], LINE if count > 1 else SAME, *wide.kinds[axis + 1 :])
    return replace(wide, kinds=kinds, forms=mixed(wide.forms, token("spread", seed, cells.lines_before(axis), count)))


TABLE: dict[str, Handler] = {
    **dict.fromkeys(KINDS, reduce),
    "ArgMax": arg_extreme,
    "ArgMin": arg_extreme,
    "CumSum": cumulative,
    "CumProd": cumulative,
    "TopK": top_k,
}
