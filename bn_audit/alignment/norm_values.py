"""The tensors of one norm layer as arrays, and how far two layers are apart."""

from __future__ import annotations

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


def distance(one: NormValues, other: NormValues) -> float | None:
    """Return how far two layers are apart; 0.0 where nothing differs beyond rounding; None where not comparable.

    The root mean squares, over the channels, of the difference of means in standard deviations, of the logarithm of
    the ratio of variances, and of the relative differences of weight and bias, together.
    """
    if one.mean is None or one.variance is None or other.mean is None or other.variance is None:
        return None
    if one.channels is None or one.channels != other.channels:
        return None
    total = 0.0
    dtypes = dtypes_of(one.norm.running_var, other.norm.running_var)
    with np.errstate(all="ignore"):
        spread = np.sqrt(np.abs(one.variance)) + floor(*dtypes)
        parts = [(other.mean - one.mean) / np.maximum(spread, np.abs(one.mean))]
        parts.append((other.variance - one.variance) / (np.abs(one.variance) + np.abs(other.variance) + floor(*dtypes)))
        for a, b in ((one.weight, other.weight), (one.bias, other.bias)):
            if a is not None and b is not None:
                parts.append((b - a) / (float(np.max(np.abs(a), initial=0.0)) + 1e-12))
    tolerance = rounding(*dtypes)
    for part in parts:
        if not np.all(np.isfinite(part)):
            return float("inf")
        total += float(np.sqrt(np.mean(part**2))) if np.max(np.abs(part), initial=0.0) > tolerance else 0.0
    return total
