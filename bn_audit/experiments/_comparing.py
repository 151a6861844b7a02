"""Comparing the outputs of two runs: by bits, or by the largest difference of each sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bn_audit.subject.run import Array, Outputs

Axes: TypeAlias = Mapping[str, int | None]
"""The axis of the samples in each output; None where it has none."""

Floats: TypeAlias = npt.NDArray[np.float64]


def same_bits(first: Array, second: Array) -> bool:
    """Return whether two arrays agree in shape, type and every bit."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.dtype.hasobject:
        return bool(np.array_equal(first, second))
    return bool(np.array_equal(_bits(first), _bits(second)))


def _bits(array: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def row(array: Array, index: int, axis: int) -> Array:
    """Return the part of an output that belongs to one sample, keeping the axis."""
    return array[(slice(None),) * axis + (slice(index, index + 1),)]


def first_rows(array: Array, count: int, axis: int) -> Array:
    """Return the part of an output that belongs to the first samples."""
    return array[(slice(None),) * axis + (slice(0, count),)]


def rows_of(outputs: Outputs, axes: Axes, count: int) -> dict[str, Array]:
    """Return the first rows of every output that has an axis of the samples."""
    return {name: first_rows(outputs[name], count, axis) for name, axis in axes.items() if axis is not None}


def row_of(outputs: Outputs, axes: Axes, index: int) -> dict[str, Array]:
    """Return one row of every output that has an axis of the samples."""
    return {
        name: row(outputs[name], index, axis)
        for name, axis in axes.items()
        if axis is not None and name in outputs and outputs[name].ndim > axis
    }


def first_repeated(outputs: Outputs, axes: Axes) -> dict[str, Array]:
    """Return the outputs that a model without positions gives for a batch of one sample: the first row everywhere."""
    return {
        name: outputs[name].take([0] * outputs[name].shape[axis], axis=axis)
        for name, axis in axes.items()
        if axis is not None and name in outputs
    }


def agree(first: Outputs, second: Outputs) -> bool:
    """Return whether two runs gave the same outputs, bit by bit."""
    return first.keys() == second.keys() and all(same_bits(first[name], second[name]) for name in first)


def largest_effect(first: Outputs, second: Outputs, axes: Axes | None = None) -> float:
    """Return the largest relative difference of any output; infinity where shapes or names differ.

    Args:
        first: What the difference is relative to.
        second: The other run.
        axes: Axis of the samples by output, so that each sample has its own scale; None: the first axis.
    """
    if first.keys() != second.keys():
        return math.inf
    worst = 0.0
    for name, array in first.items():
        axis = 0 if axes is None else axes.get(name)
        relative = differences(array, second[name], axis)[1]
        worst = max(worst, float(relative.max(initial=0.0)))
    return worst


def differences(first: Array, second: Array, axis: int | None) -> tuple[Floats, Floats]:
    """Return the largest absolute and relative difference of each sample, each of shape (samples,).

    The relative one is over the sample's largest finite element in `first`, or in `second` where that is zero. Equal
    infinities and NaN at the same place are no difference; everything else that is not finite is an infinite one.

    Args:
        first: Reference, with its axis of samples.
        second: The same samples from another run.
        axis: Axis of the samples; None: the whole array is one sample.
    """
    count = 1 if axis is None or first.ndim <= axis else first.shape[axis]
    if first.shape != second.shape:
        return np.full(count, np.inf), np.full(count, np.inf)
    if same_bits(first, second):
        return np.zeros(count), np.zeros(count)
    if first.dtype.hasobject or first.dtype.kind in "SU":
        unequal = _by_sample(np.asarray(first != second), axis, count).max(axis=1, initial=0.0).real.astype(np.float64)
        return unequal, unequal
    left, right = (_by_sample(array, axis, count) for array in (first, second))
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(left - right)
        is_same = (left == right) | (np.isnan(left) & np.isnan(right))
        gap = np.where(is_same, 0.0, np.where(np.isnan(gap), np.inf, gap))
        absolute = np.asarray(gap.max(axis=1, initial=0.0), dtype=np.float64)
        scale = _largest(left)
        scale = np.where(scale > 0, scale, _largest(right))
        relative = np.where(absolute > 0, absolute / np.where(scale > 0, scale, 1.0), 0.0)
    return absolute, np.asarray(relative, dtype=np.float64)


def direction(first: tuple[Outputs, Outputs], second: tuple[Outputs, Outputs]) -> float:
    """Return the cosine between two difference vectors; 0.0 where either is zero or not finite."""
    left, right = (_difference_vector(*pair) for pair in (first, second))
    if left.size != right.size:
        return 0.0
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / norm if norm > 0 and math.isfinite(norm) else 0.0


def axes_of(
    outputs: Outputs, batch_size: int, other: tuple[Outputs, int] | None, preferred: Sequence[int]
) -> dict[str, int | None]:
    """Return the axis of the samples in each output, found by its size.

    Args:
        outputs: Of a run with `batch_size` samples.
        other: Outputs and number of samples of a run of another size, which tells apart what only looks alike.
        preferred: Axes to take where several fit, the first first.
    """
    return {name: _axis(name, array, batch_size, other, preferred) for name, array in outputs.items()}


def _axis(
    name: str, array: Array, batch_size: int, other: tuple[Outputs, int] | None, preferred: Sequence[int]
) -> int | None:
    fitting = [axis for axis, size in enumerate(array.shape) if size == batch_size]
    if other is not None:
        outputs, size = other
        counterpart = outputs.get(name)
        if counterpart is not None and counterpart.ndim == array.ndim:
            fitting = [axis for axis in fitting if counterpart.shape[axis] == size]
    for axis in preferred:
        if axis in fitting:
            return axis
    return fitting[0] if len(fitting) == 1 else None


def _by_sample(array: Array, axis: int | None, count: int) -> npt.NDArray[np.inexact[Any]]:
    moved = array if axis is None or axis == 0 or array.ndim <= axis else np.moveaxis(array, axis, 0)
    flat = moved.reshape(count, -1)
    return flat.astype(np.complex128 if flat.dtype.kind == "c" else np.float64)


def _largest(values: npt.NDArray[np.inexact[Any]]) -> Floats:
    size = np.abs(values)
    return np.asarray(np.where(np.isfinite(size), size, 0.0).max(axis=1, initial=0.0), dtype=np.float64)


def _difference_vector(first: Outputs, second: Outputs) -> Floats:
    parts = list(_gaps(first, second))
    return np.concatenate(parts) if parts else np.zeros(0)


def _gaps(first: Outputs, second: Outputs) -> Iterator[Floats]:
    for name, array in first.items():
        if array.dtype.kind not in "biuSUO" and name in second and second[name].shape == array.shape:
            gap = array.astype(np.float64).reshape(-1) - second[name].astype(np.float64).reshape(-1)
            yield np.nan_to_num(gap, nan=0.0, posinf=0.0, neginf=0.0)
