"""Taking and putting elements at places that constants or the data give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import Operand, aligned, as_cells, pointwise
from bn_audit.flow.cells import (
    EACH,
    FLAGS,
    LINE,
    SAME,
    SAMPLES,
    Cells,
    UndecidableError,
    absolute,
    at_most,
    every,
    explicit,
    less_certain,
    may,
    packed,
    several,
    tidied,
)
from bn_audit.flow.constants import Array
from bn_audit.flow.movement import broadcast, reshaped, sliced, transposed
from bn_audit.flow.reduction import dropped, reduced
from bn_audit.flow.tokens import Bits, mixed, token

MAX_REACHES = 1 << 12
"""Different parts of a table that indices of one lookup may reach."""


def any_of(cells: Cells, axes: tuple[int, ...], seed: object) -> Cells:
    """Return, with size 1 along `axes`, one element that something else chooses along them."""
    lines = [(cells.lines_before(axis), cells.shape[axis]) for axis in axes if cells.kinds[axis] == LINE]
    each = tuple(axis for axis in axes if cells.kinds[axis] == EACH)
    owners, forms = cells.owners, cells.forms
    reach, certain = owners & (SAMPLES | FLAGS), every(owners)
    if each:
        whole = reduced(cells, axes, seed, ordered=True)
        reach = np.bitwise_or.reduce(reach, axis=each, keepdims=True)
        certain = np.bitwise_and.reduce(certain, axis=each, keepdims=True)
        forms = whole.forms
    elif lines or any(cells.shape[axis] > 1 for axis in axes):
        forms = mixed(forms, token("any of", seed, tuple(lines)))
    return Cells(
        tuple(1 if axis in axes else size for axis, size in enumerate(cells.shape)),
        tuple(SAME if axis in axes else kind for axis, kind in enumerate(cells.kinds)),
        packed(reach, certain, certain),
        forms,
        cells.selects,
    )


def looked_up(seed: object, table: Operand, axis: int, indices: Operand) -> Cells:
    """Return the elements of `table` along `axis` that the data chooses; the axes of `indices` take its place."""
    cells, places = as_cells(table), as_cells(indices)
    if cells.kinds[axis] == EACH and places.span is not None:
        order = (axis, *(other for other in range(cells.rank) if other != axis))
        found = picked(seed, transposed(cells, order), [places])
        back = (*range(places.rank, places.rank + axis), *range(places.rank), *range(places.rank + axis, found.rank))
        return transposed(found, back)
    entry = any_of(cells, (axis,), (seed, "entry"))
    rank = places.rank
    before, after = entry.shape[:axis], entry.shape[axis + 1 :]
    entry = reshaped(entry, (*before, *(1,) * rank, *after))
    places = reshaped(places, (*(1,) * len(before), *places.shape, *(1,) * len(after)))
    return by_choice((seed, "look up"), places, entry)


def picked(seed: object, table: Cells, columns: Sequence[Cells]) -> Cells:
    """Return the elements that the data chooses along the first axes of `table`, one column of indices for each.

    Where the range of an index is known, only the part of the table that it reaches counts.
    """
    depth = len(columns)
    ranges = [reach_of(column, table.shape[axis]) for axis, column in enumerate(columns)]
    grid = aligned(columns)
    along = np.broadcast_shapes(*(low.shape for low, _ in ranges))
    reaches = np.stack([np.broadcast_to(end, along) for pair in ranges for end in pair], axis=-1)
    distinct, which = np.unique(reaches.reshape(-1, 2 * depth), axis=0, return_inverse=True)
    if len(distinct) > MAX_REACHES:
        raise UndecidableError(f"indices reach {len(distinct)} different parts of a table")
    entries = [_entry(seed, table, ends) for ends in distinct.tolist()]
    tail = entries[0].owners.shape
    take = which.reshape(along)
    kinds = tuple(EACH if size > 1 else SAME for size in along)
    shape = tuple(max(a, b) for a, b in zip(along, grid.shape, strict=True))
    found = Cells(
        (*along, *entries[0].shape),
        (*kinds, *entries[0].kinds),
        np.stack([entry.owners for entry in entries])[take].reshape((*along, *tail)),
        np.stack([entry.forms for entry in entries])[take].reshape((*along, *tail)),
        table.selects,
    )
    found = broadcast(found, (*shape, *entries[0].shape))
    ends = (1,) * (table.rank - depth)
    places = [remaining(column, table, axis) for axis, column in enumerate(columns)]
    chooser = pointwise((seed, "places"), places)
    return by_choice((seed, "pick"), reshaped(chooser, (*chooser.shape, *ends)), found)


def reach_of(column: Cells, size: int) -> tuple[Array, Array]:
    """Return the first and last place that each index may reach along an axis of `size`."""
    span = column.span
    if span is None or (span.low < 0).any() or (span.high >= size).any():
        ones = (1,) * column.rank
        return np.zeros(ones, np.int64), np.full(ones, size - 1)
    return span.low.astype(np.int64), span.high.astype(np.int64)


def _entry(seed: object, table: Cells, ends: list[int]) -> Cells:
    """Return any element between the ends along the first axes, without these axes."""
    axes = tuple(range(len(ends) // 2))
    for axis in axes:
        first, last = ends[2 * axis : 2 * axis + 2]
        if table.kinds[axis] == EACH:
            table = sliced_cells(table, axis, first, last)
    return dropped(any_of(table, axes, (seed, "entry")), axes)


def sliced_cells(cells: Cells, axis: int, first: int, last: int) -> Cells:
    """Return the cells between two places, both included, with the axis still one of cells."""
    window = (slice(None),) * axis + (slice(first, last + 1),)
    count = last + 1 - first
    return replace(
        cells,
        shape=(*cells.shape[:axis], count, *cells.shape[axis + 1 :]),
        kinds=(*cells.kinds[:axis], EACH if count > 1 else SAME, *cells.kinds[axis + 1 :]),
        owners=cells.owners[window],
        forms=cells.forms[window],
    )


def remaining(column: Cells, table: Cells, axis: int) -> Cells:
    """Return an index less the place where its reach begins: nothing where it is the only one."""
    span = column.span
    if span is None or (span.low < 0).any() or (span.high >= table.shape[axis]).any() or table.kinds[axis] != EACH:
        return column
    exact = np.broadcast_to(span.is_exact, column.owners.shape)
    return replace(column, owners=np.where(exact, column.owners & FLAGS, column.owners), forms=span.rest)


def by_choice(seed: object, places: Cells, entry: Cells) -> Cells:
    """Return the entries chosen at `places`: where they may be of several samples, nothing certain is left of both."""
    if several(may(entry.owners)).any():
        open_ended = several(may(entry.owners))
        entry = replace(entry, owners=np.where(open_ended, at_most(entry.owners), entry.owners))
        places = less_certain(places)
    return pointwise(seed, [places, entry], selects=entry.selects)


def chosen_along(seed: object, table: Operand, axis: int, indices: Operand) -> Cells:
    """Return the elements of `table` that the data chooses along `axis`, each where its index stands."""
    cells, places = as_cells(table), as_cells(indices)
    for other in range(cells.rank):
        if other != axis and places.shape[other] != cells.shape[other]:
            cells = sliced(cells, other, 0, 1, places.shape[other])
    entry = any_of(cells, (axis,), (seed, "entry"))
    return by_choice((seed, "choose"), places, entry)


def gathered(cells: Cells, flat: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Cells:
    """Return elements at known places.

    Args:
        flat: For each element of the result, its place in row-major order among the elements of `axes`, the leading
            ones of the array; shape ``(..., )`` with which the result begins.
        shape: Shape of the result: that of `flat`, then the remaining axes.
        axes: The leading axes ``0 .. k-1``.
    """
    opened = explicit(cells, axes)
    along = opened.owners.shape[len(axes) :]
    owners = opened.owners.reshape(-1, *along)[flat]
    forms = opened.forms.reshape(-1, *along)[flat]
    kinds = tuple(EACH if size > 1 else SAME for size in flat.shape) + opened.kinds[len(axes) :]
    return tidied(Cells(shape, kinds, owners, forms, cells.selects))


def put(cells: Cells, flat: Array, updates: Cells, axes: tuple[int, ...], *, combine: object | None) -> Cells:
    """Return the array with elements at known places replaced by, or combined with, those of `updates`.

    Args:
        flat: Place of each update in row-major order among the elements of the leading `axes`.
        updates: Shape of `flat`, then the remaining axes.
        combine: What combines old and new elements; None where the new ones replace the old.
    """
    count = len(axes)
    opened = explicit(cells, axes)
    news = explicit(updates, tuple(range(flat.ndim)))
    each = tuple(
        index
        for index in range(cells.rank - count)
        if EACH in (opened.kinds[count + index], news.kinds[flat.ndim + index])
    )
    opened = explicit(opened, tuple(count + index for index in each))
    news = explicit(news, tuple(flat.ndim + index for index in each))
    tail = opened.owners.shape[count:]
    owners = np.array(opened.owners).reshape(-1, *tail)
    forms = np.array(opened.forms).reshape(-1, *tail)
    new_owners = news.owners.reshape(-1, *news.owners.shape[flat.ndim :])
    new_forms = news.forms.reshape(-1, *news.forms.shape[flat.ndim :])
    places = flat.reshape(-1)
    if combine is None:
        owners[places], forms[places] = new_owners, new_forms
    else:
        before, named = owners.copy(), absolute(owners, forms)
        np.bitwise_or.at(owners, places, new_owners)
        forms = _scattered(forms, places, new_forms, combine)
        named = _scattered(named, places, absolute(new_owners, new_forms), combine)
        forms = np.where(several(may(owners)) & (owners != before), named, forms)
    lines = tuple(
        EACH if i in each else LINE if LINE in (opened.kinds[count + i], news.kinds[flat.ndim + i]) else SAME
        for i in range(cells.rank - count)
    )
    kinds = opened.kinds[:count] + lines
    result = Cells(cells.shape, kinds, owners.reshape(opened.owners.shape), forms.reshape(opened.forms.shape))
    return tidied(replace(result, selects=cells.selects or updates.selects))


def _scattered(forms: Bits, places: Array, new_forms: Bits, combine: object) -> Bits:
    """Return the forms with others added to them in any order."""
    result = forms.copy()
    result[places] = mixed(result[places], token("scattered", combine))
    added = mixed(new_forms, token("scatter", combine))
    np.add.at(result, places, np.broadcast_to(added, (places.size, *forms.shape[1:])))
    return result
