"""Combining arrays element by element.

Every operator of every dialect comes down to this and to the choices, reductions, moves and contractions in the modules
beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from bn_audit.flow.cells import (
    DOUBT,
    EACH,
    FLAGS,
    FORGIVE,
    LINE,
    LOWEST,
    MET,
    SAME,
    SAMPLES,
    TRUE,
    ZERO,
    Cells,
    ShapeConflictError,
    absolute,
    every,
    explicit,
    grid,
    less_certain,
    may,
    packed,
    several,
    some,
)
from bn_audit.flow.constants import Constant
from bn_audit.flow.patterns import with_patterns
from bn_audit.flow.spans import Span, compared, marked, moved, product_of, span_of, sum_of
from bn_audit.flow.tokens import Bits, mixed, token

Operand: TypeAlias = Cells | Constant


@dataclass(frozen=True, slots=True)
class Aligned:
    """Operands on one grid.

    Attributes:
        pattern: Which of the LINE axes of the result each operand has; part of the form of whatever is computed.
    """

    shape: tuple[int, ...]
    kinds: tuple[int, ...]
    operands: tuple[Cells, ...]
    pattern: tuple[int, ...]


def broadcast_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape to which all `shapes` broadcast.

    Raises:
        ShapeConflictError: they do not.
    """
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                if result[axis] not in (1, size):
                    raise ShapeConflictError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
                result[axis] = size
    return tuple(result)


def as_cells(operand: Operand, each: tuple[int, ...] = ()) -> Cells:
    """Return the cells of an operand, with a cell for every index of `each` where the values are known."""
    return operand if isinstance(operand, Cells) else operand.cells(each)


def at_rank(cells: Cells, rank: int) -> Cells:
    """Return the cells with axes of size 1 put in front."""
    new = rank - cells.rank
    if new <= 0:
        return cells
    front = (1,) * new
    return replace(
        cells,
        shape=front + cells.shape,
        kinds=(SAME,) * new + cells.kinds,
        owners=cells.owners.reshape(front + cells.owners.shape),
        forms=(forms := cells.forms.reshape(front + cells.forms.shape)),
        range=moved(cells.span, forms, lambda numbers: numbers.reshape(front + numbers.shape)),
    )


def aligned(operands: Sequence[Operand]) -> Aligned:
    """Return the operands with cells for every index of any axis along which one of them has such cells."""
    shape = broadcast_shape([operand.shape for operand in operands])
    rank = len(shape)
    each: set[int] = set()
    for operand in operands:
        if isinstance(operand, Cells):
            offset = rank - operand.rank
            each.update(axis + offset for axis, kind in enumerate(operand.kinds) if kind == EACH)
    grid(tuple(shape[axis] for axis in each))
    placed: list[Cells] = []
    for operand in operands:
        offset = rank - len(operand.shape)
        own = tuple(axis - offset for axis in each if axis >= offset)
        cells = as_cells(operand, own)
        # A repeated axis needs no cells of its own: the arrays broadcast.
        lines = tuple(axis for axis in own if cells.kinds[axis] == LINE)
        placed.append(at_rank(explicit(cells, lines) if lines else cells, rank))
    kinds = tuple(
        EACH if axis in each else LINE if any(cells.kinds[axis] == LINE for cells in placed) else SAME
        for axis in range(rank)
    )
    lines = tuple(axis for axis, kind in enumerate(kinds) if kind == LINE)
    pattern = tuple(sum(1 << i for i, axis in enumerate(lines) if c.kinds[axis] == LINE) for c in placed)
    return Aligned(shape, kinds, tuple(placed), pattern)


def pointwise(seed: object, operands: Sequence[Operand], *, selects: bool | None = None) -> Cells:
    """Return what a function of corresponding elements gives.

    Args:
        seed: What tells this function from others: the operator and its attributes.
        operands: Broadcast against each other as in numpy.
        selects: Whether the result can be zero depending on the data; None where it is so if all operands are.
    """
    on_grid = aligned(operands)
    return joined(seed, on_grid, selects)


def joined(seed: object, on_grid: Aligned, selects: bool | None = None) -> Cells:
    """Return what a function of the corresponding elements of aligned operands gives."""
    first, *others = on_grid.operands
    owners = first.owners
    by = token("pointwise", seed, on_grid.pattern)
    forms = mixed(first.forms, by)
    for other in others:
        owners = owners | other.owners
        forms = mixed(forms, other.forms)
    if others and (met := several(may(owners))).any():
        named = mixed(absolute(first.owners, first.forms), by)
        for other in others:
            named = mixed(named, absolute(other.owners, other.forms))
        forms = np.where(met, named, forms)
    if others and owners.size and (owners & FORGIVE).any():
        owners = forgiven(owners, first.owners)
    if selects is None:
        selects = all(cells.selects for cells in on_grid.operands)
    along = tuple(size if kind == EACH else 1 for size, kind in zip(on_grid.shape, on_grid.kinds, strict=True))
    if owners.shape != along:
        owners = np.broadcast_to(owners, along)
    if forms.shape != along:
        forms = np.broadcast_to(forms, along)
    return Cells(on_grid.shape, on_grid.kinds, owners, forms, selects)


def forgiven(owners: Bits, kept: Bits | None) -> Bits:
    """Return the owners where samples that meet are forgotten: those of `kept` remain, or none."""
    met = several(may(owners)) & ((owners & FORGIVE) != 0)
    if not met.any():
        return owners
    remaining = np.zeros_like(owners) if kept is None else np.broadcast_to(kept, owners.shape)
    remaining = np.where(several(may(remaining)), np.uint64(0), remaining)
    return np.where(met, remaining | FORGIVE | MET, owners)


def keeping_zero(seed: object, cells: Cells, selects: bool | None = None) -> Cells:
    """Return what a function gives that maps zero to zero."""
    result = pointwise(seed, [cells], selects=selects)
    return with_constant(result, np.broadcast_to(cells.forms == ZERO, result.forms.shape), ZERO)


def with_constant(cells: Cells, where: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], form: np.uint64) -> Cells:
    """Return the cells with a known constant at some of them."""
    if not where.any():
        return cells
    owners = np.where(where, cells.owners & FORGIVE, cells.owners)
    return replace(cells, owners=owners, forms=np.where(where, form, cells.forms))


def product(seed: object, operands: Sequence[Operand]) -> Cells:
    """Return an element-wise product: zero where an operand is known to be zero, for finite values of the others."""
    tracked = [operand for operand in operands if isinstance(operand, Cells)]
    mixes = any(several(may(cells.owners)).any() for cells in tracked)
    # A zero weight undoes what mixed, so it is looked for only then.
    if mixes and any(isinstance(operand, Constant) and operand.is_zero() for operand in operands):
        return all_zero(broadcast_shape([operand.shape for operand in operands]))
    operands = with_patterns(operands)
    on_grid = aligned(operands)
    result = joined(seed, on_grid, any(cells.selects for cells in on_grid.operands))
    zero = np.zeros(result.forms.shape, bool)
    for cells in on_grid.operands:
        zero = zero | (cells.forms == ZERO)
    result = with_constant(_where_not_zero(result, on_grid, operands), zero, ZERO)
    return _spanned(result, on_grid, product_of) if len(on_grid.operands) == 2 else result


def _where_not_zero(result: Cells, on_grid: Aligned, operands: Sequence[Operand]) -> Cells:
    """Return a product without claims on every element where an operand may be zero for some of them."""
    for cells, operand in zip(on_grid.operands, operands, strict=True):
        if isinstance(operand, Constant):
            partly = np.array(operand.has_zeros())
        else:
            partly = (every(cells.owners) == 0) & (some(cells.owners) != 0)
        if partly.any():
            kept = packed(result.owners & (SAMPLES | FLAGS), some(result.owners), every(cells.owners))
            result = replace(result, owners=np.where(partly, kept, result.owners))
    return result


def all_zero(shape: tuple[int, ...]) -> Cells:
    """Return the cells of an array of zeros."""
    ones = (1,) * len(shape)
    return Cells(shape, (SAME,) * len(shape), np.zeros(ones, np.uint64), np.zeros(ones, np.uint64))


def added(seed: object, operands: Sequence[Operand], *, minus: bool = False) -> Cells:
    """Return an element-wise sum (or the difference of two operands).

    A zero adds nothing; minus infinity stays what it is; the difference of equal functions of one sample is zero.
    """
    on_grid = aligned(operands)
    result = joined(seed, on_grid)
    if len(on_grid.operands) != 2:
        return result
    left, right = on_grid.operands
    if minus:
        alike = (left.forms == right.forms) & (left.owners == right.owners) & ((left.owners & DOUBT) == 0)
        if on_grid.pattern[0] == on_grid.pattern[1]:
            result = with_constant(result, np.broadcast_to(alike, result.forms.shape), ZERO)
        result = _neutral(result, on_grid, ((right, left, 0),))
        return _spanned(result, on_grid, partial(sum_of, minus=True))
    lowest = (left.forms == LOWEST) | (right.forms == LOWEST)
    result = with_constant(result, np.broadcast_to(lowest, result.forms.shape), LOWEST)
    result = _neutral(result, on_grid, ((right, left, 0), (left, right, 1)))
    return _spanned(result, on_grid, partial(sum_of, minus=False))


def _spanned(result: Cells, on_grid: Aligned, combine: Callable[[Bits, Span, Span], Span | None]) -> Cells:
    """Return the result of two operands with its range, where theirs are known."""
    left, right = (cells.span for cells in on_grid.operands)
    if left is None or right is None:
        return result
    lines = sum(kind == LINE for kind in on_grid.kinds)
    left, right = (marked(s, p, lines) for s, p in zip((left, right), on_grid.pattern, strict=True))
    return replace(result, range=combine(result.forms, left, right))


def comparison(seed: object, operator: str, operands: Sequence[Operand]) -> Cells:
    """Return a comparison of two arrays, decided where their ranges decide it."""
    on_grid = aligned(operands)
    result = joined(seed, on_grid, True)
    left, right = (cells.span for cells in on_grid.operands)
    if left is not None and right is not None:
        always, never = compared(operator, left, right)
        result = with_constant(result, np.broadcast_to(always, result.forms.shape), TRUE)
        result = with_constant(result, np.broadcast_to(never, result.forms.shape), ZERO)
    return truth(result)


def truth(cells: Cells) -> Cells:
    """Return the cells of a mask, whose elements are 0 or 1."""
    low, high = (np.where(cells.forms == form, value, 1 - value) * 1.0 for form, value in ((TRUE, 1), (ZERO, 0)))
    return replace(cells, range=span_of(cells.forms, low, high, cells.forms))


def quotient(seed: object, left: Operand, right: Operand) -> Cells:
    """Return an element-wise quotient: zero where the numerator is, for divisors other than zero."""
    on_grid = aligned([left, right])
    numerator, divisor = on_grid.operands
    if numerator.selects and several(may(divisor.owners)).any():
        on_grid = replace(on_grid, operands=(numerator, less_certain(divisor)))
    result = joined(seed, on_grid, numerator.selects)
    return with_constant(result, np.broadcast_to(numerator.forms == ZERO, result.forms.shape), ZERO)


def _neutral(result: Cells, on_grid: Aligned, cases: Sequence[tuple[Cells, Cells, int]]) -> Cells:
    """Return the result with what remains of one operand where the other is zero."""
    for zero, kept, index in cases:
        # The kept operand's form takes fewer indices than the result's where it is repeated along a LINE axis.
        if on_grid.pattern[index] == (1 << sum(kind == LINE for kind in on_grid.kinds)) - 1:
            where = np.broadcast_to(zero.forms == ZERO, result.forms.shape)
            if where.any():
                forms = np.where(where, kept.forms, result.forms)
                owners = np.where(where, kept.owners, result.owners)
                result = replace(result, forms=forms, owners=owners)
    return result
