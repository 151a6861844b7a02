"""ATen operators that carry a state along an axis of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Table, rows
from bn_audit.flow.aten_operators.linear import projected
from bn_audit.flow.aten_operators.reducing import spread_along
from bn_audit.flow.aten_operators.shaping import swapped
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells, ShapeConflictError, UndecidableError
from bn_audit.flow.joining import concatenated
from bn_audit.flow.movement import reshaped, sliced, squeezed
from bn_audit.flow.reduction import reduced, running
from bn_audit.flow.values import Value, operand


def recurrent(arguments: Arguments) -> Result:
    """Sequences (T, N, I), or (N, T, I) with ``batch_first``; states (layers * directions, N, H)."""
    cells = arguments.cells("input")
    lacking = cells.rank == 2
    first = arguments.flag("batch_first", False)
    if lacking:
        cells, first = reshaped(cells, (cells.shape[0], 1, cells.shape[1])), False
    elif first:
        cells = swapped(cells, 0, 1)
    states = [operand(value) for value in arguments.listed("hx")] or [arguments.operand("hx")]
    initial = [_at_rank_three(as_cells(state)) for state in states]
    directions = 2 if arguments.flag("bidirectional", False) else 1
    weights = arguments.operands("params")
    each = len(weights) // (arguments.integer("num_layers", 1) * directions)
    if not each or cells.shape[1] != initial[0].shape[1]:
        raise ShapeConflictError(f"states of {initial[0].shape} for sequences of {cells.shape}")
    ends: list[Cells] = []
    for layer in range(arguments.integer("num_layers", 1)):
        parts = []
        for direction in range(directions):
            place = layer * directions + direction
            own = weights[place * each : (place + 1) * each]
            begin = [sliced(state, 0, place, 1, 1) for state in initial]
            part = carried((arguments.op, layer, direction), cells, own, begin, backwards=direction == 1)
            parts.append(part)
            ends.append(sliced(part, 0, 0 if direction else cells.shape[0] - 1, 1, 1))
        cells = concatenated(list(parts), 2) if directions == 2 else parts[0]
    final = concatenated(list(ends), 0)
    result = swapped(cells, 0, 1) if first else cells
    if lacking:
        result, final = squeezed(result, (1,)), squeezed(final, (1,))
    others: list[Value] = [final, pointwise("cell state", [final])]
    return (result, *others)[: len(arguments.call.node.outputs)]


def _at_rank_three(state: Cells) -> Cells:
    return reshaped(state, (state.shape[0], 1, state.shape[1])) if state.rank == 2 else state


def carried(
    seed: object, cells: Cells, weights: Sequence[Operand], states: Sequence[Cells], *, backwards: bool
) -> Cells:
    """Return the states (T, N, H) along the first axis, each computed from all inputs up to it.

    Args:
        weights: Of the inputs, of the states, and others.
        states: What it begins with, each (1, N, H).
    """
    hidden = states[0].shape[2]
    inner = reduced(projected(cells, weights[0], None), (2,), (seed, "gates"))
    begin = [reduced(state, (2,), (seed, "begin", index)) for index, state in enumerate(states)]
    others = [reduced(weight, range(len(weight.shape)), (seed, "weight"), keep=False) for weight in weights[1:]]
    steps = pointwise((seed, "step"), [inner, *begin, *others])
    return spread_along(running((seed, "state"), steps, 0, backwards=backwards), 2, hidden, seed)


def cell(arguments: Arguments) -> Result:
    """One step: input (N, I), state (N, H) or a pair of them."""
    cells = arguments.cells("input")
    states = [operand(value) for value in arguments.listed("hx")] or [arguments.operand("hx")]
    weights = [arguments.operand(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh") if arguments.has(name)]
    lead = cells.rank - 1
    inner = reduced(projected(cells, weights[0], None), (lead,), (arguments.op, "gates"))
    begin = [reduced(state, (lead,), (arguments.op, "begin", index)) for index, state in enumerate(states)]
    others = [reduced(weight, range(len(weight.shape)), "weight", keep=False) for weight in weights[1:]]
    step = pointwise((arguments.op, "step"), [inner, *begin, *others])
    wide = spread_along(step, lead, states[0].shape[-1], arguments.op)
    result = pointwise((arguments.op, "state"), [wide, *states])
    return (result, pointwise("cell state", [result]))[: len(arguments.call.node.outputs)]


def layer(arguments: Arguments) -> Result:
    """One layer in one direction as oneDNN runs it: sequences (T, N, I)."""
    cells = arguments.cells("input")
    if arguments.flag("bidirectional", False) or arguments.integer("num_layers", 1) != 1:
        raise UndecidableError("more than one layer in one operator is not followed")
    first = arguments.flag("batch_first", False)
    cells = swapped(cells, 0, 1) if first else cells
    weights = [arguments.operand(f"weight{index}") for index in range(4) if arguments.has(f"weight{index}")]
    states = [_at_rank_three(arguments.cells(name)) for name in ("hx_", "cx_")]
    backwards = arguments.flag("reverse", False)
    result = carried((arguments.op, backwards), cells, weights, states, backwards=backwards)
    final = sliced(result, 0, 0 if backwards else result.shape[0] - 1, 1, 1)
    result = swapped(result, 0, 1) if first else result
    return result, final, pointwise("cell state", [final]), arguments.constant(np.zeros(0, np.uint8))


TABLE: Table = rows(
    ("lstm.input gru.input rnn_tanh.input rnn_relu.input", recurrent),
    ("lstm_cell.default gru_cell.default rnn_tanh_cell.default rnn_relu_cell.default", cell),
    ("mkldnn_rnn_layer.default", layer),
)
