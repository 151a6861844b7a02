"""Windows that slide over axes: convolutions and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells, pointwise, with_constant
from bn_audit.flow.cells import (
    EACH,
    LINE,
    SAME,
    ZERO,
    Cells,
    ShapeConflictError,
    all_from_some,
    at_most,
    may,
)
from bn_audit.flow.constants import Constant
from bn_audit.flow.contraction import contracted
from bn_audit.flow.joining import padded
from bn_audit.flow.movement import broadcast, reshaped, taken
from bn_audit.flow.reduction import reduced
from bn_audit.flow.tokens import mixed, token


@dataclass(frozen=True, slots=True)
class Window:
    """How a window slides over one axis.

    Attributes:
        count: Number of places, the size of the axis of the result.
        pad: Elements of padding in front.
    """

    taps: int
    stride: int
    dilation: int
    pad: int
    count: int

    @property
    def step(self) -> tuple[int, int, int]:
        """What it does at each place, whatever the number of places."""
        return (self.taps, self.stride, self.dilation)

    @property
    def moves_nothing(self) -> bool:
        return self.taps == 1 and self.stride == 1 and self.pad == 0


def convolved(
    seed: object, signal: Operand, weight: Operand, windows: Sequence[Window], groups: int, pad: Cells
) -> Cells:
    """Return a convolution.

    Args:
        signal: Shape (N, C, ...), one further axis for each window.
        weight: Shape (O, C / groups, ...).
        pad: The padding value, a scalar.
    """
    channels, filters = signal.shape[1], weight.shape[0]
    if groups < 1 or channels != weight.shape[1] * groups or filters % groups:
        raise ShapeConflictError(f"{filters} filters of {weight.shape[1]} channels in {groups} groups on {channels}")
    spatial = tuple(window.count for window in windows)
    cells = as_cells(signal)
    if _is_plain(cells, weight):
        kernel = as_cells(weight)
        return _plain(("convolve", seed, groups, tuple(windows)), cells, kernel, (filters, *spatial))
    per_group = weight.shape[1]
    left = reshaped(cells, (cells.shape[0], groups, per_group, *cells.shape[2:]))
    letters = "pqrs"[: len(windows)]
    taps = "tuvw"[: len(windows)]
    term = "ngi"
    axis = 3
    for window, place, tap in zip(windows, letters, taps, strict=True):
        if left.kinds[axis] == EACH:
            left = _opened(left, axis, window, pad)
            term, axis = term + place + tap, axis + 2
        else:
            left = _slid(left, axis, window, (seed, "window"))
            term, axis = term + place, axis + 1
    out = "ngo" + letters
    result = contracted(
        (seed, tuple(window.step for window in windows)), [left, _grouped(weight, groups)], [term, "goi" + taps], out
    )
    return reshaped(result, (cells.shape[0], filters, *spatial))


def _is_plain(cells: Cells, weight: Operand) -> bool:
    """Whether samples lie along the first axis only and the weights belong to none."""
    if EACH in cells.kinds[1:]:
        return False
    return isinstance(weight, Constant) or (EACH not in weight.kinds and not may(weight.owners).any())


def _plain(seed: object, cells: Cells, kernel: Cells, tail: tuple[int, ...]) -> Cells:
    kinds = tuple(LINE if size > 1 else SAME for size in tail)
    lines = tuple(cells.kinds[1:]) + (cells.shape[1:])
    mark = token(seed, cells.kinds[0] == LINE, lines, int(kernel.forms.reshape(-1)[0]), kernel.kinds, kernel.shape)
    zero = (cells.forms == ZERO) | bool((kernel.forms == ZERO).all())
    result = Cells(
        (cells.shape[0], *tail),
        (cells.kinds[0], *kinds),
        (all_from_some(cells.owners) if cells.kinds[0] != LINE else cells.owners) | kernel.owners.reshape(-1)[0],
        mixed(cells.forms, mark),
    )
    return with_constant(result, zero, ZERO)


def _grouped(weight: Operand, groups: int) -> Operand:
    """Return weights of shape (O, I, ...) as (G, O / G, I, ...)."""
    shape = (groups, weight.shape[0] // groups, *weight.shape[1:])
    if isinstance(weight, Constant):
        values = weight.values()
        if values is not None:
            return Constant(weight.ledger, values=values.reshape(shape))
    return reshaped(as_cells(weight), shape)


def _opened(cells: Cells, axis: int, window: Window, pad: Cells) -> Cells:
    """Return the array with an axis of places and one of taps instead of an axis with cells."""
    reach = (window.count - 1) * window.stride + (window.taps - 1) * window.dilation + 1
    behind = max(0, reach - window.pad - cells.shape[axis])
    cells = padded(cells, axis, window.pad, behind, fill=pad, mode="constant")
    starts = np.arange(window.count)[:, None] * window.stride
    return taken(cells, axis, starts + np.arange(window.taps)[None, :] * window.dilation)


def _slid(cells: Cells, axis: int, window: Window, seed: object) -> Cells:
    """Return the array with the places of the window along `axis`, where one cell stands for all of them."""
    if window.moves_nothing:
        return cells
    shape = (*cells.shape[:axis], window.count, *cells.shape[axis + 1 :])
    kind = LINE if window.count > 1 else SAME
    by = token("slide", seed, cells.lines_before(axis), cells.kinds[axis], cells.shape[axis], window)
    owners = all_from_some(cells.owners) if window.taps > 1 else cells.owners
    forms = np.where(cells.forms == ZERO, ZERO, mixed(cells.forms, by))
    return replace(
        cells, shape=shape, kinds=(*cells.kinds[:axis], kind, *cells.kinds[axis + 1 :]), owners=owners, forms=forms
    )


def pooled(seed: object, operand: Operand, windows: Sequence[Window], kind: str, pad: Cells) -> Cells:
    """Return a pooling over the last axes, one for each window; `kind` as for a reduction."""
    cells = as_cells(operand)
    axis = cells.rank - len(windows)
    if EACH not in cells.kinds[axis:]:
        cells = replace(cells, forms=mixed(cells.forms, token("pool", seed)))
    for window in windows:
        if cells.kinds[axis] == EACH:
            cells = reduced(_opened(cells, axis, window, pad), (axis + 1,), (seed, window.step), keep=False, kind=kind)
        else:
            cells = _slid(cells, axis, window, (seed, "pool"))
        axis += 1
    return cells


def spread(seed: object, cells: Cells, weight: Operand, shape: Sequence[int]) -> Cells:
    """Return a transposed convolution, of which only the result's shape (N, O, ...) is followed.

    Where there are cells along other axes than the first, every element may depend on all of them.
    """
    kernel = as_cells(weight)
    if _is_plain(cells, weight):
        return _plain(("spread", seed), cells, kernel, tuple(shape[1:]))
    inner = tuple(range(1, cells.rank))
    whole = reduced(cells, inner, (seed, "all"))
    kernel_whole = reduced(kernel, tuple(range(kernel.rank)), (seed, "weight"), keep=False)
    result = pointwise(seed, [whole, kernel_whole])
    lines = tuple(LINE if size > 1 else SAME for size in shape[1:])
    wide = broadcast(result, shape)
    return replace(wide, kinds=(wide.kinds[0], *lines), owners=at_most(wide.owners))
