"""Tensors from arrays and back, with every bit kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from bn_audit.errors import RunError
from bn_audit.subject.run import Array

if TYPE_CHECKING:
    import torch


_BIT_TYPES = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}
"""Integers by their bytes."""

_ODD_TYPES = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
"""Element types that numpy has only through ml_dtypes."""


def dtype_name(dtype: torch.dtype) -> str:
    """Return PyTorch's name of an element type, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """Return the element type of this name.

    Raises:
        RunError: PyTorch has none of that name.
    """
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise RunError(f"dtype {name!r}: PyTorch has no such element type: give one like float32, bfloat16 or int64")
    return dtype


def to_tensor(array: Array, device: torch.device) -> torch.Tensor:
    """Return a tensor of its own memory: a model may write into its inputs."""
    import torch

    name = array.dtype.name
    if name in _ODD_TYPES:
        bits = np.array(array).view(np.uint8 if array.dtype.itemsize == 1 else np.int16)
        return torch.from_numpy(bits).view(dtype_named(name)).to(device)
    return torch.from_numpy(np.array(array, order="C")).to(device)


def to_array(tensor: torch.Tensor) -> Array:
    """Return the dense, real values of a tensor on the CPU; nested tensors are padded with zeros."""
    import torch

    plain = tensor.detach()
    if plain.is_nested:
        plain = torch.nested.to_padded_tensor(plain, 0.0)
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    plain = plain.cpu().resolve_conj().resolve_neg()
    if plain.dtype is torch.complex32:
        plain = plain.to(torch.complex64)
    name = dtype_name(plain.dtype)
    if name in _ODD_TYPES:
        return _odd_array(plain.contiguous(), name)
    return cast("Array", np.array(plain.numpy()))


def _odd_array(tensor: torch.Tensor, name: str) -> Array:
    try:
        import ml_dtypes
    except ImportError:  # float32 holds each of these values exactly
        return cast("Array", tensor.float().numpy())
    bits = tensor.view(dtype_named(_BIT_TYPES[tensor.element_size()])).numpy()
    return cast("Array", bits.view(np.dtype(getattr(ml_dtypes, name))).copy())


def as_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor's bits as integers of the same shape, so that NaN equals itself; complex: one axis more."""
    import torch

    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.is_quantized:
        plain = plain.int_repr()
    if plain.is_complex():
        plain = torch.view_as_real(plain)
    if plain.dtype is torch.bool:
        return plain.to(torch.uint8)
    return plain.view(dtype_named(_BIT_TYPES[plain.element_size()]))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors have the same shape, element type and bits."""
    import torch

    if one.shape != other.shape or one.dtype != other.dtype or one.layout != other.layout:
        return False
    if one.is_meta or one.numel() == 0:
        return True
    if one.layout is not torch.strided:
        one, other = one.to_dense(), other.to_dense()
    if one.is_quantized:
        return bool(torch.equal(one, other))
    return bool(torch.equal(as_bits(one), as_bits(other)))
