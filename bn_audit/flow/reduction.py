"""Reducing axes, and normalising along them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import Operand, all_zero, as_cells, forgiven, pointwise, with_constant
from bn_audit.flow.cells import (
    EACH,
    FLAGS,
    LINE,
    LOW,
    LOWEST,
    SAME,
    SAMPLES,
    ZERO,
    Cells,
    absolute,
    all_from_some,
    at_most,
    every,
    in_order,
    may,
    packed,
    several,
    some,
    tidied,
    uniform,
)
from bn_audit.flow.spans import running_total_of, total_of
from bn_audit.flow.tokens import Bits, mixed, token

IDEMPOTENT = frozenset({"mean", "max", "min"})
"""Reductions that give an element back where all elements are equal."""
ADDITIVE = frozenset({"sum", "mean"})
"""Reductions that zeros do not change, but for the count that a mean divides by."""
PLAIN = IDEMPOTENT | ADDITIVE
"""Reductions of zeros that give zero, and of minus infinities minus infinity."""


def dropped(cells: Cells, axes: Sequence[int]) -> Cells:
    """Return the cells without the given axes, which are of size 1."""
    kept = [axis for axis in range(cells.rank) if axis not in axes]
    along = tuple(cells.owners.shape[axis] for axis in kept)
    return replace(
        cells,
        shape=tuple(cells.shape[axis] for axis in kept),
        kinds=tuple(cells.kinds[axis] for axis in kept),
        owners=cells.owners.reshape(along),
        forms=cells.forms.reshape(along),
    )


def reduced(
    operand: Operand,
    axes: Sequence[int],
    seed: object,
    *,
    keep: bool = True,
    kind: str = "other",
    ordered: bool = False,
) -> Cells:
    """Return what a reduction of `axes` gives.

    Args:
        seed: The operator and its attributes.
        keep: Whether the axes stay, with size 1.
        kind: ``sum``, ``mean``, ``max``, ``min``, ``exponential`` (a sum of exponentials) or anything else.
        ordered: Whether the order of the elements counts.
    """
    cells = as_cells(operand)
    axes = tuple(axes)
    if kind in IDEMPOTENT and any(cells.kinds[axis] == EACH for axis in axes):
        cells = tidied(cells)
    given = cells
    cells = _within_cells(cells, axes, seed, kind)
    each = tuple(axis for axis in axes if cells.kinds[axis] == EACH)
    if each:
        cells = _over_cells(cells, each, seed, kind, ordered)
    if kind == "sum" and given.span is not None:
        times = math.prod(given.shape[axis] for axis in axes if axis not in each)
        cells = replace(cells, range=total_of(cells.forms, given.span, each, times))
    return cells if keep else dropped(cells, axes)


def _within_cells(cells: Cells, axes: tuple[int, ...], seed: object, kind: str) -> Cells:
    """Reduce the axes along which one cell stands for all indices."""
    lines = tuple(axis for axis in axes if cells.kinds[axis] == LINE)
    repeated = tuple(a for a in axes if cells.kinds[a] == SAME and cells.shape[a] > 1 and kind not in IDEMPOTENT)
    owners, forms = cells.owners, cells.forms
    if lines or repeated or (kind not in (*IDEMPOTENT, "sum") and all(cells.kinds[a] != EACH for a in axes)):
        places = tuple((cells.lines_before(axis), cells.shape[axis]) for axis in lines)
        by = token("reduce", seed, places, tuple(cells.shape[axis] for axis in repeated))
        fixed = (forms <= LOWEST) if kind in PLAIN else (forms == LOWEST) & (kind == "exponential")
        forms = np.where(fixed, forms, mixed(forms, by))
    if lines and all(axis in lines for axis, other in enumerate(cells.kinds) if other == LINE):
        owners = all_from_some(owners)
    done = (*lines, *(axis for axis in axes if cells.kinds[axis] == SAME))
    return replace(
        cells,
        shape=tuple(1 if axis in done else size for axis, size in enumerate(cells.shape)),
        kinds=tuple(SAME if axis in done else k for axis, k in enumerate(cells.kinds)),
        owners=owners,
        forms=forms,
        selects=cells.selects,
    )


def _over_cells(cells: Cells, each: tuple[int, ...], seed: object, kind: str, ordered: bool) -> Cells:
    """Reduce the axes along which every index has its cell."""
    by = token("reduce cells", seed)
    owners = np.bitwise_or.reduce(cells.owners, axis=each, keepdims=True)
    # Zeros and infinities are told apart by their forms, so only forms that are marked with a sample change.
    forms = np.where(several(may(owners)), absolute(cells.owners, cells.forms), cells.forms)
    if ordered:
        for axis in each:
            forms = in_order(forms, axis, by)
    else:
        forms = _sum_of(mixed(forms, by), forms, each, kind)
    if kind == "mean":
        count = int(np.prod([cells.shape[axis] for axis in each]))
        forms = np.where(forms == ZERO, ZERO, mixed(forms, token("count", count)))
    return replace(
        cells,
        shape=tuple(1 if axis in each else size for axis, size in enumerate(cells.shape)),
        kinds=tuple(SAME if axis in each else k for axis, k in enumerate(cells.kinds)),
        owners=forgiven(owners, None),
        forms=forms,
    )


def _sum_of(marked: Bits, forms: Bits, axes: tuple[int, ...], kind: str) -> Bits:
    """Return a form that does not depend on the order of the cells, without those that add nothing."""
    if kind in ADDITIVE:
        marked = np.where(forms == ZERO, ZERO, marked)
    elif kind in ("exponential", "max"):
        marked = np.where(forms == LOWEST, ZERO, marked)
    total = np.add.reduce(marked, axis=axes, keepdims=True)
    if kind in ("exponential", "max"):
        return np.where((forms == LOWEST).all(axis=axes, keepdims=True), LOWEST, total)
    return total


def normalised(seed: object, operand: Operand, axes: Sequence[int], *, kind: str = "mean") -> Cells:
    """Return an array in which every element depends on itself and on all along `axes`, as in a softmax or norm."""
    cells = as_cells(operand)
    if kind == "mean" and all(cells.shape[axis] == 1 for axis in axes):
        # A single element less its own mean is zero, but for rounding.
        cells = replace(cells, owners=at_most(cells.owners))
    statistic = reduced(cells, axes, (seed, "statistic"), kind=kind)
    return pointwise(seed, [cells, statistic], selects=False)


def softmax(seed: object, operand: Operand, axes: Sequence[int]) -> Cells:
    """Return a softmax: zero where the score is minus infinity, which counts for nothing elsewhere."""
    each = tuple(range(len(operand.shape)))
    cells = as_cells(operand, each if not isinstance(operand, Cells) else ())
    if (cells.owners & LOW).any():
        # Whether a weight of practically nothing lets anything through depends on the data.
        faint = ((cells.owners & LOW) != 0) & (cells.forms != LOWEST)
        cells = replace(cells, owners=np.where(faint, at_most(cells.owners), cells.owners) & ~LOW)
    if all(cells.shape[axis] == 1 for axis in axes):
        return uniform(cells.shape, token("one"), repeated=True)
    result = normalised(seed, cells, axes, kind="exponential")
    return with_constant(result, np.broadcast_to(cells.forms == LOWEST, result.forms.shape), ZERO)


def running(
    seed: object, operand: Operand, axis: int, *, backwards: bool = False, exclusive: bool = False, sums: bool = False
) -> Cells:
    """Return an array in which every element depends on those before it along `axis`, and on itself.

    Args:
        exclusive: The element itself is left out; what has none before it is zero.
        sums: The function is a sum: zeros do not count, nor does the order.
    """
    cells = as_cells(operand)
    result = _running(seed, cells, axis, (backwards, exclusive, sums))
    if sums and cells.span is not None:
        result = replace(result, range=running_total_of(result.forms, cells.span, axis, cells.shape[axis]))
    return result


def _running(seed: object, cells: Cells, axis: int, how: tuple[bool, bool, bool]) -> Cells:
    backwards, exclusive, sums = how
    if cells.kinds[axis] != EACH:
        flags = (backwards, exclusive, cells.kinds[axis], cells.shape[axis])
        by = token("running", seed, cells.lines_before(axis), flags)
        if exclusive and cells.shape[axis] == 1:
            return all_zero(cells.shape)
        if exclusive:
            # The first element along the axis has none before it.
            cells = replace(
                cells, owners=packed(cells.owners & (SAMPLES | FLAGS), some(cells.owners), every(cells.owners) * ZERO)
            )
        kinds = tuple(LINE if a == axis and cells.shape[axis] > 1 else k for a, k in enumerate(cells.kinds))
        return replace(cells, forms=mixed(cells.forms, by), kinds=kinds)
    step = -1 if backwards else 1
    turn = tuple(slice(None, None, step) if a == axis else slice(None) for a in range(cells.rank))
    owners = np.bitwise_or.accumulate(cells.owners[turn], axis=axis)
    if exclusive:
        owners = _shifted(owners, axis)
    owners = owners[turn]

    def accumulated(marks: Bits) -> Bits:
        steps = mixed(marks, token("running cells", seed))
        if sums:
            steps = np.where(marks == ZERO, ZERO, steps)
        else:
            places = np.arange(cells.shape[axis], dtype=np.uint64)[::step]
            steps = mixed(steps, places.reshape(tuple(-1 if a == axis else 1 for a in range(cells.rank))))
        total = np.add.accumulate(steps[turn], axis=axis)
        return _shifted(total, axis)[turn] if exclusive else total[turn]

    met = several(may(owners))
    forms = accumulated(cells.forms)
    if met.any():
        forms = np.where(met, accumulated(absolute(cells.owners, cells.forms)), forms)
    return replace(cells, owners=forgiven(owners, cells.owners), forms=forms)


def _shifted(bits: Bits, axis: int) -> Bits:
    first = (slice(None),) * axis
    return np.concatenate([np.zeros_like(bits[(*first, slice(0, 1))]), bits[(*first, slice(0, -1))]], axis=axis)
