"""Following an array with fewer cells, where that loses nothing that tells samples apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import Operand
from bn_audit.flow.cells import (
    EACH,
    FLAGS,
    LINE,
    LOWEST,
    SAMPLES,
    Cells,
    every,
    in_order,
    may,
    packed,
    samples_in,
    several,
    some,
)
from bn_audit.flow.tokens import token

ENOUGH = 1 << 12
"""Cells of a product for each sample up to which the operands keep theirs: about as fast as an operator on one cell."""


def coarsened(cells: Cells, axis: int) -> Cells:
    """Return the array with one cell for all indices of an axis."""
    owners = cells.owners
    reach = np.bitwise_or.reduce(owners & (SAMPLES | FLAGS), axis=axis, keepdims=True)
    existing = np.bitwise_or.reduce(some(owners), axis=axis, keepdims=True)
    certain = np.bitwise_and.reduce(every(owners), axis=axis, keepdims=True)
    forms = in_order(cells.forms, axis, token("line", cells.lines_before(axis)))
    kinds = (*cells.kinds[:axis], LINE, *cells.kinds[axis + 1 :])
    return replace(cells, kinds=kinds, owners=packed(reach, existing, certain), forms=forms)


def is_harmless(cells: Cells, axis: int) -> bool:
    """Whether the indices of an axis belong to the same sample, and none of them is a known zero."""
    if cells.kinds[axis] != EACH or (cells.forms <= LOWEST).any():
        return False
    return not several(np.bitwise_or.reduce(may(cells.owners), axis=axis)).any()


def fitting(operands: Sequence[Operand], terms: Sequence[str]) -> list[Operand]:
    """Return the operands of a sum of products with so few cells that the product does not need too many.

    Args:
        terms: One letter for each axis of each operand.
    """
    sizes: dict[str, int] = {}
    for operand, term in zip(operands, terms, strict=True):
        if isinstance(operand, Cells):
            sizes |= {x: operand.shape[axis] for axis, x in enumerate(term) if operand.kinds[axis] == EACH}
    limit = ENOUGH * samples_in(*(operand.owners for operand in operands if isinstance(operand, Cells)))
    if int(np.prod(list(sizes.values()), dtype=np.float64)) <= limit:
        return list(operands)
    harmless = {letter for letter in sizes if all(_may_go(o, t, letter) for o, t in zip(operands, terms, strict=True))}
    return [_without(operand, term, harmless) for operand, term in zip(operands, terms, strict=True)]


def _may_go(operand: Operand, term: str, letter: str) -> bool:
    """Whether nothing is lost where an operand has no cells along a letter."""
    if not isinstance(operand, Cells) or letter not in term:
        return True
    axis = term.index(letter)
    return operand.kinds[axis] != EACH or is_harmless(operand, axis)


def _without(operand: Operand, term: str, letters: set[str]) -> Operand:
    if isinstance(operand, Cells):
        for axis, letter in enumerate(term):
            if letter in letters and operand.kinds[axis] == EACH:
                operand = coarsened(operand, axis)
    return operand
