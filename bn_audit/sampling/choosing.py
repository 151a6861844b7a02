"""Where the values of each input come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bn_audit.sampling.dtypes import COMPLEX, INTEGERS, is_inexact
from bn_audit.sampling.values import Kind, ValueSource
from bn_audit.subject.run import Array, InputSpec

VOCABULARIES = (1000, 100, 10, 2)
"""Numbers of token ids to try where the model does not say how many it knows."""

VOCABULARIES_ON_DEVICES = (10, 2)
"""An index out of range is an error on a CPU and the end of the process on a GPU."""

FULL_RANGES = {"uint8": (0, 256), "int8": (-128, 128)}
"""Quantised values and images use all of their range."""

_MASK = re.compile(r"mask|valid|visible", re.IGNORECASE)
_COUNTING = re.compile(r"position|pos_id", re.IGNORECASE)
_SEGMENT = re.compile(r"type_id|segment", re.IGNORECASE)
_LENGTH = re.compile(r"length|lens?$|sizes?$", re.IGNORECASE)


def value_sources(
    specs: Sequence[InputSpec], rows: Mapping[str, Array], *, on_device: bool
) -> Iterator[tuple[tuple[ValueSource, ...], str]]:
    """Yield the sources of all inputs, with what was guessed in them; the likeliest first.

    Args:
        specs: With every size of a sample decided.
        rows: Real samples by input, samples first.
        on_device: The model runs on an accelerator.
    """
    guesses = VOCABULARIES_ON_DEVICES if on_device else VOCABULARIES
    is_guess = any(spec.name not in rows and is_free(spec) for spec in specs)
    for highest in guesses if is_guess else (2,):
        sources = tuple(_source(spec, rows.get(spec.name), specs, highest) for spec in specs)
        yield sources, f"values below {highest}" if is_guess else ""
    if is_guess and any(is_free(spec) and spec.sample is not None for spec in specs):
        yield tuple(_source(spec, rows.get(spec.name), specs, None) for spec in specs), "integers as carried"


def sample_shape(spec: InputSpec) -> tuple[int, ...]:
    """Return the shape of one sample of an input whose sizes are decided."""
    return tuple(int(size or 1) for axis, size in enumerate(spec.shape) if axis != spec.batch_axis)


def carried_rows(spec: InputSpec) -> Array | None:
    """Return the samples that an artifact carries, samples first; None where their shape is another one."""
    if spec.sample is None or spec.sample.size == 0:
        return None
    if spec.batch_axis is None:
        return spec.sample[np.newaxis]
    if spec.sample.ndim != len(spec.shape):
        return None
    rows = np.moveaxis(spec.sample, spec.batch_axis, 0)
    return rows if rows.shape[1:] == sample_shape(spec) else None


def is_setting(spec: InputSpec) -> bool:
    """Return whether an input is one number for all samples, which the artifact does not carry."""
    return spec.batch_axis is None and spec.shape == () and spec.sample is None


def is_free(spec: InputSpec) -> bool:
    """Return whether nothing says which integers an input takes."""
    if is_setting(spec):
        return False
    if spec.dtype not in INTEGERS or spec.highest is not None or spec.dtype in FULL_RANGES:
        return False
    if any(pattern.search(spec.name) for pattern in (_MASK, _COUNTING, _SEGMENT, _LENGTH)):
        return False
    return spec.sample is None or _is_constant(spec.sample)


def _is_constant(values: Array) -> bool:
    return bool(values.size) and bool((values == values.flat[0]).all())


def _source(spec: InputSpec, rows: Array | None, specs: Sequence[InputSpec], highest: int | None) -> ValueSource:
    shape = sample_shape(spec)
    if rows is not None:
        return ValueSource(kind=Kind.ROWS, dtype=spec.dtype, shape=shape, rows=rows)
    carried = carried_rows(spec)
    if is_setting(spec):
        kind = Kind.HALF if is_inexact(spec.dtype) else Kind.CONSTANT
        return ValueSource(kind=kind, dtype=spec.dtype, shape=shape, lowest=0 if spec.dtype == "bool" else 1)
    if is_inexact(spec.dtype) and not _MASK.search(spec.name):
        kind = Kind.NORMAL if carried is None or spec.dtype in COMPLEX else Kind.NEAR
        if carried is not None and not bool(np.isfinite(carried).all()):
            kind, carried = Kind.NORMAL, None
        return ValueSource(kind=kind, dtype=spec.dtype, shape=shape, rows=carried)
    kind, lowest, top = _integers(spec, carried, specs, highest)
    return ValueSource(kind=kind, dtype=spec.dtype, shape=shape, lowest=lowest, highest=top)


def _integers(
    spec: InputSpec, carried: Array | None, specs: Sequence[InputSpec], highest: int | None
) -> tuple[Kind, int, int]:
    """Return how integers, booleans and masks are drawn, with their range."""
    if _MASK.search(spec.name):
        return Kind.MASK, 0, 2
    if spec.dtype == "bool":
        return Kind.INTEGERS, 0, 2
    if _COUNTING.search(spec.name):
        return Kind.COUNTING, 0, 0
    known = spec.highest
    if _LENGTH.search(spec.name) and known is None:
        return Kind.CONSTANT, _longest(specs) if carried is None else int(carried.flat[0]), 0
    if known is not None:
        return Kind.INTEGERS, 0, max(1, known)
    if carried is not None and not _is_constant(carried):
        return Kind.INTEGERS, int(carried.min()), int(carried.max()) + 1
    if spec.dtype in FULL_RANGES:
        return Kind.INTEGERS, *FULL_RANGES[spec.dtype]
    if _SEGMENT.search(spec.name):
        return Kind.INTEGERS, 0, 2
    if highest is None:
        return Kind.CONSTANT, int(carried.flat[0]) if carried is not None else 0, 0
    return Kind.INTEGERS, 0, highest


def _longest(specs: Sequence[InputSpec]) -> int:
    """Return the length of the sequences that lengths are about: the first axis of a sample of another input."""
    return max((sample_shape(spec)[0] for spec in specs if sample_shape(spec)), default=1)
