"""ONNX operators that run a cell along the time axis."""

from __future__ import annotations

from bn_audit.flow.algebra import Operand, as_cells, pointwise
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import Cells, ShapeConflictError
from bn_audit.flow.joining import concatenated
from bn_audit.flow.movement import broadcast, reshaped, sliced, transposed
from bn_audit.flow.onnx_operators.reducing import spread_line
from bn_audit.flow.reduction import reduced, running

WEIGHTS = (1, 2, 3, 7)
LENGTHS = 4
STATES = (5, 6)

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def recurrent(call: Call) -> Result:
    """X (T, B, I) gives Y (T, D, B, H), Y_h and Y_c (D, B, H); with layout 1 the batch comes first."""
    return unrolled(call, as_cells(call.operand(0)), WEIGHTS)


def unrolled(call: Call, signal: Cells, weights: tuple[int, ...]) -> Result:
    """Return the outputs of a recurrent operator; `weights` are the inputs shared by all samples and times."""
    batch_first = call.integer("layout", 0) == 1
    if signal.rank != 3:
        raise ShapeConflictError(f"a sequence of shape {signal.shape}")
    if batch_first:
        signal = transposed(signal, (1, 0, 2))
    steps, batch, _ = signal.shape
    hidden = call.integer("hidden_size", call.operand(2).shape[-1])
    seed = (call.node.op, call.seed)
    driven = reduced(signal, (2,), seed, ordered=True)
    for index in weights:
        if call.has(index):
            weight = reduced(call.operand(index), range(len(call.operand(index).shape)), (seed, index), keep=False)
            driven = pointwise((seed, index), [driven, weight], selects=False)
    if call.has(LENGTHS):
        driven = pointwise((seed, "lengths"), [driven, reshaped(as_cells(call.operand(LENGTHS)), (1, batch, 1))])
    directions = DIRECTIONS.get(call.text("direction", "forward"), (False,))
    states = [_state(call, index, batch, batch_first) for index in STATES if call.has(index)]
    every, last = [], []
    for place, backwards in enumerate(directions):
        along = running(seed, driven, 0, backwards=backwards)
        end = reduced(driven, (0,), (seed, "last", backwards), ordered=True)
        starts: list[Operand] = [reshaped(sliced(state, 0, place, 1, 1), (1, batch, 1)) for state in states]
        every.append(_hidden(pointwise((seed, backwards), [along, *starts], selects=False), hidden, seed))
        last.append(_hidden(pointwise((seed, backwards), [end, *starts], selects=False), hidden, seed))
    outputs = concatenated([reshaped(cells, (steps, 1, batch, hidden)) for cells in every], 1)
    state = concatenated(last, 0)
    cell = pointwise((seed, "cell"), [state])
    if batch_first:
        outputs, state, cell = (
            transposed(outputs, (2, 0, 1, 3)),
            transposed(state, (1, 0, 2)),
            transposed(cell, (1, 0, 2)),
        )
    return outputs, state, cell


def _hidden(cells: Cells, hidden: int, seed: object) -> Cells:
    return spread_line(cells, cells.rank - 1, hidden, seed)


def _state(call: Call, index: int, batch: int, batch_first: bool) -> Cells:
    """Return an initial state as one function of each direction and sample, shape (D, B, 1)."""
    operand = call.operand(index)
    cells = operand if isinstance(operand, Cells) else operand.cells((0 if batch_first else 1,))
    if batch_first:
        cells = transposed(cells, (1, 0, 2))
    if cells.shape[1] != batch:
        cells = broadcast(cells, (cells.shape[0], batch, cells.shape[2]))
    return reduced(cells, (2,), ("state", index), ordered=True)


TABLE: dict[str, Handler] = {"RNN": recurrent, "LSTM": recurrent, "GRU": recurrent}
