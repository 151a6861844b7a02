"""Which norm layer of the target is which of the reference: by path, by equal contents, else by elimination."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bn_audit.alignment.arrays import Array, floor, rounding
from bn_audit.alignment.norm_values import NormValues, Stack, distance, dtypes_of
from bn_audit.subject.comparison import PairedBy
from bn_audit.subject.norm import NormLayer

MAX_CANDIDATES = 4096
"""Cap on the layers of either side that are compared with each other by contents, for their number is squared."""


PROBES = 3
_SLACK = 1.001
"""Keeps rounding of the bound itself from leaving an equal layer out."""

LIKE = 0.5
"""Distance up to which two layers without names are the same one of two epochs; chance leaves more than 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormPair:
    """One layer of each side."""

    reference: NormLayer
    target: NormLayer
    paired_by: PairedBy


def pair_by_path(
    reference: Sequence[NormLayer], target: Sequence[NormLayer], fitted: Callable[[str], str]
) -> list[NormPair]:
    """Return the layers with one path on both sides.

    Args:
        fitted: Returns the path that a path of the reference has in the target.
    """
    by_path = {path: norm for norm in reversed(target) for path in (*norm.aliases, norm.path)}
    pairs = []
    taken: set[int] = set()
    for norm in reference:
        for path in (norm.path, *norm.aliases):
            other = by_path.get(fitted(path))
            if other is not None and id(other) not in taken and _are_alike(norm, other):
                taken.add(id(other))
                pairs.append(NormPair(reference=norm, target=other, paired_by=PairedBy.PATH))
                break
    return pairs


def _are_alike(one: NormLayer, other: NormLayer) -> bool:
    return one.has_running_statistics or other.has_running_statistics or one.kind is other.kind


def pair_by_contents(
    reference: Sequence[NormLayer], target: Sequence[NormLayer], values: Callable[[NormLayer], NormValues]
) -> list[NormPair]:
    """Return the layers whose tensors are equal; of several equal ones the first of each side."""
    pairs = []
    candidates = target[:MAX_CANDIDATES]
    probes = _Probes([values(norm) for norm in candidates])
    taken: set[int] = set()
    for norm in reference[:MAX_CANDIDATES]:
        for index in probes.like(values(norm)):
            other = candidates[index]
            if index not in taken and _may_be(norm, other) and distance(values(norm), values(other)) == 0.0:
                pairs.append(NormPair(reference=norm, target=other, paired_by=PairedBy.CONTENTS))
                taken.add(index)
                break
    return pairs


class _Probes:
    """A few elements of each layer, compared with another layer's all at once: most layers differ in these already.

    Without them a comparison of two networks of a thousand layers with nothing in common takes minutes.
    """

    def __init__(self, layers: Sequence[NormValues]) -> None:
        self._variances = np.array([_probe(layer.variance) for layer in layers]).reshape(-1, PROBES)
        self._weights = np.array([_probe(layer.weight) for layer in layers]).reshape(-1, PROBES)
        self._dtypes = {dtype for layer in layers for dtype in dtypes_of(layer.norm.running_var)}

    def like(self, layer: NormValues) -> list[int]:
        """Return the indices of the layers that `distance` may find equal to this one; never leaves one out."""
        if layer.variance is None or not self._dtypes:
            return []
        dtypes = (*dtypes_of(layer.norm.running_var), *self._dtypes)
        tolerance = rounding(*dtypes)
        variance, weight = _probe(layer.variance), _probe(layer.weight)
        largest = 0.0 if layer.weight is None else float(np.max(np.abs(layer.weight), initial=0.0))
        with np.errstate(all="ignore"):
            apart = np.abs(self._variances - variance)
            room = tolerance * (np.abs(self._variances) + np.abs(variance) + floor(*dtypes))
            unlike = np.any(apart > room * _SLACK, axis=1)
            unlike |= np.any(np.abs(self._weights - weight) > tolerance * (largest + 1e-12) * _SLACK, axis=1)
        return [int(index) for index in np.flatnonzero(~unlike)]


def _probe(values: Array | None) -> Array:
    """Return the first, middle and last element; NaN, which is apart from nothing, where there are none."""
    if values is None or not values.size:
        return np.full(PROBES, np.nan)
    return values[[0, values.size // 2, -1]]


def pair_by_likeness(
    reference: Sequence[NormLayer],
    target: Sequence[NormLayer],
    values: Callable[[NormLayer], NormValues],
    *,
    within: float = math.inf,
) -> list[NormPair]:
    """Return pairs of layers that are not equal, the nearest first; without `within` also those that are left alone.

    For layers whose artifact keeps no names; with names, another name is another layer.
    """
    pairs = []
    mine, theirs = list(reference[:MAX_CANDIDATES]), list(target[:MAX_CANDIDATES])
    scored = []
    stack = Stack([values(norm) for norm in theirs])
    for row, norm in enumerate(mine):
        apart = np.nan_to_num(stack.distances(values(norm)), nan=math.inf, posinf=math.inf)
        scored += [(float(apart[column]), row, column) for column, other in enumerate(theirs) if _may_be(norm, other)]
    rows: set[int] = set()
    columns: set[int] = set()
    for far, row, column in sorted(scored):
        if far <= within and row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append(NormPair(reference=mine[row], target=theirs[column], paired_by=PairedBy.NEIGHBOUR))
    return pairs


def _may_be(one: NormLayer, other: NormLayer) -> bool:
    return one.num_features == other.num_features and one.kind.is_batch_norm == other.kind.is_batch_norm
