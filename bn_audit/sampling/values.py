"""One sample of one input: drawn, near a sample that the artifact carries, or a row of the user's file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bn_audit.sampling.dtypes import COMPLEX, FLOATS, dtype_name, is_float, numpy_dtype
from bn_audit.subject.run import Array

Numbers: TypeAlias = npt.NDArray[Any]
"""Numbers in double precision, real or complex."""

SPREAD = (0.5, 2.0)
"""Standard deviations of drawn samples: samples that differ in scale trip what compares them."""

OFFSET = 0.5
"""Standard deviation of the mean of a drawn sample."""

NOISE = 0.25
"""Noise on a mixture of two real samples, in standard deviations of the mixture: it stays near what is real."""

LARGEST = {"float8_e4m3fn": 16.0, "float8_e4m3fnuz": 16.0}
"""Bound on drawn values of types whose overflow is NaN; a sixteenth of their range leaves room for scaling by ten."""


class Kind(Enum):
    """How the values of an input come about."""

    NORMAL = auto()
    """Normally distributed, each sample with a mean and a spread of its own."""
    INTEGERS = auto()
    """Uniform in [lowest, highest)."""
    MASK = auto()
    """Ones, then zeros: the first half of a sample is always on."""
    COUNTING = auto()
    """0, 1, 2, ... along the last axis: positions."""
    CONSTANT = auto()
    """`ValueSource.lowest` everywhere: lengths, flags."""
    HALF = auto()
    """0.5: a temperature, scale, share or threshold that all samples have in common."""
    NEAR = auto()
    """Normally distributed about what the artifact carries, with its mean and spread."""
    ROWS = auto()
    """Rows of the user's samples, then mixtures of two of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSource:
    """Where the values of one input come from.

    Attributes:
        shape: Of one sample, without the batch axis.
        rows: Samples first; for `Kind.NEAR` and `Kind.ROWS`.
    """

    kind: Kind
    dtype: str
    shape: tuple[int, ...]
    lowest: int = 0
    highest: int = 2
    rows: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which real rows one sample is made of, the same for all inputs so that what belongs together stays together.

    Attributes:
        share: Weight of the first row; 1.0 is the row itself.
    """

    first: int
    second: int
    share: float


def drawn(source: ValueSource, rng: np.random.Generator, choice: Choice | None, scale: float) -> Array:
    """Return one sample.

    Args:
        choice: For real samples; None without any.
        scale: Factor on floating-point values.
    """
    if source.kind is Kind.ROWS and source.rows is not None and choice is not None:
        return _of_rows(source, source.rows, rng, choice, scale)
    if source.kind is Kind.NEAR and source.rows is not None:
        return _stored(_near(source.rows, source.shape, rng) * scale, source.dtype)
    if source.kind is Kind.HALF:
        return _stored(np.full(source.shape, 0.5), source.dtype)
    if source.kind is Kind.NORMAL:
        return _stored(_normal(source, rng) * scale, source.dtype)
    return _stored(_discrete(source, rng), source.dtype)


def _normal(source: ValueSource, rng: np.random.Generator) -> Numbers:
    spread = math.exp(rng.uniform(*np.log(SPREAD)))
    offset = OFFSET * rng.standard_normal()
    values = offset + spread * rng.standard_normal(source.shape)
    if source.dtype in COMPLEX:
        values = values + 1j * spread * rng.standard_normal(source.shape)
    if source.dtype == "float8_e8m0fnu":
        return np.asarray(np.exp2(np.rint(values)))
    return np.asarray(values)


def _near(rows: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Numbers:
    """Return a sample with the mean and spread of the carried ones; a constant one gets unit noise."""
    base = rows[int(rng.integers(len(rows)))].astype(np.complex128 if np.iscomplexobj(rows) else np.float64)
    spread = float(np.std(base)) or 1.0
    values = base.mean() + 0.5 * (base - base.mean()) + spread * rng.uniform(0.5, 1.2) * rng.standard_normal(shape)
    if np.iscomplexobj(base):
        values = values + 1j * spread * rng.standard_normal(shape)
    return np.asarray(values)


def _discrete(source: ValueSource, rng: np.random.Generator) -> Array:
    shape = source.shape
    if source.kind is Kind.COUNTING:
        return np.broadcast_to(np.arange(shape[-1] if shape else 1), shape or (1,)).reshape(shape)
    if source.kind is Kind.CONSTANT:
        return np.full(shape, source.lowest)
    if source.kind is Kind.MASK:
        length = shape[-1] if shape else 1
        on = int(rng.integers((length + 1) // 2, length + 1))
        return np.broadcast_to(np.arange(length) < on, shape or (1,)).reshape(shape)
    return np.asarray(rng.integers(source.lowest, source.highest, shape, dtype=np.int64))


def _of_rows(source: ValueSource, rows: Array, rng: np.random.Generator, choice: Choice, scale: float) -> Array:
    first: Array = np.asarray(rows[choice.first])
    second: Array = np.asarray(rows[choice.second])
    if not (is_float(source.dtype) or source.dtype in COMPLEX):
        return first if choice.share == 1.0 else _joined(first, second, choice.share)
    wide = np.complex128 if source.dtype in COMPLEX else np.float64
    values = first.astype(wide)
    if choice.share == 1.0 and scale == 1.0:
        return first
    if choice.share < 1.0:
        values = choice.share * values + (1.0 - choice.share) * second.astype(wide)
        noisy = values + (NOISE * float(np.std(values)) or 1.0) * rng.standard_normal(source.shape)
        values = noisy if wide is np.complex128 else np.clip(noisy, float(rows.min()), float(rows.max()))
    return _stored(values * scale, source.dtype)


def _joined(first: Array, second: Array, share: float) -> Array:
    """Return the start of one row and the end of another, so that every value is a real one at its place."""
    if first.ndim == 0:
        return first
    cut = max(1, min(first.shape[-1] - 1, round(share * first.shape[-1]))) if first.shape[-1] > 1 else 1
    return np.concatenate([first[..., :cut], second[..., cut:]], axis=-1)


def _stored(values: Numbers, dtype: str) -> Array:
    bound = LARGEST.get(dtype)
    if bound is not None:
        values = np.clip(values, -bound, bound)
    with np.errstate(over="ignore"):
        stored: Array = np.asarray(values).astype(numpy_dtype(dtype))
    return stored


def nudged(values: Array, rng: np.random.Generator) -> Array:
    """Return floating-point values, each changed by one unit in the last place, up or down."""
    name = dtype_name(values.dtype)
    if name in COMPLEX:
        parts = values.view(np.float32 if name == "complex64" else np.float64)
        return nudged(parts, rng).view(values.dtype)
    if name == "float8_e8m0fnu":
        return values
    towards = np.where(rng.integers(0, 2, values.shape, dtype=np.int8) == 1, 1.0, -1.0)
    limit = (towards * float(_largest(values.dtype))).astype(values.dtype)
    return np.asarray(np.nextafter(values, limit))


def _largest(dtype: np.dtype[Any]) -> float:
    if dtype_name(dtype) in FLOATS:
        return float(np.finfo(dtype).max)
    import ml_dtypes

    info: Any = ml_dtypes.finfo
    return float(info(dtype).max)
