"""The tensors of one norm layer as arrays, and how far two layers are apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bn_audit.alignment.arrays import Array, flat, floor, rounding
from bn_audit.errors import ArtifactError
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.tensor import TensorRef


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormValues:
    """The tensors of one layer, each of shape (C,); None where the layer has none or its values cannot be had.

    Attributes:
        problem: Why a tensor's values cannot be had.
    """

    norm: NormLayer
    weight: Array | None
    bias: Array | None
    mean: Array | None
    variance: Array | None
    counter: float | None
    problem: str | None = None

    @property
    def channels(self) -> int | None:
        """Number of channels."""
        known = [array.size for array in (self.mean, self.variance, self.weight, self.bias) if array is not None]
        return known[0] if known and len(set(known)) == 1 else None

    @property
    def is_initial(self) -> bool:
        """True where the statistics are mean 0 and variance 1 in every channel."""
        return (
            self.mean is not None
            and self.variance is not None
            and not np.any(self.mean)
            and bool(np.all(self.variance == 1.0))
        )


def values_of_norm(norm: NormLayer) -> NormValues:
    """Return the values of a layer; what cannot be had is None, with the reason."""
    problems: list[str] = []

    def values(ref: TensorRef | None) -> Array | None:
        if ref is None:
            return None
        try:
            return flat(ref)
        except ArtifactError as error:
            problems.append(str(error))
            return None

    counter = values(norm.num_batches_tracked)
    return NormValues(
        norm=norm,
        weight=values(norm.weight),
        bias=values(norm.bias),
        mean=values(norm.running_mean),
        variance=values(norm.running_var),
        counter=float(counter[0]) if counter is not None and counter.size == 1 else None,
        problem=problems[0] if problems else None,
    )


def dtypes_of(*refs: TensorRef | None) -> tuple[str, ...]:
    """Return the dtypes of the tensors that there are."""
    return tuple(ref.dtype for ref in refs if ref is not None)


class Stack:
    """Layers with their tensors one above the other, so that another layer is compared with all of them at once.

    Layer by layer, two networks of a thousand layers each without names take a minute.
    """

    def __init__(self, layers: Sequence[NormValues]) -> None:
        self._count = len(layers)
        groups: dict[_Kind, list[int]] = {}
        for index, layer in enumerate(layers):
            kind = _kind(layer)
            if kind is not None:
                groups.setdefault(kind, []).append(index)
        self._groups = [(kind, np.array(found), _rows([layers[i] for i in found])) for kind, found in groups.items()]

    def distances(self, one: NormValues) -> Array:
        """Return how far `one` is apart from each layer, shape (layers,); NaN where not comparable.

        0.0 where nothing differs beyond rounding. The root mean squares, over the channels, of the difference of means
        in standard deviations, of the relative difference of variances, and of the relative differences of weight and
        bias, together.
        """
        found = np.full(self._count, np.nan)
        kind = _kind(one)
        if kind is None:
            return found
        for theirs, indices, rows in self._groups:
            if theirs.channels == kind.channels:
                found[indices] = _apart(_rows([one]), rows, (kind.dtype, theirs.dtype))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What layers must share to be stacked."""

    channels: int
    dtype: str
    has_weight: bool
    has_bias: bool


_Rows = tuple[Array, Array, Array | None, Array | None]


def _kind(layer: NormValues) -> _Kind | None:
    statistics = layer.norm.running_var
    if layer.mean is None or layer.variance is None or not layer.channels or statistics is None:
        return None
    return _Kind(
        channels=layer.channels,
        dtype=statistics.dtype,
        has_weight=layer.weight is not None,
        has_bias=layer.bias is not None,
    )


def _rows(layers: Sequence[NormValues]) -> _Rows:
    """Return mean, variance, weight and bias of layers of one kind, each of shape (layers, C)."""

    def stacked(arrays: Iterable[Array | None]) -> Array | None:
        known = [array for array in arrays if array is not None]
        return np.stack(known) if known else None

    return (
        np.stack([layer.mean for layer in layers if layer.mean is not None]),
        np.stack([layer.variance for layer in layers if layer.variance is not None]),
        stacked(layer.weight for layer in layers),
        stacked(layer.bias for layer in layers),
    )


def _apart(one: _Rows, others: _Rows, dtypes: tuple[str, str]) -> Array:
    """Return the distance of one row from each of others; infinite where a difference is not finite."""
    (mean, variance, *affine), (means, variances, *affines) = one, others
    smallest = floor(*dtypes)
    with np.errstate(all="ignore"):
        spread = np.sqrt(np.abs(variance)) + smallest
        parts = [(means - mean) / np.maximum(spread, np.abs(mean))]
        parts.append((variances - variance) / (np.abs(variance) + np.abs(variances) + smallest))
        for a, b in zip(affine, affines, strict=True):
            if a is not None and b is not None:
                parts.append((b - a) / (float(np.max(np.abs(a), initial=0.0)) + 1e-12))
        total = np.zeros(len(means))
        for part in parts:
            is_more = np.max(np.abs(part), axis=1, initial=0.0) > rounding(*dtypes)
            total += np.where(is_more, np.sqrt(np.mean(part**2, axis=1)), 0.0)
            total[~np.all(np.isfinite(part), axis=1)] = np.inf
    return total


def distance(one: NormValues, other: NormValues) -> float | None:
    """Return how far two layers are apart, as `Stack.distances`; None where not comparable."""
    apart = float(Stack([other]).distances(one)[0])
    return None if np.isnan(apart) else apart
