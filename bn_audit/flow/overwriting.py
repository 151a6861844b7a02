"""Putting elements at places that the data chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import aligned, joined
from bn_audit.flow.cells import (
    EACH,
    FLAGS,
    LINE,
    SAME,
    SAMPLES,
    Cells,
    UndecidableError,
    every,
    explicit,
    may,
    packed,
    several,
    tidied,
)
from bn_audit.flow.lookup import MAX_REACHES, any_of, reach_of, remaining, sliced_cells
from bn_audit.flow.reduction import dropped, reduced


def put_by_data(
    seed: object, cells: Cells, axes: tuple[int, ...], indices: Cells, updates: Cells, *, covering: bool | None = None
) -> Cells:
    """Return the array with elements replaced, along `axes`, at places that the data chooses.

    Args:
        indices: Where the updates go; of size 1 along `axes` or along every axis.
        updates: What goes there; likewise.
        covering: Whether each index may be any place along `axes`; None to judge by its range.
    """
    if covering is None:
        span = indices.span
        size = cells.shape[axes[0]]
        covering = len(axes) == 1 and span is not None and bool((span.low <= 0).all() and (span.high >= size - 1).all())
    places = reduced(indices, [axis for axis in axes if axis < indices.rank], (seed, "places"), ordered=True)
    news = any_of(updates, tuple(axis for axis in axes if axis < updates.rank), (seed, "updates"))
    on_grid = aligned([cells, places, news])
    result = joined(seed, on_grid, selects=True)
    old, chooser, new = on_grid.operands
    kept = every(old.owners & new.owners)
    certain = every(chooser.owners) | kept
    # What is put back where it was taken from does not depend on where that was, and an index that is confined to its
    # own sample's places says nothing of the others.
    open_ended = several(may(old.owners) | may(new.owners)) | (several(may(chooser.owners)) & (not covering))
    certain = np.where(open_ended, kept, certain)
    owners = packed(result.owners & (SAMPLES | FLAGS), certain, certain)
    return replace(result, owners=np.broadcast_to(owners, result.owners.shape))


def written(seed: object, table: Cells, columns: Sequence[Cells], updates: Cells) -> Cells:
    """Return the table with elements replaced at places along its first axes, one column of indices for each.

    Where the range of an index is known, only the part of the table that it reaches may change.

    Args:
        updates: Shape of a column, then the remaining axes of the table.
    """
    depth, rank = len(columns), columns[0].rank
    reaches = [reach_of(column, table.shape[axis]) for axis, column in enumerate(columns)]
    along = np.broadcast_shapes(*(low.shape for low, _ in reaches))
    ends = np.stack([np.broadcast_to(end, along) for pair in reaches for end in pair], axis=-1).reshape(-1, 2 * depth)
    distinct, which = np.unique(ends, axis=0, return_inverse=True)
    if len(distinct) > MAX_REACHES:
        raise UndecidableError(f"indices reach {len(distinct)} different parts of a table")
    narrow = tuple(
        axis
        for axis in range(depth)
        if (distinct[:, 2 * axis] > 0).any() or (distinct[:, 2 * axis + 1] < table.shape[axis] - 1).any()
    )
    opened_axes = tuple(axis for axis, size in enumerate(along) if size > 1)
    places = [explicit(remaining(column, table, axis), opened_axes) for axis, column in enumerate(columns)]
    news = explicit(updates, opened_axes)
    tail = tuple(axis for axis in range(depth, table.rank) if news.kinds[rank + axis - depth] == EACH)
    result = explicit(table, narrow + tail)
    for number, ends_of in enumerate(distinct.tolist()):
        chosen = which.reshape(along) == number
        group = [_rows_of(place, chosen, rank) for place in places]
        index = _one(seed, group, table.rank)
        fresh = _rows_of(news, chosen, rank)
        region = _region(result, narrow, ends_of)
        entry = dropped(any_of(fresh, (0,), (seed, "new")), (0,))
        entry = replace(
            entry,
            shape=(1,) * depth + entry.shape,
            kinds=(SAME,) * depth + entry.kinds,
            owners=entry.owners.reshape((1,) * depth + entry.owners.shape),
            forms=entry.forms.reshape((1,) * depth + entry.forms.shape),
        )
        changed = put_by_data(seed, region, (), index, entry, covering=True)
        result = _replaced(result, narrow, ends_of, changed)
    return tidied(result)


def _rows_of(cells: Cells, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], rank: int) -> Cells:
    """Return the chosen rows, with one first axis for those of the `rank` axes of the indices."""
    tail = cells.owners.shape[rank:]
    shape = np.broadcast_shapes(cells.owners.shape[:rank], chosen.shape)
    where = np.broadcast_to(chosen, shape)
    owners = np.broadcast_to(cells.owners, (*shape, *tail))[where]
    forms = np.broadcast_to(cells.forms, (*shape, *tail))[where]
    count = owners.shape[0]
    kinds = (EACH if count > 1 else SAME, *cells.kinds[rank:])
    return Cells((count, *cells.shape[rank:]), kinds, owners, forms, cells.selects)


def _one(seed: object, columns: Sequence[Cells], rank: int) -> Cells:
    """Return all indices of a group as one function of them."""
    on_grid = aligned(columns)
    together = reduced(joined((seed, "index"), on_grid), (0,), (seed, "indices"), keep=False, ordered=True)
    ones = (1,) * rank
    return replace(
        together,
        shape=ones,
        kinds=(SAME,) * rank,
        owners=together.owners.reshape(ones),
        forms=together.forms.reshape(ones),
    )


def _region(cells: Cells, narrow: Sequence[int], ends: Sequence[int]) -> Cells:
    for axis in narrow:
        cells = sliced_cells(cells, axis, ends[2 * axis], ends[2 * axis + 1])
    return cells


def _replaced(cells: Cells, narrow: Sequence[int], ends: Sequence[int], region: Cells) -> Cells:
    """Return the cells with a region of them replaced."""
    window = tuple(
        slice(ends[2 * axis], ends[2 * axis + 1] + 1) if axis in narrow else slice(None) for axis in range(cells.rank)
    )
    owners, forms = np.array(cells.owners), np.array(cells.forms)
    owners[window], forms[window] = region.owners, region.forms
    kinds = tuple(
        LINE if LINE in pair and EACH not in pair else pair[0] for pair in zip(cells.kinds, region.kinds, strict=True)
    )
    return replace(cells, owners=owners, forms=forms, kinds=kinds, selects=True)
