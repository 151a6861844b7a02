"""ONNX operators on sequences and optional values."""

from __future__ import annotations

import numpy as np

from bn_audit.flow.algebra import as_cells
from bn_audit.flow.call import Call, Handler, Result
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.joining import concatenated
from bn_audit.flow.movement import axis_of, reshaped
from bn_audit.flow.onnx_operators.shaping import pieces
from bn_audit.flow.values import Several, operand

MAX_PARTS = 256
"""Parts of a sequence that are followed."""


def sequence_of(call: Call, index: int) -> Several:
    value = call.inputs[index]
    if isinstance(value, Several):
        return value
    raise UndecidableError("a sequence is missing")


def place_in(call: Call, index: int, count: int) -> int:
    place = call.whole(index)[0]
    if not -count <= place <= count:
        raise UndecidableError(f"there is no place {place} in a sequence of {count}")
    return place if place >= 0 else place + count


def sequence_construct(call: Call) -> Result:
    return Several(tuple(value for value in call.inputs if value is not None))


def sequence_empty(_: Call) -> Result:
    return Several(())


def sequence_insert(call: Call) -> Result:
    items = list(sequence_of(call, 0).items)
    items.insert(place_in(call, 2, len(items)) if call.has(2) else len(items), call.operand(1))
    return Several(tuple(items))


def sequence_erase(call: Call) -> Result:
    items = list(sequence_of(call, 0).items)
    del items[place_in(call, 1, len(items)) if call.has(1) else -1]
    return Several(tuple(items))


def sequence_at(call: Call) -> Result:
    items = sequence_of(call, 0).items
    return items[place_in(call, 1, len(items))]


def sequence_length(call: Call) -> Result:
    return call.constant(np.array(len(sequence_of(call, 0).items), np.int64))


def concat_from_sequence(call: Call) -> Result:
    parts = [operand(item) for item in sequence_of(call, 0).items]
    axis = call.integer("axis", 0)
    if call.integer("new_axis", 0):
        place = axis_of(axis, len(parts[0].shape) + 1)
        cells = [as_cells(part) for part in parts]
        parts = [reshaped(part, (*part.shape[:place], 1, *part.shape[place:])) for part in cells]
        return concatenated(parts, place)
    return concatenated(parts, axis_of(axis, len(parts[0].shape)))


def split_to_sequence(call: Call) -> Result:
    cells = as_cells(call.operand(0))
    axis = axis_of(call.integer("axis", 0), cells.rank)
    size = cells.shape[axis]
    if call.has(1) and call.operand(1).shape:
        sizes = call.whole(1)
    else:
        step = max(1, call.whole(1)[0] if call.has(1) else 1)
        sizes = tuple(min(step, size - start) for start in range(0, size, step))
    if len(sizes) > MAX_PARTS:
        raise UndecidableError(f"a sequence of {len(sizes)} parts is too long to follow")
    parts = pieces(cells, axis, sizes)
    if not call.has(1) and not call.integer("keepdims", 1):
        parts = tuple(reshaped(part, [n for a, n in enumerate(part.shape) if a != axis]) for part in parts)
    return Several(parts)


def sequence_map(call: Call) -> Result:
    body, first = call.graph("body"), sequence_of(call, 0)
    results = []
    for index, item in enumerate(first.items):
        others = [
            value.items[index] if isinstance(value, Several) else value
            for value in call.inputs[1:]
            if value is not None
        ]
        inputs = dict(zip((value.name for value in body.inputs), [item, *others], strict=False))
        results.append(call.setting.follow_body(body, inputs, call.names))
    return tuple(Several(tuple(column)) for column in zip(*results, strict=True))


def optional(call: Call) -> Result:
    return Several(tuple(value for value in call.inputs[:1] if value is not None))


def optional_get(call: Call) -> Result:
    value = call.inputs[0]
    if isinstance(value, Several) and len(value.items) == 1:
        return value.items[0]
    return value if value is not None else Several(())


def optional_has(call: Call) -> Result:
    value = call.inputs[0] if call.inputs else None
    given = value is not None and not (isinstance(value, Several) and not value.items)
    return call.constant(np.array(given))


TABLE: dict[str, Handler] = {
    "SequenceConstruct": sequence_construct,
    "SequenceEmpty": sequence_empty,
    "SequenceInsert": sequence_insert,
    "SequenceErase": sequence_erase,
    "SequenceAt": sequence_at,
    "SequenceLength": sequence_length,
    "SequenceMap": sequence_map,
    "ConcatFromSequence": concat_from_sequence,
    "SplitToSequence": split_to_sequence,
    "Optional": optional,
    "OptionalGetElement": optional_get,
    "OptionalHasElement": optional_has,
}
