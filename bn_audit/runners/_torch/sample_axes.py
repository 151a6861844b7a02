"""Where the samples lie in a batch, told by three batches that differ in known rows, and fewer of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bn_audit.subject.run import Array, Batch

FEW = 5
"""Prime, and rarely the size of anything else: rows are told from channels and pixels by the size of their axis."""

Colours = tuple[Batch, Batch, Batch]
"""The batch, the same with other companions, and the same with another probe."""


def sample_axes(batches: Colours, index: int) -> dict[str, int]:
    """Return the axis of the samples for each input whose rows differ as they should."""
    found = {}
    for name, array in batches[0].items():
        others = batches[1][name], batches[2][name]
        if all(other.shape == array.shape for other in others):
            axis = _axis(array, others, index)
            if axis is not None:
                found[name] = axis
    return found


def _axis(array: Array, others: tuple[Array, Array], index: int) -> int | None:
    for axis, size in enumerate(array.shape):
        rest = tuple(other for other in range(array.ndim) if other != axis)
        companions, probe = (np.atleast_1d((other != array).any(axis=rest)) for other in others)
        if size > 1 and index < size and not companions[index] and np.flatnonzero(probe).tolist() == [index]:
            return axis
    return None


def size_of(batches: Colours, axes: Mapping[str, int]) -> int:
    """Return the number of samples; the size of the first axis where nothing tells it."""
    sizes = [batches[0][name].shape[axis] for name, axis in axes.items()]
    return int(next(iter(sizes), max((array.shape[0] for array in batches[0].values() if array.ndim), default=1)))


def fewer(batches: Colours, axes: Mapping[str, int], index: int) -> tuple[Colours, int] | None:
    """Return the batches with fewer companions and the probe's new row; None where that is not possible."""
    size = size_of(batches, axes)
    shared = [array for name, array in batches[0].items() if name not in axes]
    if size <= FEW or not axes or any(size in array.shape for array in shared):
        return None
    rows = sorted([index, *[row for row in range(size) if row != index][: FEW - 1]])

    def taken(batch: Batch) -> Batch:
        return {name: np.take(array, rows, axes[name]) if name in axes else array for name, array in batch.items()}

    return (taken(batches[0]), taken(batches[1]), taken(batches[2])), rows.index(index)
