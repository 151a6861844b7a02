"""Where the zeros of constants lie: what decides which samples a sum of products lets meet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bn_audit.flow.cells import EACH, MAX_CELLS, Cells
from bn_audit.flow.constants import Constant, thinned


def with_patterns(operands: Sequence[Cells | Constant]) -> list[Cells | Constant]:
    """Return the operands, constants with a cell for each index where the places of their zeros vary along samples."""
    rank = max(len(operand.shape) for operand in operands)
    sizes: dict[int, int] = {}
    for operand in operands:
        if isinstance(operand, Cells):
            offset = rank - operand.rank
            sizes |= {axis + offset: operand.shape[axis] for axis, kind in enumerate(operand.kinds) if kind == EACH}
    result: list[Cells | Constant] = []
    for operand in operands:
        if isinstance(operand, Constant) and sizes:
            offset = rank - len(operand.shape)
            shared = tuple(axis - offset for axis in sizes if axis >= offset and operand.shape[axis - offset] > 1)
            others = math.prod(size for axis, size in sizes.items() if axis - offset not in shared)
            result.append(patterned(operand, shared, others) if shared else operand)
        else:
            result.append(operand)
    return result


def patterned(constant: Constant, shared: tuple[int, ...], others: int) -> Cells:
    """Return the cells of a constant for the axes `shared` with samples, and for all axes if its zeros vary there.

    Args:
        others: Cells that the other operands have along other axes.
    """
    values = constant.values()
    if values is None:
        return constant.cells(shared)
    zeros = thinned(values) == 0
    first = zeros[tuple(slice(0, 1) if axis in shared else slice(None) for axis in range(zeros.ndim))]
    if (zeros == first).all() or zeros.size * others > MAX_CELLS:
        return constant.cells(shared)
    return constant.cells(tuple(range(zeros.ndim)))
