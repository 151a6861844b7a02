"""Real samples given to the Python functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bn_audit.errors import UsageError
from bn_audit.subject.run import Array


def as_arrays(inputs: Mapping[str, object]) -> dict[str, Array]:
    """Return arrays or tensors as numpy arrays.

    Raises:
        UsageError: a value is neither.
    """
    return {name: _as_array(name, value) for name, value in inputs.items()}


def _as_array(name: str, value: object) -> Array:
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        value = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    array: Array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind in "SUV":
        raise UsageError(f"input {name!r}: {type(value).__name__} is no array of numbers: give an array or a tensor")
    return array
