"""How far each norm layer moved from the reference to the target."""

from __future__ import annotations

import numpy as np

from bn_audit.alignment.arrays import Array, Mask, floor, rounding
from bn_audit.alignment.norm_values import NormValues, dtypes_of
from bn_audit.subject.drift import Change, Extreme, LayerDrift
from bn_audit.subject.norm import NormLayer


def drift_of(reference: NormValues, target: NormValues) -> LayerDrift:
    """Return the drift of one layer; see `LayerDrift` for the units."""
    one, other = reference.norm, target.norm
    means = _paired(reference.mean, target.mean)
    variances = _paired(reference.variance, target.variance)
    weights = _paired(reference.weight, target.weight)
    biases = _paired(reference.bias, target.bias)
    shifts, logarithms = _mean_shift(means, variances, one, other), _log_ratio(variances, one, other)
    affine = [_equal(pair, one, other) for pair in (weights, biases) if pair is not None]
    statistics = [_equal(pair, one, other) for pair in (means, variances) if pair is not None]
    level = _largest(reference.weight)
    return LayerDrift(
        reference=one.path,
        location=other.location,
        num_features=other.num_features,
        mean=shifts[0] if shifts else None,
        variance=logarithms[0] if logarithms else None,
        weight=_relative(weights, _largest(reference.weight), one.weight, other.weight),
        bias=_relative(biases, max(_largest(reference.bias), level), one.bias, other.bias),
        eps=Change(reference=one.eps, target=other.eps),
        momentum=Change(reference=one.momentum, target=other.momentum),
        counter=Change(reference=reference.counter, target=target.counter),
        rms_mean=shifts[1] if shifts else None,
        rms_variance=logarithms[1] if logarithms else None,
        equal_statistics=all(statistics) if len(statistics) == 2 else None,
        equal_affine=all(affine) if affine else None,
        swapped=_is_swapped(means, variances, one, other),
        dtype_change=_dtype_change(one, other),
    )


_Pair = tuple[Array, Array]


def _paired(reference: Array | None, target: Array | None) -> _Pair | None:
    """Return both arrays where there are both, of one length and not empty."""
    if reference is None or target is None or reference.size != target.size or reference.size == 0:
        return None
    return reference, target


def _largest(values: Array | None) -> float:
    if values is None:
        return 0.0
    finite = np.abs(values[np.isfinite(values)])
    return float(np.max(finite, initial=0.0))


def _mean_shift(
    means: _Pair | None, variances: _Pair | None, one: NormLayer, other: NormLayer
) -> tuple[Extreme, float] | None:
    if means is None:
        return None
    dtypes = dtypes_of(one.running_mean, other.running_mean)
    a, b = means
    fits = variances is not None and variances[0].size == a.size
    spread = np.sqrt(np.abs(variances[0])) if variances is not None and fits else np.ones_like(a)
    with np.errstate(all="ignore"):
        sizes = np.where(a == b, 0.0, np.abs(b - a) / spread)
        allowed = rounding(*dtypes) * np.maximum(spread, np.abs(a)) + floor(*dtypes)
        beyond = ~(np.abs(b - a) <= allowed) & ~_both_equal(a, b)
    return _extreme(sizes, a, b, beyond, rounding(*dtypes)), _rms(sizes)


def _log_ratio(variances: _Pair | None, one: NormLayer, other: NormLayer) -> tuple[Extreme, float] | None:
    if variances is None:
        return None
    dtypes = dtypes_of(one.running_var, other.running_var)
    a, b = variances
    with np.errstate(all="ignore"):
        sizes = np.where(a == b, 0.0, np.abs(np.log(b / a)))
        beyond = ~(np.abs(b - a) <= rounding(*dtypes) * np.abs(a) + floor(*dtypes)) & ~_both_equal(a, b)
    return _extreme(sizes, a, b, beyond, rounding(*dtypes)), _rms(sizes)


def _relative(pair: _Pair | None, level: float, *refs: object) -> Extreme | None:
    if pair is None:
        return None
    a, b = pair
    tolerance = rounding(*(str(getattr(ref, "dtype", "")) for ref in refs if ref is not None))
    with np.errstate(all="ignore"):
        sizes = np.where(a == b, 0.0, np.abs(b - a) / (level or 1.0))
        beyond = ~(np.abs(b - a) <= tolerance * np.maximum(np.abs(a), level * 1e-3)) & ~_both_equal(a, b)
    return _extreme(sizes, a, b, beyond, tolerance)


def _both_equal(a: Array, b: Array) -> Mask:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def _extreme(sizes: Array, a: Array, b: Array, beyond: Mask, tolerance: float) -> Extreme:
    sizes = np.where(np.isnan(a) & np.isnan(b), 0.0, sizes)
    channel = int(np.argmax(np.where(np.isnan(sizes), np.inf, sizes)))
    return Extreme(
        size=float(sizes[channel]),
        channel=channel,
        reference=float(a[channel]),
        target=float(b[channel]),
        beyond=int(np.sum(beyond)),
        tolerance=tolerance,
    )


def _rms(sizes: Array) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean(np.where(np.isnan(sizes), np.inf, sizes) ** 2)))


def _equal(pair: _Pair, one: NormLayer, other: NormLayer) -> bool:
    """Return whether two arrays are equal, up to a cast where the layers' dtypes differ."""
    a, b = pair
    if np.array_equal(a, b, equal_nan=True):
        return True
    if not _dtype_change(one, other):
        return False
    dtypes = dtypes_of(*one.tensors.values(), *other.tensors.values())
    return bool(np.all(np.abs(b - a) <= rounding(*dtypes) * np.abs(a) + floor(*dtypes)))


def _is_swapped(means: _Pair | None, variances: _Pair | None, one: NormLayer, other: NormLayer) -> bool:
    if means is None or variances is None or means[0].size != variances[0].size:
        return False
    dtypes = dtypes_of(one.running_mean, one.running_var, other.running_mean, other.running_var)
    relative, least = rounding(*dtypes), floor(*dtypes)

    def close(a: Array, b: Array) -> bool:
        return bool(np.allclose(a, b, rtol=relative, atol=least))

    return not close(means[0], variances[0]) and close(means[1], variances[0]) and close(variances[1], means[0])


def _dtype_change(one: NormLayer, other: NormLayer) -> tuple[str, ...]:
    mine, theirs = one.tensors, other.tensors
    return tuple(
        f"{role}: {mine[role].dtype} to {theirs[role].dtype}"
        for role in mine
        if role in theirs and role != "num_batches_tracked" and mine[role].dtype != theirs[role].dtype
    )
