"""Choosing between arrays element by element."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import Aligned, Operand, aligned, joined
from bn_audit.flow.cells import EACH, FLAGS, LINE, SAMPLES, Cells, every, less_certain, may, packed
from bn_audit.flow.constants import Constant, thinned
from bn_audit.flow.patterns import with_patterns


def chosen(seed: object, condition: Operand, yes: Operand, no: Operand) -> Cells:
    """Return ``condition ? yes : no`` element by element."""
    on_grid = aligned(with_patterns([condition, yes, no]))
    decider, left, right = on_grid.operands
    if isinstance(condition, Cells) and may(decider.owners).any():
        # What the data chooses may be just what belongs to the chooser.
        if decider.selects:
            left, right = less_certain(left), less_certain(right)
        on_grid = replace(on_grid, operands=(decider, left, right))
        return joined(seed, on_grid, decider.selects or left.selects or right.selects)
    selects = left.selects or right.selects
    result = joined(seed, on_grid, selects)
    certain = every(left.owners & right.owners)
    existing = certain
    values = condition.values() if isinstance(condition, Constant) else None
    if values is not None:
        existing = every(left.owners | right.owners)
    owners = packed(result.owners & (SAMPLES | FLAGS), existing, certain)
    result = replace(result, owners=np.broadcast_to(owners, result.owners.shape))
    return result if values is None else _by_values(result, on_grid, values)


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
