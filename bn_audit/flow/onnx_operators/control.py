"""ONNX operators with bodies, and those on sequences and optional values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells, pointwise
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells, UndecidableError, may, uniform
from bn_audit.flow.choice import chosen
from bn_audit.flow.constants import Constant
from bn_audit.flow.joining import concatenated
from bn_audit.flow.movement import axis_of, reshaped, sliced, transposed
from bn_audit.flow.reduction import reduced
from bn_audit.flow.tokens import token
from bn_audit.flow.values import Lost, Value, operand
from bn_audit.subject.graph import Graph

MAX_TURNS = 256
"""Turns of a loop that are followed one by one."""
MAX_ROUNDS = 12
"""Turns after which the owners of a loop's state have settled: each round adds one sample at least."""


def truth_of(value: Value | None) -> bool | None:
    """Return a condition that is constant; None where it depends on the data."""
    if value is None:
        return True
    array = operand(value)
    values = array.values() if isinstance(array, Constant) else None
    return None if values is None else bool(values.reshape(-1)[0])


def if_(call: Call) -> Result:
    decided = truth_of(call.inputs[0])
    names = call.names
    if decided is not None:
        return call.setting.follow_body(call.graph("then_branch" if decided else "else_branch"), {}, names)
    branches = [call.setting.follow_body(call.graph(f"{name}_branch"), {}, names) for name in ("then", "else")]
    condition = as_cells(call.operand(0))
    one = reduced(condition, range(condition.rank), "condition", keep=False)
    return tuple(_either(one, yes, no) for yes, no in zip(*branches, strict=False))


def _either(condition: Cells, yes: Value, no: Value) -> Value:
    for value in (yes, no):
        if isinstance(value, Lost):
            return value
    if isinstance(yes, Cells | Constant) and isinstance(no, Cells | Constant) and yes.shape == no.shape:
        return chosen("If", condition, yes, no)
    raise UndecidableError("what it gives has another shape in each branch, and the data decides which is taken")


def loop(call: Call) -> Result:
    """Follow the turns one by one where their number is known, else until nothing changes any more."""
    body = call.graph("body")
    limit = _trip_count(call)
    states: list[Value] = [value for value in call.inputs[2:] if value is not None]
    going = truth_of(call.inputs[1] if len(call.inputs) > 1 else None)
    if going is False:
        limit = 0
    gathered: list[list[Value]] = [[] for _ in body.outputs[1 + len(states) :]]
    turn = 0
    while limit is None or turn < limit:
        if going is None or turn >= MAX_TURNS:
            return _settled(call, body, states)
        inputs = _loop_inputs(body, call.constant(np.array(turn, np.int64)), states, call)
        condition, *results = call.setting.follow_body(body, inputs, call.names)
        states, collected = results[: len(states)], results[len(states) :]
        for store, value in zip(gathered, collected, strict=False):
            store.append(value)
        turn += 1
        going = truth_of(condition) if isinstance(condition, Cells | Constant) else None
        if going is False:
            break
        if limit is None and going is None:
            return _settled(call, body, states)
    return (*states, *(_stacked(call, store) for store in gathered))


def _trip_count(call: Call) -> int | None:
    if not call.has(0):
        return None
    count = call.operand(0)
    values = count.values() if isinstance(count, Constant) else None
    return None if values is None else int(values.reshape(-1)[0])


def _loop_inputs(body: Graph, turn: Value, states: Sequence[Value], call: Call) -> dict[str, Value]:
    going = call.constant(np.array(True))
    return dict(zip((value.name for value in body.inputs), [turn, going, *states], strict=False))


def _settled(call: Call, body: Graph, states: Sequence[Value]) -> tuple[Value, ...]:
    """Return the states after a number of turns that the data decides: whatever any number of turns can make them."""
    turn = uniform((), token("turn", call.node.name))
    deciders: list[Operand] = [value for value in (*call.inputs[:2],) if isinstance(value, Cells | Constant)]
    current = [as_cells(operand(value)) for value in states]
    for _ in range(MAX_ROUNDS):
        inputs = _loop_inputs(body, turn, current, call)
        condition, *results = call.setting.follow_body(body, inputs, call.names)
        deciders.append(operand(condition))
        after = [as_cells(operand(value)) for value in results[: len(current)]]
        if any(new.shape != old.shape for new, old in zip(after, current, strict=True)):
            raise UndecidableError("the data decides how often it turns, and shapes change with it")
        joined = [pointwise((call.node.name, "turn"), [old, new]) for old, new in zip(current, after, strict=True)]
        stable = all((may(new.owners) == may(old.owners)).all() for new, old in zip(joined, current, strict=True))
        current = joined
        if stable and len(deciders) > len(current) + 2:
            break
    decider = [reduced(value, range(len(value.shape)), "going", keep=False) for value in deciders]
    ended = tuple(pointwise((call.node.name, "end"), [cells, *decider]) for cells in current)
    lost = Lost(call.node, "the data decides how many turns it takes")
    return (*ended, *(lost for _ in body.outputs[1 + len(current) :]))


def _stacked(call: Call, values: Sequence[Value]) -> Value:
    """Return the values of all turns along a new first axis."""
    if not values:
        return Lost(call.node, "it takes no turn")
    arrays = [as_cells(operand(value), tuple(range(len(operand(value).shape)))) for value in values]
    return concatenated([reshaped(array, (1, *array.shape)) for array in arrays], 0)


def scan(call: Call) -> Result:
    if call.version < 9 and call.version:
        raise UndecidableError("Scan of operator set 8 is not followed")
    body = call.graph("body")
    count = call.integer("num_scan_inputs", 1)
    first = len(call.inputs) - count
    states: list[Value] = [operand(value) for value in call.inputs[:first]]
    signals = [call.operand(first + index) for index in range(count)]
    axes = call.integers("scan_input_axes") or (0,) * count
    backwards = call.integers("scan_input_directions") or (0,) * count
    axes = tuple(axis_of(axis, len(signal.shape)) for axis, signal in zip(axes, signals, strict=True))
    length = signals[0].shape[axes[0]]
    if length > MAX_TURNS:
        raise UndecidableError(f"{length} turns are too many to follow")
    cells = [as_cells(signal, (axis,)) for signal, axis in zip(signals, axes, strict=True)]
    gathered: list[list[Value]] = [[] for _ in body.outputs[first:]]
    for turn in range(length):
        parts: list[Value] = []
        for signal, axis, back in zip(cells, axes, backwards, strict=True):
            part = sliced(signal, axis, length - 1 - turn if back else turn, 1, 1)
            parts.append(reshaped(part, [n for a, n in enumerate(part.shape) if a != axis]))
        inputs: Mapping[str, Value] = dict(zip((v.name for v in body.inputs), [*states, *parts], strict=False))
        results = call.setting.follow_body(body, inputs, call.names)
        states = list(results[:first])
        for store, value in zip(gathered, results[first:], strict=False):
            store.append(value)
    return (*states, *(_scanned(call, index, store) for index, store in enumerate(gathered)))


def _scanned(call: Call, index: int, values: Sequence[Value]) -> Value:
    """Return what all turns gave, along the axis and in the direction that the attributes say."""
    directions = call.integers("scan_output_directions")
    axes = call.integers("scan_output_axes")
    if directions and directions[index]:
        values = values[::-1]
    stacked = _stacked(call, values)
    if isinstance(stacked, Cells) and axes and axes[index]:
        axis = axis_of(axes[index], stacked.rank)
        order = [*range(1, stacked.rank)]
        order.insert(axis, 0)
        return transposed(stacked, order)
    return stacked


TABLE: dict[str, Handler] = {
    "If": if_,
    "Loop": loop,
    "Scan": scan,
}
