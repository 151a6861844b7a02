"""Who owns each element of an array, and which function of its owner's sample it is: the values of the batch flow.

An array is followed as a small grid of cells. Along an axis of kind EACH there is a cell for every index. Along the
others one cell stands for all indices: SAME says that the elements are equal, LINE that they are some function of the
index. A cell holds

- its owners, three sets of samples: ALL (every element of the cell depends on them), SOME (some element does) and
  MAY (no element depends on any other sample);
- its form, a token of the function that computes the cell from its owner's sample. Where the forms of two cells are
  equal and each has one owner at most, the same function computes both.

A cell without owners is constant. The form of a cell with several owners names them too, each in its role: there equal
forms mean equal elements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bn_audit.flow.spans import Span, moved
from bn_audit.flow.tokens import Bits, mixed, token

EACH, LINE, SAME = 0, 1, 2

MAX_BATCH = 12
"""Samples that fit into one set of owners."""

SOME_SHIFT, ALL_SHIFT = np.uint64(16), np.uint64(32)
SAMPLES = np.uint64((1 << MAX_BATCH) - 1)
DOUBT = np.uint64(1 << 12)
"""A constant entered whose values along a batch axis were not read: unequal forms may still be equal functions."""
FORGIVE = np.uint64(1 << 13)
"""Cells in which samples meet become constants, so that later meetings can be found too."""
MET = np.uint64(1 << 14)
"""Samples met here and were forgiven."""
LOW = np.uint64(1 << 15)
"""A very negative constant was put in or added, as masks of attention do: after a softmax little or nothing is left."""
FLAGS = DOUBT | FORGIVE | MET | LOW

ZERO, LOWEST = np.uint64(0), np.uint64(1)
"""Forms of constants: exactly zero, and minus infinity or so low that its exponential is zero beside any other."""

TRUE = token("true")
"""Form of a condition that always holds; one that never does is zero."""

MAX_CELLS = 1 << 20
FEW_ALONG, FEW_EACH = 16, 512
"""Cells along an axis, and cells for each sample, up to which they are kept: what one cell stands for cannot be told
apart again. Neither number grows with the batch, so the same is done at both batch sizes."""
MAX_ZEROS = 1024
"""Cells for each sample up to which constants with zeros are kept apart: zeros decide what a later product keeps."""


class UndecidableError(Exception):
    """The batch flow of a node cannot be told; the message is a clause that says why."""


class ShapeConflictError(Exception):
    """A node cannot run on operands of these shapes; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one array.

    Attributes:
        shape: Sizes of the array itself.
        kinds: EACH, LINE or SAME for each axis; an axis of size 1 is SAME.
        owners: Packed sets, MAY in the lowest 16 bits, then SOME, then ALL; as many axes as the array, of size 1
            where the kind is not EACH.
        forms: Likewise.
        selects: True where elements may be zero depending on the data, as in masks: a product with such an array can
            undo what mixed.
        range: Between which whole numbers the elements lie, where known; see `span`.
    """

    shape: tuple[int, ...]
    kinds: tuple[int, ...]
    owners: Bits
    forms: Bits
    selects: bool = False
    range: Span | None = None

    @property
    def span(self) -> Span | None:
        """The range, unless it belongs to cells that these were computed from."""
        return self.range if self.range is not None and self.range.of is self.forms else None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def lines_before(self, axis: int) -> int:
        """Return the number of LINE axes before `axis`: the place of its index among the arguments of the forms."""
        return sum(kind == LINE for kind in self.kinds[:axis])


def may(owners: Bits) -> Bits:
    """Return the samples that may have an influence, flags excluded."""
    result: Bits = owners & SAMPLES
    return result


def some(owners: Bits) -> Bits:
    """Return the samples that certainly have an influence on some element."""
    result: Bits = (owners >> SOME_SHIFT) & SAMPLES
    return result


def every(owners: Bits) -> Bits:
    """Return the samples that certainly have an influence on every element."""
    result: Bits = (owners >> ALL_SHIFT) & SAMPLES
    return result


def packed(may_bits: Bits, some_bits: Bits, all_bits: Bits) -> Bits:
    """Return the sets as packed owners; `may_bits` may carry flags."""
    result: Bits = may_bits | some_bits << SOME_SHIFT | all_bits << ALL_SHIFT
    return result


def several(samples: Bits) -> NDArray[np.bool_]:
    """Return where a set holds more than one sample."""
    result: NDArray[np.bool_] = (samples & (samples - np.uint64(1))) != 0
    return result


def absolute(owners: Bits, forms: Bits) -> Bits:
    """Return the forms with the owner of each cell named, for mixing with cells of other owners."""
    reach = may(owners)
    return np.where((reach == 0) | several(reach), forms, mixed(forms, reach))


def at_most(owners: Bits) -> Bits:
    """Return the owners with the claims of certain influence dropped."""
    result: Bits = owners & (SAMPLES | FLAGS)
    return result


def certain_of_all(owners: Bits) -> Bits:
    """Return the owners of a part of each cell, chosen in an unknown way: only what holds for all elements remains."""
    all_bits = every(owners)
    return packed(owners & (SAMPLES | FLAGS), all_bits, all_bits)


def all_from_some(owners: Bits) -> Bits:
    """Return the owners of what was computed from all elements of each cell together."""
    some_bits = some(owners)
    return packed(owners & (SAMPLES | FLAGS), some_bits, some_bits)


def less_certain(cells: Cells) -> Cells:
    """Return the cells with the claims on several samples dropped: something that depends on the data selects."""
    certain = every(cells.owners) | some(cells.owners)
    owners = np.where(several(certain), at_most(cells.owners), cells.owners)
    return replace(cells, owners=owners)


def grid(cells_along: tuple[int, ...]) -> None:
    """Refuse a grid of too many cells."""
    if math.prod(cells_along) > MAX_CELLS:
        raise UndecidableError(f"needs {math.prod(cells_along)} cells, more than the {MAX_CELLS} that are followed")


def per_sample(shape: tuple[int, ...], axis: int, name: str, *, forgiving: bool) -> Cells:
    """Return the cells of an input of the model with one sample at each index of `axis`."""
    count = shape[axis]
    along = tuple(count if index == axis else 1 for index in range(len(shape)))
    samples = (np.uint64(1) << np.arange(count, dtype=np.uint64)).reshape(along)
    owners = packed(samples | (FORGIVE if forgiving else np.uint64(0)), samples, samples)
    kinds = tuple(EACH if size > 1 and at == axis else LINE if size > 1 else SAME for at, size in enumerate(shape))
    return Cells(shape, kinds, owners, np.full(along, token("input", name)))


def uniform(shape: tuple[int, ...], form: np.uint64, *, repeated: bool = False) -> Cells:
    """Return one cell of a constant of unknown values; `repeated` where all its elements are the same."""
    kinds = tuple(SAME if repeated or size == 1 else LINE for size in shape)
    ones = (1,) * len(shape)
    return Cells(shape, kinds, np.zeros(ones, np.uint64), np.full(ones, form))


def explicit(cells: Cells, axes: tuple[int, ...]) -> Cells:
    """Return the cells with a cell for every index of `axes`."""
    wanted = sorted(axis for axis in set(axes) if cells.kinds[axis] != EACH and cells.shape[axis] != 1)
    if not wanted:
        return cells
    along = tuple(cells.shape[a] if a in wanted else size for a, size in enumerate(cells.owners.shape))
    grid(along)
    owners, forms, kinds = cells.owners, cells.forms, list(cells.kinds)
    rest = None if cells.span is None else cells.span.rest
    for axis in wanted:
        if kinds[axis] == LINE:
            place = sum(kind == LINE for kind in kinds[:axis])
            steps = np.arange(cells.shape[axis], dtype=np.uint64)
            steps = mixed(steps, token("at", place)).reshape(tuple(-1 if a == axis else 1 for a in range(cells.rank)))
            fixed = forms <= LOWEST
            forms = np.where(fixed, forms, mixed(forms, steps))
            rest = None if rest is None else np.where(rest == ZERO, rest, mixed(rest, steps))
            owners = np.where((may(owners) == 0) & ~fixed, owners | DOUBT, owners)
        kinds[axis] = EACH
    forms = np.broadcast_to(forms, along)
    span = moved(cells.span, forms, lambda numbers: np.broadcast_to(numbers, along))
    if span is not None and rest is not None:
        span = replace(span, rest=np.broadcast_to(rest, along))
    return replace(cells, kinds=tuple(kinds), owners=np.broadcast_to(owners, along), forms=forms, range=span)


def tidied(cells: Cells) -> Cells:
    """Return the cells with one cell along each axis along which the owners are the same."""
    for axis, kind in enumerate(cells.kinds):
        if kind == EACH:
            cells = _without_cells_along(cells, axis)
    return cells


def _without_cells_along(cells: Cells, axis: int) -> Cells:
    first = (slice(None),) * axis + (slice(0, 1),)
    owners = cells.owners[first]
    if not (cells.owners == owners).all():
        return cells
    forms = cells.forms[first]
    span = cells.span
    if (cells.forms == forms).all():
        kind, span = SAME, moved(span, forms, lambda numbers: numbers[first])
    elif (cells.shape[axis] <= FEW_ALONG and cells.forms.size <= FEW_EACH * samples_in(cells.owners)) or (
        (cells.forms <= LOWEST).any() and cells.forms.size <= MAX_ZEROS * samples_in(cells.owners)
    ):
        return cells
    else:
        forms, kind = in_order(cells.forms, axis, token("line", cells.lines_before(axis))), LINE
    kinds = (*cells.kinds[:axis], kind, *cells.kinds[axis + 1 :])
    return replace(cells, kinds=kinds, owners=owners, forms=forms, range=span)


def samples_in(*owners: Bits) -> int:
    """Return the number of samples with a part in any cell, at least 1: what limits on cells are multiples of.

    A limit that does not grow with the batch would do something else at the other batch size.
    """
    reach = 0
    for bits in owners:
        reach |= int(np.bitwise_or.reduce(may(bits), axis=None))
    return max(1, reach.bit_count())


def in_order(forms: Bits, axis: int, seed: np.uint64) -> Bits:
    """Return one form for the forms along `axis` in their order; the axis keeps size 1."""
    count = forms.shape[axis]
    steps = np.arange(count, dtype=np.uint64).reshape(tuple(-1 if a == axis else 1 for a in range(forms.ndim)))
    return mixed(np.add.reduce(mixed(forms, steps), axis=axis, keepdims=True), token(int(seed), count))
