"""Arrays that a user gives, matched to the inputs of a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bn_audit.errors import RunError
from bn_audit.sampling.dtypes import COMPLEX, INTEGERS, NAMES, SMALL_FLOATS, dtype_name, is_float, numpy_dtype
from bn_audit.subject.run import Array, InputSpec

NAMED = 6
"""How many names a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Real samples by the name of their input.

    Attributes:
        arrays: As given.
        where: How messages and reports call them: the file, or ``the given arrays``.
    """

    arrays: Mapping[str, Array]
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RealInput:
    """One input with its real values.

    Attributes:
        spec: With the shape and type that is fed.
        rows: Samples first, whatever axis they take in the batch; None where all samples share `spec.sample`.
    """

    spec: InputSpec
    rows: Array | None


def matched(samples: Samples, specs: Sequence[InputSpec], batch_axis: int | None) -> tuple[RealInput, ...]:
    """Return each input of the model with its array.

    Raises:
        RunError: an input has no array, an array does not fit its input, or they disagree about the number of samples.
    """
    names = _names(samples, [spec.name for spec in specs])
    found = tuple(
        _fitted(spec, samples.arrays[name], samples.where, batch_axis) for spec, name in zip(specs, names, strict=True)
    )
    counts = {item.spec.name: len(item.rows) for item in found if item.rows is not None}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r} {count}" for name, count in list(counts.items())[:NAMED])
        raise RunError(
            f"{samples.where}: the inputs hold different numbers of samples ({listed}): give each input one row for "
            "each sample, or --batch-axis where the samples are not the first axis"
        )
    if not counts:
        raise RunError(f"{samples.where}: no input has an axis of samples: put several samples into one array")
    if not next(iter(counts.values())):
        raise RunError(f"{samples.where}: holds no sample: its first axis has size 0")
    return found


def as_specs(samples: Samples, batch_axis: int | None, model_dtype: str) -> Iterator[tuple[InputSpec, ...]]:
    """Yield the inputs as the arrays alone describe them; nothing where one holds raw bytes.

    Real numbers are fed in the model's type first: numpy's default is double precision, which few models take.
    """
    if all(_own_type(array) in NAMES for array in samples.arrays.values()):
        if is_float(model_dtype):
            yield _as_given(samples, batch_axis, model_dtype)
        yield _as_given(samples, batch_axis, None)


def _as_given(samples: Samples, batch_axis: int | None, float_dtype: str | None) -> tuple[InputSpec, ...]:
    return tuple(
        InputSpec(
            name=name or "input",
            dtype=float_dtype if float_dtype is not None and is_float(_own_type(array)) else _own_type(array),
            shape=tuple(array.shape),
            batch_axis=_axis(array.ndim, batch_axis),
            origin=samples.where,
        )
        for name, array in samples.arrays.items()
    )


def _axis(rank: int, batch_axis: int | None) -> int | None:
    return min(batch_axis or 0, rank - 1) if rank else None


def _names(samples: Samples, wanted: Sequence[str]) -> list[str]:
    """Return the name of the array of each input."""
    given = list(samples.arrays)
    if len(wanted) == 1 and len(given) == 1:
        return given
    if given == [f"arr_{index}" for index in range(len(wanted))]:
        return given
    plain = {_plain(name): name for name in given}
    found = [name if name in samples.arrays else plain.get(_plain(name)) for name in wanted]
    missing = [name for name, match in zip(wanted, found, strict=True) if match is None]
    if missing:
        has = ", ".join(repr(name) for name in given[:NAMED]) if given != [""] else "one array without a name"
        listed = ", ".join(repr(name) for name in missing[:NAMED])
        raise RunError(
            f"{samples.where}: has no samples for {'input' if len(missing) == 1 else 'inputs'} {listed}; it holds "
            f"{has}: save each array under the name of its input"
        )
    return [name for name in found if name is not None]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r":\d+$", "", name.lower()))


def _fitted(spec: InputSpec, array: Array, where: str, batch_axis: int | None) -> RealInput:
    """Return an input with its array: as a batch, as a single sample, or as what all samples share."""
    called = f"{where}: {spec.name!r}"
    rank = len(spec.shape)
    dtype = spec.dtype
    if spec.batch_axis is None:
        values = _cast(array, dtype, called)
        return RealInput(
            spec=replace(spec, shape=tuple(array.shape), sample=values, origin=f"{where}, shared by all samples"),
            rows=None,
        )
    axis = spec.batch_axis if batch_axis is None else min(batch_axis, max(rank - 1, 0))
    if array.ndim == rank - 1 and batch_axis is None:
        array = np.expand_dims(array, axis)
    elif array.ndim != rank:
        raise RunError(
            f"{called} has {array.ndim} axes ({_written(array.shape)}), the model takes {rank} with the batch axis "
            f"({_written(spec.shape)}): save the samples as one array, samples first"
        )
    rows = np.moveaxis(_cast(array, dtype, called), axis, 0)
    shape: list[int | str | None] = [*rows.shape[1:]]
    shape.insert(axis, None)
    origin = f"{len(rows)} sample{'' if len(rows) == 1 else 's'} of {where}"
    if _own_type(array) != dtype and array.dtype.kind != "V":
        origin += f", converted from {_own_type(array)}"
    return RealInput(spec=replace(spec, shape=tuple(shape), batch_axis=axis, origin=origin, sample=None), rows=rows)


def _written(shape: Sequence[object]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "a number"


def _own_type(array: Array) -> str:
    return dtype_name(array.dtype)


def _cast(array: Array, dtype: str, called: str) -> Array:
    """Return the array in the input's type where that keeps its meaning.

    Raises:
        RunError: it does not: real numbers for an integer input, integers out of range, values that are no number.
    """
    target = numpy_dtype(dtype)
    own = _own_type(array)
    if array.dtype == target:
        result = array
    elif array.dtype.kind == "V" and own not in SMALL_FLOATS:
        if dtype not in SMALL_FLOATS or array.dtype.itemsize != target.itemsize:
            raise RunError(f"{called} holds raw bytes of {array.dtype.itemsize} each, the model takes {dtype}: convert")
        result = array.view(target)
    elif (is_float(own) or own in COMPLEX) and (dtype in INTEGERS or dtype == "bool"):
        raise RunError(f"{called} holds {own}, the model takes {dtype}: convert the samples first")
    elif own in COMPLEX and dtype not in COMPLEX:
        raise RunError(f"{called} holds complex numbers, the model takes {dtype}: convert the samples first")
    else:
        result = array.astype(target)
        if dtype in INTEGERS and not np.array_equal(result.astype(np.float64), array.astype(np.float64)):
            raise RunError(f"{called} holds integers that {dtype} cannot: convert the samples first")
    if is_float(dtype) and not bool(np.isfinite(result).all()):
        raise RunError(
            f"{called} holds NaN or infinities as {dtype}: leave those samples out, they compare with nothing"
        )
    return result
