"""Finding the node at which something first happened, back from the value where it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bn_audit.flow.cells import Cells, may
from bn_audit.flow.following import Run, Step
from bn_audit.flow.tokens import Bits, mixed, token
from bn_audit.flow.values import Several, Value


def first_step(run: Run, end: Value, shows: Callable[[int, Value], bool]) -> Step | None:
    """Return the first node, among those that `end` was computed from, that has an output on which it shows but no
    such input.

    Args:
        shows: Whether it shows on a value, given with the index of the step that it belongs to.
    """
    makers = makers_of(run)
    found: list[int] = []
    seen: set[int] = set()
    queue: list[Value] = [end]
    while queue:
        value = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Several):
            queue.extend(value.items)
        index = makers.get(id(value))
        if index is None:
            continue
        step = run.steps[index]
        if not any(shows(index, operand) for operand in step.inputs) and any(shows(index, out) for out in step.outputs):
            found.append(index)
        queue.extend(step.inputs)
    return run.steps[min(found)] if found else None


def makers_of(run: Run) -> dict[int, int]:
    """Return the index of the step that made each value, by the value's identity."""
    makers: dict[int, int] = {}
    for index, step in enumerate(run.steps):
        for output in step.outputs:
            makers.setdefault(id(output), index)
    return makers


def signature(value: Value, batch_size: int) -> Bits | None:
    """Return a token of what each sample alone owns in a value; zero where it owns nothing. None for constants."""
    if not isinstance(value, Cells) or not value.owners.size:
        return None
    reach = may(value.owners)
    sums = np.zeros(batch_size, np.uint64)
    marked = mixed(np.broadcast_to(value.forms, reach.shape), token("signature"))
    for sample in range(batch_size):
        own = reach == np.uint64(1 << sample)
        if own.any():
            sums[sample] = np.add.reduce(marked[own], axis=None)
    return sums if sums.any() else None


def is_uneven(value: Value, batch_size: int) -> bool:
    """Whether two samples own different functions of themselves in a value."""
    sums = signature(value, batch_size)
    if sums is None:
        return False
    present = sums[sums != 0]
    return bool((present != present[0]).any())


def differs(left: Value, right: Value, sizes: tuple[int, int]) -> bool:
    """Whether a sample owns different functions of itself in the same value at two batch sizes."""
    one, two = signature(left, sizes[0]), signature(right, sizes[1])
    if one is None or two is None:
        return False
    return bool(one[0] and two[0] and one[0] != two[0])


def counterpart(run: Run, other: Run, index: int, value: Value) -> Value | None:
    """Return the value of another run that corresponds to an input or output of a step."""
    if index >= len(other.steps) or other.steps[index].node is not run.steps[index].node:
        return None
    mine, yours = run.steps[index], other.steps[index]
    for own, theirs in ((mine.outputs, yours.outputs), (mine.inputs, yours.inputs)):
        place = _place(own, value)
        if place is not None and place < len(theirs):
            return theirs[place]
    return None


def _place(values: Sequence[Value], value: Value) -> int | None:
    return next((index for index, other in enumerate(values) if other is value), None)
