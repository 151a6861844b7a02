"""Real samples that a caller of the API gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bn_audit.errors import UsageError
from bn_audit.sampling.dtypes import NAMES, SMALL_FLOATS, dtype_name, numpy_dtype
from bn_audit.subject.run import Array


def from_tensors(inputs: object) -> dict[str, Array]:
    """Return the arrays of a caller of the API: one array or tensor, or several by the names of the inputs.

    PyTorch tensors are copied to the CPU.

    Raises:
        UsageError: something is neither an array nor a tensor of numbers.
    """
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return {str(name): _as_array(str(name), value) for name, value in named.items()}


def _as_array(name: str, value: object) -> Array:
    if hasattr(value, "detach"):
        return _from_torch(name, value)
    try:
        array: Array = np.asarray(value)
    except ValueError as error:
        raise UsageError(f"{_called(name)}: is no array ({error}): give arrays or tensors of numbers") from error
    if dtype_name(array.dtype) not in NAMES:
        raise UsageError(f"{_called(name)}: {type(value).__name__} is no array of numbers: give an array or a tensor")
    return array


def _called(name: str) -> str:
    return f"input {name!r}" if name else "inputs"


def _from_torch(name: str, tensor: object) -> Array:
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided or tensor.is_quantized:
        raise UsageError(f"{_called(name)}: {type(tensor).__name__} is no dense tensor: give an array or a tensor")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    dtype = str(plain.dtype).removeprefix("torch.")
    if dtype not in NAMES:
        raise UsageError(f"{_called(name)}: no input here takes {dtype}: convert the tensor")
    if dtype in SMALL_FLOATS:
        same_size = torch.int16 if dtype == "bfloat16" else torch.uint8
        return np.asarray(plain.view(same_size).numpy().view(numpy_dtype(dtype)))
    return np.asarray(plain.numpy())
