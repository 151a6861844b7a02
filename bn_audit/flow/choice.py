"""Choosing between arrays element by element."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from bn_audit.flow.algebra import Aligned, Operand, aligned, joined
from bn_audit.flow.cells import EACH, FLAGS, LINE, SAMPLES, TRUE, ZERO, Cells, every, less_certain, may, packed
from bn_audit.flow.constants import Constant, thinned
from bn_audit.flow.patterns import with_patterns
from bn_audit.flow.spans import moved


def chosen(seed: object, condition: Operand, yes: Operand, no: Operand) -> Cells:
    """Return ``condition ? yes : no`` element by element."""
    on_grid = aligned(with_patterns([condition, yes, no]))
    decider, left, right = on_grid.operands
    if isinstance(condition, Cells) and may(decider.owners).any():
        # What the data chooses may be just what belongs to the chooser.
        if decider.selects:
            left, right = less_certain(left), less_certain(right)
        on_grid = replace(on_grid, operands=(decider, left, right))
        result = joined(seed, on_grid, decider.selects or left.selects or right.selects)
        return _where_decided(result, on_grid)
    selects = left.selects or right.selects
    result = joined(seed, on_grid, selects)
    certain = every(left.owners & right.owners)
    existing = certain
    values = condition.values() if isinstance(condition, Constant) else None
    if values is not None:
        existing = every(left.owners | right.owners)
    owners = packed(result.owners & (SAMPLES | FLAGS), existing, certain)
    result = replace(result, owners=np.broadcast_to(owners, result.owners.shape))
    return _where_decided(result, on_grid) if values is None else _by_values(result, on_grid, values)


def _where_decided(result: Cells, on_grid: Aligned) -> Cells:
    """Return the result with the chosen operand wherever the condition always or never holds."""
    decider, left, right = on_grid.operands
    all_lines = (1 << sum(kind == LINE for kind in result.kinds)) - 1
    for cells, form, pattern in ((left, TRUE, on_grid.pattern[1]), (right, ZERO, on_grid.pattern[2])):
        where = np.broadcast_to(decider.forms == form, result.forms.shape)
        if not where.any():
            continue
        owners = np.where(where, cells.owners, result.owners)
        forms = np.where(where, cells.forms, result.forms) if pattern == all_lines else result.forms
        result = replace(result, owners=owners, forms=forms)
        if where.all() and pattern == all_lines:
            result = replace(result, range=moved(cells.span, forms, partial(np.broadcast_to, shape=forms.shape)))
    return result


def _by_values(result: Cells, on_grid: Aligned, values: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Cells:
    """Return the result with the chosen operand wherever one cell is chosen as a whole."""
    _, left, right = on_grid.operands
    thin = thinned(values.astype(bool))
    thin = thin.reshape((1,) * (result.rank - thin.ndim) + thin.shape)
    within = tuple(axis for axis, kind in enumerate(result.kinds) if kind != EACH)
    all_lines = (1 << sum(kind == LINE for kind in result.kinds)) - 1
    owners, forms = result.owners, result.forms
    for chosen_cells, mask, pattern in (
        (left, thin.all(axis=within, keepdims=True), on_grid.pattern[1]),
        (right, ~thin.any(axis=within, keepdims=True), on_grid.pattern[2]),
    ):
        where = np.broadcast_to(mask, forms.shape)
        if where.any():
            owners = np.where(where, chosen_cells.owners, owners)
            if pattern == all_lines:
                forms = np.where(where, chosen_cells.forms, forms)
    return replace(result, owners=owners, forms=forms)
