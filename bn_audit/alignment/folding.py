"""The equations of a batch norm that was folded into the layer before it.

    W' = W * weight / sqrt(var + eps)        b' = (b - mean) * weight / sqrt(var + eps) + bias

Source: torch/nn/utils/fusion.py (``fuse_conv_bn_weights``), onnxscript ``rewriter/rules/common/_fuse_batchnorm.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bn_audit.alignment.arrays import Array, flat
from bn_audit.alignment.filters import filters, is_too_large
from bn_audit.alignment.norm_values import NormValues
from bn_audit.errors import ArtifactError
from bn_audit.subject.comparison import FoldCheck
from bn_audit.subject.weighted import WeightedLayer

TOLERANCES = {"float64": 1e-5, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Largest relative deviation that is rounding, by the coarsest dtype: exporters fold in float32 and store the result.
Measured 2e-7 to 1e-6 for the folds of both ONNX exporters and of TorchScript; a change of one part in 10^4 is found."""

USUAL_EPS = (1e-5, 1e-3, 1e-6, 1e-4, 2e-5, 1e-8, 1e-12, 1e-2, 0.0)
"""Tried first where eps is not recorded, for the scales leave a range of eps open that rounding explains."""

PLAUSIBLE_MEDIAN = 0.3
"""Median deviation of the scales up to which a weight may have taken up a batch norm, wrongly folded: another one's
weight and variance deviate in every channel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaling:
    """How one weight became another: W'_c = scale_c * W_c, in each output channel c.

    Attributes:
        scale: Shape (C,); NaN where W_c is zero.
        off_direction: |W'_c - scale_c W_c| / |W'_c|, shape (C,).
        bias: b, shape (C,), zeros where there is none.
        folded_bias: b', likewise.
        tolerance: Relative, what the dtypes explain.
    """

    plain: WeightedLayer
    folded: WeightedLayer
    scale: Array
    off_direction: Array
    bias: Array
    folded_bias: Array
    tolerance: float

    @property
    def turns_nothing(self) -> bool:
        """True where every filter keeps its direction."""
        return bool(np.all(self.off_direction <= 10 * self.tolerance))

    @property
    def changes_nothing(self) -> bool:
        """True where weight and bias are equal on both sides: nothing was folded."""
        same = np.abs(self.scale - 1.0) <= self.tolerance
        shift = np.abs(self.folded_bias - self.bias)
        level = np.abs(self.bias) + np.max(np.abs(self.bias), initial=0.0)
        return bool(
            np.all(same | np.isnan(self.scale)) and self.turns_nothing and np.all(shift <= self.tolerance * level)
        )


def scaling(plain: WeightedLayer, folded: WeightedLayer, channels: int | None = None) -> Scaling:
    """Return how the weight of a layer became that of its folded form.

    Raises:
        ArtifactError: the values of either cannot be had.
    """
    w, v = filters(plain, folded, channels), filters(folded, plain, channels)
    if w.shape != v.shape:
        raise ArtifactError(f"{plain.weight.name}: shape {w.shape} by outputs, {folded.weight.name} has {v.shape}")
    with np.errstate(all="ignore"):
        scale = np.einsum("ck,ck->c", v, w) / np.einsum("ck,ck->c", w, w)
        rest = v - np.where(np.isfinite(scale), scale, 0.0)[:, None] * w
        off = np.linalg.norm(rest, axis=1) / np.linalg.norm(v, axis=1)
    dead = ~np.any(w, axis=1)
    scale = np.where(dead & ~np.any(v, axis=1), np.nan, scale)
    off = np.where(np.any(v, axis=1), off, 0.0)
    dtypes = [ref.dtype for ref in (plain.weight, folded.weight, plain.bias, folded.bias) if ref is not None]
    return Scaling(
        plain=plain,
        folded=folded,
        scale=scale,
        off_direction=np.where(np.isnan(off), np.inf, off),
        bias=_bias(plain, len(w)),
        folded_bias=_bias(folded, len(w)),
        tolerance=max((TOLERANCES.get(dtype, 0.0) for dtype in dtypes), default=0.0),
    )


def _bias(layer: WeightedLayer, channels: int) -> Array:
    values = np.zeros(channels) if layer.bias is None else flat(layer.bias)
    if values.size != channels:
        raise ArtifactError(f"{layer.weight.name}: a bias of {values.size} elements beside {channels} outputs")
    return values


def try_scaling(plain: WeightedLayer, folded: WeightedLayer) -> Scaling | str:
    """Return the scaling, or why there is none."""
    for layer in (plain, folded):
        if is_too_large(layer):
            return f"{layer.weight.name} is larger than what is compared filter by filter"
    try:
        return scaling(plain, folded)
    except ArtifactError as error:
        return str(error)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Deviation:
    """How far the equations are from holding with one eps; each of shape (C,)."""

    scale: Array
    shift: Array
    expected_scale: Array
    expected_shift: Array

    @property
    def worst(self) -> Array:
        return np.maximum(self.scale, self.shift)


def check_fold(norm: NormValues, folded: Scaling) -> tuple[FoldCheck, float]:
    """Return whether the equations hold, and the median deviation of the scales, by which candidates are told apart.

    The norm layer and the scaling have the same number of channels.
    """
    if norm.mean is None or norm.variance is None:
        why = norm.problem or "the batch norm has no stored statistics"
        return FoldCheck(weight=folded.plain.weight.name, into=folded.folded.weight.name, holds=None, why=why), math.inf
    eps, inferred = norm.norm.eps, norm.norm.eps is None
    if eps is None:
        eps = infer_eps(norm, folded)
    deviation = _deviation(norm, folded, eps)
    worst = np.maximum(deviation.worst, folded.off_direction)
    other_eps = None
    if not inferred and not _holds(deviation.scale, folded.tolerance):
        tried = infer_eps(norm, folded)
        if np.all(np.maximum(_deviation(norm, folded, tried).worst, folded.off_direction) <= folded.tolerance):
            other_eps = tried
    channel = int(np.argmax(worst))
    part = _part(deviation, folded, channel)
    holds = _holds(worst, folded.tolerance)
    check = FoldCheck(
        weight=folded.plain.weight.name,
        into=folded.folded.weight.name,
        holds=holds,
        eps=eps,
        eps_inferred=inferred,
        folded_eps=other_eps,
        tolerance=folded.tolerance,
        deviation=float(worst[channel]),
        channel=channel,
        channels=int(np.sum(~(worst <= folded.tolerance))),
        part=part,
        why="" if holds else _why(deviation, folded, channel, part),
    )
    return check, float(np.median(deviation.scale))


def _holds(worst: Array, tolerance: float) -> bool:
    return bool(np.all(worst <= tolerance))


def _part(deviation: _Deviation, folded: Scaling, channel: int) -> str:
    sizes = {
        "scale": deviation.scale[channel],
        "shift": deviation.shift[channel],
        "direction": folded.off_direction[channel],
    }
    return max(sizes, key=lambda name: float(sizes[name]))


def _why(deviation: _Deviation, folded: Scaling, channel: int, part: str) -> str:
    if part == "direction":
        return f"filter {channel} is no multiple of the unfolded one: {folded.off_direction[channel]:.3g} of it is not"
    if part == "scale":
        found, expected = folded.scale[channel], deviation.expected_scale[channel]
        return f"channel {channel} is scaled by {found:.6g} instead of {expected:.6g}"
    found, expected = folded.folded_bias[channel], deviation.expected_shift[channel]
    return f"the bias of channel {channel} is {found:.6g} instead of {expected:.6g}"


def _deviation(norm: NormValues, folded: Scaling, eps: float) -> _Deviation:
    mean, variance = norm.mean, norm.variance
    if mean is None or variance is None:
        raise ArtifactError(f"{norm.norm.path}: no stored statistics")
    weight = np.ones_like(mean) if norm.weight is None else norm.weight
    bias = np.zeros_like(mean) if norm.bias is None else norm.bias
    with np.errstate(all="ignore"):
        expected = weight / np.sqrt(variance + eps)
        level = np.maximum(np.abs(expected), 1e-6 * np.nanmax(np.abs(expected), initial=1e-30))
        scale = np.abs(folded.scale - expected) / level
        scale = np.where(np.isnan(folded.scale), 0.0, scale)
        shift_expected = (folded.bias - mean) * expected + bias
        # A layer's output varies by |weight| around |bias|: that is what a shift counts in.
        level = np.abs(weight) + np.abs(bias) + np.abs(expected) * (np.abs(folded.bias) + np.abs(mean)) + 1e-30
        shift = np.abs(folded.folded_bias - shift_expected) / level
    return _Deviation(
        scale=np.where(np.isnan(scale), np.inf, scale),
        shift=np.where(np.isnan(shift), np.inf, shift),
        expected_scale=expected,
        expected_shift=shift_expected,
    )


def infer_eps(norm: NormValues, folded: Scaling) -> float:
    """Return the one eps that explains the scales of most channels: a usual one where rounding leaves it open.

    From scale_c = weight_c / sqrt(var_c + eps), each channel gives an eps; their median, weighted by how exactly each
    tells it, is right although up to half of the channels may have other statistics.
    """
    if norm.variance is None:
        return USUAL_EPS[0]
    weight = np.ones_like(norm.variance) if norm.weight is None else norm.weight
    with np.errstate(all="ignore"):
        total = (weight / folded.scale) ** 2
        usable = np.isfinite(total) & (total > 0) & (norm.variance >= 0)
    if not np.any(usable):
        return USUAL_EPS[0]
    total, variance = total[usable], norm.variance[usable]

    def explained(eps: float) -> int:
        with np.errstate(all="ignore"):
            apart = np.abs(np.sqrt(total / (variance + eps)) - 1.0)
        return int(np.sum(apart <= folded.tolerance))

    order = np.argsort(total - variance)
    each, weights = (total - variance)[order], (1.0 / total)[order]
    middle = int(np.searchsorted(np.cumsum(weights), weights.sum() / 2))
    solved = max(0.0, float(each[min(middle, each.size - 1)]))
    usual = max(USUAL_EPS, key=lambda eps: (explained(eps), -USUAL_EPS.index(eps)))
    return usual if explained(usual) >= explained(solved) else solved
