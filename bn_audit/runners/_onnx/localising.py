"""Where the samples of a batch meet in an ONNX graph: a run in two colours over every value.

One colour is what changes when the companions change, the other what changes when the probe does. A value in which both
colours meet combines samples; a value that holds the probe's colour in other rows than the probe's has moved rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bn_audit.containers.onnx_file.tensors import DTYPES
from bn_audit.runners._onnx.backend import Forward
from bn_audit.runners._onnx.dependence import Proto
from bn_audit.runners._onnx.loading import copied
from bn_audit.subject.run import Array, Batch
from bn_audit.subject.tensor import ITEM_SIZES

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The sample whose rows are watched."""

    batch_size: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    """What the three runs say about one value.

    Attributes:
        meets: Elements that both changes reach.
        moved: The probe's change is not where its rows are, or the companions' is there.
        reached: Either change reaches it.
        effect: Of the companions on the probe's rows; None where its rows or sizes are not known.
        size: Its bytes.
    """

    meets: bool
    moved: bool
    reached: bool
    effect: float | None
    size: int = 0


def value_sizes(proto: Proto, batch: Batch) -> dict[str, int]:
    """Return the bytes of every value whose shape follows from the shapes of a batch."""
    import onnx

    shaped = copied(proto)
    del shaped.graph.value_info[:]
    for value in shaped.graph.input:
        if value.name in batch:
            shape = value.type.tensor_type.shape
            shape.ClearField("dim")
            for size in batch[value.name].shape:
                shape.dim.add().dim_value = size
    for value in shaped.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(shaped, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    found = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.HasField("shape") and all(dims):
            width = ITEM_SIZES.get(DTYPES.get(value.type.tensor_type.elem_type, ""), 8)
            found[value.name] = width * math.prod(dims)
    return found


def compare(
    start: Callable[[], Forward], batches: Sequence[Batch], probe: Probe, later: Collection[str]
) -> tuple[dict[str, Colours], tuple[dict[str, Array], ...]]:
    """Return the colours of the values that a model gives, and these values themselves for each batch.

    Args:
        start: Gives the model, as it is before any run.
        batches: The batch, the same with other companions, the same with another probe.
        later: Names of the values to return.
    """
    first = start()(batches[0])
    second = start()(batches[1])
    by_companions = {name: _differs(first[name], second[name]) for name in first if name in second}
    changes = {
        name: _change(first[name], second[name]) for name in by_companions if first[name].shape == second[name].shape
    }
    second = {name: second[name] for name in later if name in second}
    third = start()(batches[2])
    found = {}
    for name, mask in by_companions.items():
        if name in third:
            found[name] = _coloured(first[name], changes.get(name), mask, _differs(first[name], third[name]), probe)
    kept = tuple({name: values[name] for name in later if name in values} for values in (first, second, third))
    return found, kept


def _differs(first: Array, second: Array) -> Mask:
    """Return which elements differ by bits; all of them where the shapes do."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return np.ones(first.shape, np.bool_)
    if first.dtype.kind in "bOUS" or first.dtype.itemsize not in (1, 2, 4, 8):
        return np.asarray(first != second, np.bool_)
    bits = f"u{first.dtype.itemsize}"
    return np.asarray(np.ascontiguousarray(first).view(bits) != np.ascontiguousarray(second).view(bits)).reshape(
        first.shape
    )


def _change(first: Array, second: Array) -> Array | None:
    if first.dtype.kind in "bOUS":
        return None
    with np.errstate(all="ignore"):
        return np.abs(first.astype(np.float32) - second.astype(np.float32))


def _coloured(value: Array, change: Array | None, companions: Mask, probe: Mask, place: Probe) -> Colours:
    batch_size, index = place.batch_size, place.index
    reached = bool(companions.any() or probe.any())
    meets = bool((companions & probe).any())
    both = bool(companions.any() and probe.any())
    rows = probe_rows(companions, probe, batch_size, index)
    moved = both and not meets and rows is None
    if rows is None:
        rows = usual_rows(value.shape, batch_size, index)
    effect = None
    if rows is not None and change is not None and value.dtype.kind not in "bOUS":
        with np.errstate(all="ignore"):
            scale = float(np.max(np.abs(value[rows].astype(np.float64)), initial=0.0))
            largest = float(np.max(change[rows].astype(np.float64), initial=0.0))
        effect = largest / scale if scale else (0.0 if not largest else 1.0)
        effect = effect if np.isfinite(effect) else None
    return Colours(meets=meets, moved=moved, reached=reached, effect=effect, size=value.nbytes)


def probe_rows(companions: Mask, probe: Mask, batch_size: int, index: int) -> tuple[slice, ...] | None:
    """Return where the probe's rows are: its change lies there alone, the companions' elsewhere; None if nowhere."""
    for axis, size in enumerate(probe.shape):
        if not size or size % batch_size:
            continue
        others = tuple(place for place in range(probe.ndim) if place != axis)
        by_probe = np.asarray(probe.any(axis=others))
        by_companions = np.asarray(companions.any(axis=others))
        block = slice(index * size // batch_size, (index + 1) * size // batch_size)
        if by_probe[block].any() and not by_companions[block].any() and not np.delete(by_probe, block).any():
            return (*(slice(None),) * axis, block)
    return None


def usual_rows(shape: tuple[int, ...], batch_size: int, index: int) -> tuple[slice, ...] | None:
    """Return where the probe's rows are by the sizes alone: on the first axis, else on one of the batch's size."""
    axes = [0] if shape and shape[0] and shape[0] % batch_size == 0 else []
    axes += [axis for axis, size in enumerate(shape) if size == batch_size]
    if not axes:
        return None
    size = shape[axes[0]]
    return (*(slice(None),) * axes[0], slice(index * size // batch_size, (index + 1) * size // batch_size))
