"""Which norm layer of the target is which of the reference: by path, by equal contents, else by elimination."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bn_audit.alignment.norm_values import NormValues, distance
from bn_audit.subject.comparison import PairedBy
from bn_audit.subject.norm import NormLayer

MAX_CANDIDATES = 4096
"""Cap on the layers of either side that are compared with each other by contents, for their number is squared."""


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
    free = list(target[:MAX_CANDIDATES])
    for norm in reference[:MAX_CANDIDATES]:
        for other in free:
            if _may_be(norm, other) and distance(values(norm), values(other)) == 0.0:
                pairs.append(NormPair(reference=norm, target=other, paired_by=PairedBy.CONTENTS))
                free.remove(other)
                break
    return pairs


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
    for row, norm in enumerate(mine):
        for column, other in enumerate(theirs):
            if _may_be(norm, other):
                known = distance(values(norm), values(other))
                scored.append((math.inf if known is None else known, row, column))
    rows: set[int] = set()
    columns: set[int] = set()
    for apart, row, column in sorted(scored):
        if apart <= within and row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append(NormPair(reference=mine[row], target=theirs[column], paired_by=PairedBy.NEIGHBOUR))
    return pairs


def _may_be(one: NormLayer, other: NormLayer) -> bool:
    return one.num_features == other.num_features and one.kind.is_batch_norm == other.kind.is_batch_norm
