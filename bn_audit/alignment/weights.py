"""Which convolution of the target is which of the reference: by path, else by the direction of its filters.

A fold scales each filter and keeps its direction, so that a weight is recognised under any name after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bn_audit.alignment.arrays import Array
from bn_audit.alignment.filters import filters, is_too_large, lies_transposed, outputs
from bn_audit.errors import ArtifactError
from bn_audit.subject.weighted import WeightedLayer

SAMPLED_FILTERS = 8
"""Filters by which the direction of a weight is told: two unrelated ones of some ten elements never agree in all."""

LIKENESS = 0.9
"""Least mean |cosine| of the sampled filters; folding leaves 1, training for some epochs 0.99, chance much less."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightPair:
    """One convolution or linear layer of each side."""

    reference: WeightedLayer
    target: WeightedLayer
    by_path: bool


def pair_weights(
    reference: Sequence[WeightedLayer],
    target: Sequence[WeightedLayer],
    fitted: Callable[[str], str],
    *,
    by_direction: bool,
) -> list[WeightPair]:
    """Return the pairs, in the reference's order.

    Args:
        fitted: Returns the path that a path of the reference has in the target.
        by_direction: Read the weights that no path pairs.
    """
    by_path: dict[str, list[WeightedLayer]] = {}
    for layer in target:
        by_path.setdefault(layer.path, []).append(layer)
    pairs: dict[int, WeightPair] = {}
    taken: set[int] = set()
    for index, layer in enumerate(reference):
        candidates = by_path.get(fitted(layer.path), []) if layer.path else []
        for other in candidates:
            if id(other) not in taken and _can_be(layer, other):
                taken.add(id(other))
                pairs[index] = WeightPair(reference=layer, target=other, by_path=True)
                break
    if by_direction:
        rest = [(index, layer) for index, layer in enumerate(reference) if index not in pairs]
        free = [layer for layer in target if id(layer) not in taken]
        for index, other in _by_direction(rest, free):
            pairs[index] = WeightPair(reference=reference[index], target=other, by_path=False)
    return [pairs[index] for index in sorted(pairs)]


def _can_be(one: WeightedLayer, other: WeightedLayer) -> bool:
    """Return whether the shapes allow both to be the same layer; matrices may lie transposed."""
    a, b = one.weight.shape, other.weight.shape
    if len(a) != len(b) or one.weight.numel != other.weight.numel:
        return False
    if len(a) > 2:
        return a == b
    return a == b or a == b[::-1]


def _by_direction(
    reference: list[tuple[int, WeightedLayer]], target: list[WeightedLayer]
) -> list[tuple[int, WeightedLayer]]:
    """Return (index, layer of the target) of the weights that are alike, the most alike first."""
    sketches: dict[tuple[int, bool], Array | None] = {}

    def sketch(layer: WeightedLayer, other: WeightedLayer) -> Array | None:
        key = (id(layer), lies_transposed(layer, other))
        if key not in sketches:
            sketches[key] = _sketch(layer, other)
        return sketches[key]

    scored: list[tuple[float, int, int]] = []
    for row, (_index, layer) in enumerate(reference):
        for column, other in enumerate(target):
            if _can_be(layer, other) and outputs(layer, other) == outputs(other, layer):
                one, two = sketch(layer, other), sketch(other, layer)
                if one is not None and two is not None and one.shape == two.shape:
                    likeness = float(np.mean(np.abs(np.sum(one * two, axis=1))))
                    if likeness >= LIKENESS:
                        # Of equally alike ones the order decides: weights of one element all point the same way.
                        scored.append((-round(likeness, 3), abs(row - column), row * len(target) + column))
    found = []
    rows: set[int] = set()
    columns: set[int] = set()
    for _likeness, _apart, place in sorted(scored):
        row, column = divmod(place, len(target))
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.append((reference[row][0], target[column]))
    return found


def _sketch(layer: WeightedLayer, other: WeightedLayer) -> Array | None:
    """Return some filters of a weight with length 1; None where its values cannot be had."""
    if is_too_large(layer):
        return None
    try:
        rows = filters(layer, other)
    except ArtifactError:
        return None
    count = min(SAMPLED_FILTERS, len(rows))
    chosen = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    lengths = np.linalg.norm(chosen, axis=1, keepdims=True)
    return np.asarray(chosen / np.where(lengths > 0, lengths, 1.0))
