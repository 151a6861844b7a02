"""Putting arrays together along an axis: concatenation and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import Operand, as_cells
from bn_audit.flow.cells import (
    EACH,
    FLAGS,
    LINE,
    LOWEST,
    SAME,
    SAMPLES,
    Cells,
    ShapeConflictError,
    UndecidableError,
    every,
    explicit,
    may,
    packed,
    samples_in,
    some,
    tidied,
)
from bn_audit.flow.movement import reshaped, sliced
from bn_audit.flow.spans import LARGEST, Span, between, span_of
from bn_audit.flow.tokens import Bits, mixed, token

MAX_OPENED = 1 << 11
"""Cells for each sample up to which an axis whose parts have different owners gets a cell for every index."""


def concatenated(parts: Sequence[Operand], axis: int) -> Cells:
    """Return the arrays one after the other along `axis`."""
    parts = [part for part in parts if part.shape[axis]] or list(parts[:1])
    first = parts[0].shape
    for part in parts:
        if len(part.shape) != len(first) or any(
            a != b for at, (a, b) in enumerate(zip(part.shape, first, strict=True)) if at != axis
        ):
            raise ShapeConflictError(f"cannot join {first} and {part.shape} along axis {axis}")
    if len(parts) == 1:
        return as_cells(parts[0])
    tracked = [part for part in parts if isinstance(part, Cells)]
    each = {a for part in tracked for a, kind in enumerate(part.kinds) if kind == EACH}
    total = sum(part.shape[axis] for part in parts)
    others = int(np.prod([first[a] for a in each if a != axis], dtype=np.int64))
    limit = MAX_OPENED * samples_in(*(part.owners for part in tracked))
    if axis in each or (not _alike(parts) and total * others <= limit):
        return _cell_by_cell(parts, axis, tuple(sorted(each | {axis})))
    return _as_line(parts, axis, tuple(sorted(each)), total)


def _alike(parts: Sequence[Operand]) -> bool:
    """Whether all parts belong to the same samples, so that one cell can stand for them."""
    owners = [part.owners for part in parts if isinstance(part, Cells)]
    if len(owners) < len(parts):
        return not owners
    return all(other.shape == owners[0].shape and (other == owners[0]).all() for other in owners)


def _cell_by_cell(parts: Sequence[Operand], axis: int, each: tuple[int, ...]) -> Cells:
    opened = [explicit(as_cells(part, each), each) for part in parts]
    kinds = tuple(
        EACH
        if a in each and opened[0].shape[a] * (len(parts) if a == axis else 1) > 1
        else LINE
        if any(part.kinds[a] == LINE for part in opened)
        else SAME
        for a in range(opened[0].rank)
    )
    # A part that is repeated along an axis where another has a LINE is another function of as many indices.
    marked = [_with_lines(part, kinds) for part in opened]
    forms = np.concatenate([part.forms for part in marked], axis=axis)
    result = Cells(
        tuple(sum(p.shape[a] for p in opened) if a == axis else n for a, n in enumerate(opened[0].shape)),
        kinds,
        np.concatenate([part.owners for part in marked], axis=axis),
        forms,
        any(part.selects for part in opened),
        _span_of_parts(opened, marked, forms, axis),
    )
    return tidied(result)


def _span_of_parts(parts: Sequence[Cells], marked: Sequence[Cells], forms: Bits, axis: int) -> Span | None:
    """Return the range of the parts together; a part whose range is not known may hold any number."""
    spans = [part.span if part.forms is other.forms else None for part, other in zip(parts, marked, strict=True)]
    if all(span is None for span in spans):
        return None
    wide = [span or between(part.forms, -LARGEST, LARGEST) for span, part in zip(spans, parts, strict=True)]
    known = [span for span in wide if span is not None]
    low = np.concatenate([span.low for span in known], axis=axis)
    high = np.concatenate([span.high for span in known], axis=axis)
    return span_of(forms, low, high, np.concatenate([span.rest for span in known], axis=axis))


def _with_lines(cells: Cells, kinds: tuple[int, ...]) -> Cells:
    """Return the cells with the LINE axes of `kinds`, their forms marked where they had fewer."""
    missing = tuple(
        sum(k == LINE for k in kinds[:axis])
        for axis, (own, kind) in enumerate(zip(cells.kinds, kinds, strict=True))
        if kind == LINE and own != LINE
    )
    if not missing:
        return cells
    forms = np.where(cells.forms <= LOWEST, cells.forms, mixed(cells.forms, token("repeated", missing)))
    return replace(cells, forms=forms)


def _as_line(parts: Sequence[Operand], axis: int, each: tuple[int, ...], total: int) -> Cells:
    """Return one cell along `axis` for all parts together."""
    opened = [explicit(as_cells(part, each), each) for part in parts]
    kinds = tuple(
        EACH
        if a in each and opened[0].shape[a] > 1
        else LINE
        if a == axis or any(part.kinds[a] == LINE for part in opened)
        else SAME
        for a in range(opened[0].rank)
    )
    marked = [_with_lines(part, kinds) for part in opened]
    forms = mixed(marked[0].forms, token("concatenate", total))
    for part in marked:
        forms = mixed(forms, mixed(part.forms, token("part", part.shape[axis])))
    shape = tuple(total if a == axis else size for a, size in enumerate(opened[0].shape))
    reach, existing, certain = may(opened[0].owners), some(opened[0].owners), every(opened[0].owners)
    flags = opened[0].owners & FLAGS
    for part in opened[1:]:
        reach = reach | may(part.owners)
        existing = existing | some(part.owners)
        certain = certain & every(part.owners)
        flags = flags | part.owners & FLAGS
    result = Cells(shape, kinds, packed(reach | flags, existing, certain), forms, any(p.selects for p in opened))
    return result if any(kind == EACH for kind in kinds) else _one_cell(result)


def _one_cell(cells: Cells) -> Cells:
    return replace(cells, owners=cells.owners.reshape((1,) * cells.rank), forms=cells.forms.reshape((1,) * cells.rank))


def padded(cells: Cells, axis: int, before: int, after: int, *, fill: Cells | None, mode: str) -> Cells:
    """Return the array with elements put in front and behind along `axis`; negative counts take elements away.

    Args:
        fill: The value to put there; None for copies of elements of the array, as `mode` says.
        mode: ``constant``, ``edge``, ``reflect`` or ``wrap``.
    """
    size = cells.shape[axis]
    if before < 0 or after < 0:
        cells = sliced(cells, axis, max(0, -before), 1, size + min(0, before) + min(0, after))
        before, after, size = max(0, before), max(0, after), cells.shape[axis]
    if not before and not after:
        return cells
    if fill is not None:
        return _filled(cells, axis, before, after, fill)
    shape = (*cells.shape[:axis], size + before + after, *cells.shape[axis + 1 :])
    if cells.kinds[axis] == SAME:
        return replace(cells, shape=shape)
    if cells.kinds[axis] == LINE:
        by = token("pad", cells.lines_before(axis), before, after, mode)
        return replace(cells, shape=shape, forms=mixed(cells.forms, by))
    places = np.pad(np.arange(size), (before, after), mode=mode)  # type: ignore[call-overload]
    return replace(
        cells, shape=shape, owners=np.take(cells.owners, places, axis), forms=np.take(cells.forms, places, axis)
    )


def _filled(cells: Cells, axis: int, before: int, after: int, fill: Cells) -> Cells:
    if cells.kinds[axis] == EACH:
        side = [1] * cells.rank
        value = reshaped(fill, side)
        parts: list[Operand] = [
            replace(value, shape=tuple(n if a == axis else s for a, s in enumerate(cells.shape)))
            for n in (before, cells.shape[axis], after)
        ]
        parts[1] = cells
        return concatenated(parts, axis)
    if may(fill.owners).any():
        raise UndecidableError("the padding value depends on the data")
    value = fill.forms.reshape(-1)[0]
    by = token("fill", cells.lines_before(axis), cells.kinds[axis], cells.shape[axis], before, after, int(value))
    shape = (*cells.shape[:axis], cells.shape[axis] + before + after, *cells.shape[axis + 1 :])
    kinds = (*cells.kinds[:axis], LINE, *cells.kinds[axis + 1 :])
    constant = (may(cells.owners) == 0) & (cells.forms <= LOWEST) & (cells.forms == value)
    owners = packed(cells.owners & (SAMPLES | FLAGS), some(cells.owners), np.zeros_like(cells.owners))
    forms = np.where(constant, cells.forms, mixed(cells.forms, by))
    return replace(cells, shape=shape, kinds=kinds, owners=owners, forms=forms)
