"""What each ATen operator does to the place of the samples within a value.

Operators that are not listed decide nothing, unless the recorded shapes show that the leading axis stayed.
"""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.flow.keepers import BATCH_NORMS, CASTS, CONSTANTS, ELEMENTWISE, FIRST_OPERAND, KEEPERS, RANDOM
from bn_audit.flow.placement import Along, Folded, Operation, Placement, Shape, Special
from bn_audit.flow.shaping import MOVES, RESHAPES, reshaped, unfolded


def placement_after(operation: Operation, places: Sequence[Placement], shapes: Sequence[Shape]) -> Placement:
    """Return where the samples lie in the output of an operation.

    Args:
        places: Where they lie in each of its inputs.
        shapes: Shape of each input, None where not recorded.
    """
    op = operation.op
    if not places:
        sized = (*operation.integers, *(operation.shape or ()))
        return Special.FREE if op in CONSTANTS and all(isinstance(size, int) for size in sized) else Special.UNKNOWN
    if all(place is Special.FREE for place in places):
        return Special.UNKNOWN if op in RANDOM else Special.FREE
    first, shape = places[0], shapes[0]
    if op in CASTS:
        return first
    if op in ELEMENTWISE:
        return _broadcast(operation, places, shapes)
    if op in FIRST_OPERAND:
        place = places[min(FIRST_OPERAND[op], len(places) - 1)]
        return place if isinstance(place, Folded) and op in BATCH_NORMS else _kept(place)
    if op in KEEPERS:
        return next((place for place in map(_kept, places) if place is not Special.UNKNOWN), Special.UNKNOWN)
    if op in RESHAPES and isinstance(first, Folded):
        return unfolded(operation, first)
    if not isinstance(first, Along):
        return Special.UNKNOWN
    if op in RESHAPES:
        return reshaped(operation, first, shape)
    move = MOVES.get(op)
    if move is not None:
        return move(operation, first, shape)
    same = shape and operation.shape and shape[0] == operation.shape[0] and shape[0] not in (None, 0, 1)
    return Along(axis=0, whole=False) if same and first.axis == 0 else Special.UNKNOWN


def _kept(place: Placement) -> Placement:
    """Operators that compute along every axis but 0."""
    return place if isinstance(place, Along) and place.axis == 0 else Special.UNKNOWN


def _broadcast(operation: Operation, places: Sequence[Placement], shapes: Sequence[Shape]) -> Placement:
    axes = set()
    whole = True
    for place, shape in zip(places, shapes, strict=True):
        if isinstance(place, Folded):
            others = [other for other in places if other is not place and other is not Special.FREE]
            return Special.UNKNOWN if others or shape is None or shape != operation.shape else place
        if isinstance(place, Along):
            known = shape is not None and operation.shape is not None
            shift = len(operation.shape or ()) - len(shape or ()) if known else 0
            axes.add(place.axis + shift)
            whole = whole and place.whole
        elif place is not Special.FREE:
            whole = False
    if len(axes) != 1:
        return Special.UNKNOWN
    axis = axes.pop()
    return Along(axis=axis, whole=whole) if axis >= 0 else Special.UNKNOWN
