"""Whether a graph whose batch size was freed is still the same model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bn_audit.errors import RunError
from bn_audit.runners._onnx.backend import Forward
from bn_audit.subject.run import Array, Batch, InputSpec, Outputs

TOLERANCE = 1e-3
"""Relative to the largest element: kernels for other sizes round differently, a wrong layout gives other numbers."""

UNKNOWN_SIZES = {4: 64, 5: 16}
"""For axes that are open too, by rank; 16 for every other rank."""

TIMES = 2
"""How many declared batches are put into one."""


def is_same_model(original: Forward, free: Forward, specs: Sequence[InputSpec], size: int) -> bool:
    """Return whether the freed graph gives what the original does.

    At the declared size always; of several batches put into one, each its own rows. Where the samples of a batch depend
    on each other these differ by right: then equal batches must still give equal rows.
    """
    try:
        batches = [drawn(specs, size, seed) for seed in range(TIMES)]
        given = [original(batch) for batch in batches]
        if not _close(given[0], free(batches[0])):
            return False
        return _holds(free, specs, batches, given) or _holds(free, specs, batches[:1] * TIMES, given[:1] * TIMES)
    except RunError:
        return False


def _holds(free: Forward, specs: Sequence[InputSpec], batches: Sequence[Batch], given: Sequence[Outputs]) -> bool:
    joined = {
        spec.name: np.concatenate([batch[spec.name] for batch in batches])
        if spec.batch_axis is not None
        else batches[0][spec.name]
        for spec in specs
    }
    outputs = free(joined)
    wanted = {name: np.concatenate([part[name] for part in given]) for name in given[0] if given[0][name].ndim}
    return _close(wanted, {name: outputs[name] for name in wanted if name in outputs})


def drawn(specs: Sequence[InputSpec], size: int, seed: int) -> dict[str, Array]:
    """Return a batch for trying a model out; sizes other than the batch that are open get usual ones."""
    generator = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for spec in specs:
        usual = UNKNOWN_SIZES.get(len(spec.shape), 16)
        shape = [length if isinstance(length, int) else usual for length in spec.shape]
        if spec.batch_axis is not None:
            shape[spec.batch_axis] = size
        kind = np_type(spec.dtype)
        if "float" in spec.dtype:
            found[spec.name] = generator.normal(size=shape).astype(kind)
        else:
            found[spec.name] = generator.integers(0, min(spec.highest or 2, 100), shape).astype(kind)
    return found


def np_type(name: str) -> np.dtype[np.generic]:
    """Return numpy's type of PyTorch's name of an element type."""
    if name == "bfloat16" or name.startswith("float8"):
        import ml_dtypes

        return np.dtype(str(getattr(ml_dtypes, name).__name__))
    return np.dtype(name)


def _close(first: Outputs, second: Outputs) -> bool:
    if first.keys() != second.keys():
        return False
    for name, array in first.items():
        other = second[name]
        if array.shape != other.shape:
            return False
        left, right = array.astype(np.float64), other.astype(np.float64)
        scale = float(np.max(np.abs(left), initial=0.0, where=np.isfinite(left)))
        if not np.allclose(left, right, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
            return False
    return True
