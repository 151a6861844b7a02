"""Sums of products over common axes: matrix products, einsum and, with windows, convolutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import Operand, product
from bn_audit.flow.cells import (
    DOUBT,
    EACH,
    Cells,
    ShapeConflictError,
    at_most,
    less_certain,
    may,
    several,
    some,
    tidied,
)
from bn_audit.flow.movement import reshaped, transposed
from bn_audit.flow.patterns import patterned
from bn_audit.flow.reduction import reduced


def contracted(seed: object, operands: Sequence[Operand], terms: Sequence[str], out: str) -> Cells:
    """Return the sum of products that an einsum equation names, letter by letter.

    Args:
        terms: One letter for each axis of each operand, no letter twice in a term.
        out: The letters of the result; the others are summed.

    Raises:
        ShapeConflictError: a letter has two sizes.
    """
    sizes = letter_sizes(operands, terms)
    summed = [letter for letter in sizes if letter not in out]
    order = [*out, *summed]
    opened = [_opened(operand, term, operands, terms, sizes) for operand, term in zip(operands, terms, strict=True)]
    placed = [_placed(cells, term, order) for cells, term in zip(opened, terms, strict=True)]
    total = placed[0]
    for index, other in enumerate(placed[1:]):
        total = product((seed, index), [total, other])
    axes = tuple(range(len(out), len(order)))
    over_cells = any(total.kinds[axis] == EACH for axis in axes)
    undoes = axes and any(_undoes(cells, placed) for cells in placed)
    total = reduced(total, axes, (seed, "sum"), keep=False, kind="sum")
    if undoes:
        total = less_certain(total)
    total = replace(total, selects=all(cells.selects for cells in placed))
    if over_cells and not any((cells.owners & DOUBT).any() for cells in opened):
        # Weights that were not read may be zero wherever samples would meet.
        unread = ((total.owners & DOUBT) != 0) & several(some(total.owners))
        total = replace(total, owners=np.where(unread, at_most(total.owners), total.owners))
    return tidied(total)


def _undoes(cells: Cells, operands: Sequence[Cells]) -> bool:
    """Whether this operand is a mask that may pick from a mixture in another just what belongs to its own sample."""
    return cells.selects and any(several(may(other.owners)).any() for other in operands if other is not cells)


def letter_sizes(operands: Sequence[Operand], terms: Sequence[str]) -> dict[str, int]:
    """Return the size of each letter; size 1 gives way to any other."""
    sizes: dict[str, int] = {}
    for operand, term in zip(operands, terms, strict=True):
        if len(term) != len(operand.shape):
            raise ShapeConflictError(f"an operand of shape {operand.shape} has no {len(term)} axes")
        for letter, size in zip(term, operand.shape, strict=True):
            known = sizes.setdefault(letter, size)
            if known != size:
                if 1 not in (known, size):
                    raise ShapeConflictError(f"an axis is {known} in one operand and {size} in another")
                sizes[letter] = max(known, size)
    return sizes


def _opened(
    operand: Operand, term: str, operands: Sequence[Operand], terms: Sequence[str], sizes: Mapping[str, int]
) -> Cells:
    """Return an operand with cells for the letters that have cells in another, and zeros of constants known there."""
    each = {
        letter
        for other, letters in zip(operands, terms, strict=True)
        if isinstance(other, Cells)
        for letter, kind in zip(letters, other.kinds, strict=True)
        if kind == EACH
    }
    shared = tuple(axis for axis, letter in enumerate(term) if letter in each and operand.shape[axis] > 1)
    if isinstance(operand, Cells):
        return operand
    if not shared:
        return operand.cells()
    others = math.prod(sizes[letter] for letter in each if letter not in term)
    # Which elements of the other operand a row of the result reads depends on the zeros of that row.
    return patterned(operand, shared, others)


def _placed(cells: Cells, term: str, order: Sequence[str]) -> Cells:
    """Return the operand with its axes in `order`, and axes of size 1 for the letters it lacks."""
    present = [letter for letter in order if letter in term]
    moved = transposed(cells, [term.index(letter) for letter in present])
    return reshaped(moved, [cells.shape[term.index(letter)] if letter in term else 1 for letter in order])


def matrix_product(seed: object, left: Operand, right: Operand) -> Cells:
    """Return ``left @ right`` as numpy defines it for any ranks."""
    if not left.shape or not right.shape:
        raise ShapeConflictError("a matrix product needs axes")
    letters = "abcdefghijklmnopqrstuvw"
    batch = max(len(left.shape), len(right.shape)) - 2
    if batch > len(letters):
        raise ShapeConflictError(f"a matrix product of {batch + 2} axes")
    own = letters[: max(batch, 0)]
    left_term = own[max(batch, 0) - (len(left.shape) - 2) :] + "xy" if len(left.shape) > 1 else "y"
    right_term = own[max(batch, 0) - (len(right.shape) - 2) :] + "yz" if len(right.shape) > 1 else "y"
    out = own + ("x" if len(left.shape) > 1 else "") + ("z" if len(right.shape) > 1 else "")
    if left.shape[-1] != right.shape[-2 if len(right.shape) > 1 else -1]:
        raise ShapeConflictError(f"cannot multiply {left.shape} by {right.shape}")
    return contracted(seed, [left, right], [left_term, right_term], out)


def without_ellipsis(terms: Sequence[str], operands: Sequence[Operand]) -> list[str]:
    """Return the terms with digits for the axes that an ellipsis stands for, counted from the back."""
    result = []
    for term, operand in zip(terms, operands, strict=False):
        hidden = len(operand.shape) - len(term.replace("...", ""))
        if not 0 <= hidden <= 9:
            raise ShapeConflictError(f"the term {term!r} does not fit an operand of {len(operand.shape)} axes")
        result.append(term.replace("...", "9876543210"[10 - hidden :]))
    return result


def hidden_axes(terms: Sequence[str]) -> str:
    """Return the digits of the longest ellipsis, which stand for it in the result."""
    return max(("".join(letter for letter in term if letter.isdigit()) for term in terms), key=len, default="")
