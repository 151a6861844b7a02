"""Real samples that a caller of the API gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bn_audit.errors import RunError
from bn_audit.sampling.dtypes import SMALL_FLOATS, numpy_dtype
from bn_audit.subject.run import Array


def from_tensors(inputs: object) -> dict[str, Array]:
    """Return the arrays of a caller of the API: one array or tensor, or several by the names of the inputs.

    PyTorch tensors are copied to the CPU.

    Raises:
        RunError: something is neither an array nor a tensor.
    """
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return {str(name): _as_array(str(name), value) for name, value in named.items()}


def _as_array(name: str, value: object) -> Array:
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        tensor = value.detach().cpu().contiguous()
        return _from_torch(tensor)
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind not in "biufcV":
        raise RunError(f"the given arrays: {name or 'input'!r} is a {type(value).__name__}: give arrays of numbers")
    return array


def _from_torch(tensor: object) -> Array:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise RunError(f"the given arrays: a {type(tensor).__name__} is no tensor: give torch tensors or numpy arrays")
    plain = tensor.resolve_conj().resolve_neg()
    name = str(plain.dtype).removeprefix("torch.")
    if name in SMALL_FLOATS:
        same_size = torch.int16 if name == "bfloat16" else torch.uint8
        return np.asarray(plain.view(same_size).numpy().view(numpy_dtype(name)))
    return np.asarray(plain.numpy())
