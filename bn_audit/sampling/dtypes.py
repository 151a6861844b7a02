"""Element types by PyTorch's names, and the numpy types that stand for them."""

from __future__ import annotations

import difflib

import numpy as np
import numpy.typing as npt

from bn_audit.errors import UsageError

FLOATS = ("float32", "float64", "float16")
SMALL_FLOATS = (
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
"""Types that numpy lacks and ml_dtypes brings."""

COMPLEX = ("complex64", "complex128")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64")
NAMES = (*FLOATS, *SMALL_FLOATS, *COMPLEX, *INTEGERS, "bool")

_OTHER_NAMES = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "fp16": "float16",
    "fp32": "float32",
    "fp64": "float64",
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "bf16": "bfloat16",
    "fp8": "float8_e4m3fn",
    "float8": "float8_e4m3fn",
    "int": "int64",
    "long": "int64",
    "short": "int16",
    "byte": "uint8",
    "boolean": "bool",
    "complex": "complex64",
    "cfloat": "complex64",
    "tensor(float)": "float32",
    **{
        f"{letter}{bits}": f"{name}{bits}" for letter, name in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)
    },
}
"""What other tools call them: never accepted, since a guess may be wrong, but the message names the right one."""


def require_dtype(name: str, where: str) -> str:
    """Return `name` where it is an element type.

    Args:
        where: What the message begins with, such as ``--input 'x=f32:3'``.

    Raises:
        UsageError: it is none; the message names the nearest.
    """
    if name in NAMES:
        return name
    plain = name.lower().removeprefix("torch.").removeprefix("np.").removeprefix("numpy.")
    near = [plain] if plain in NAMES else [_OTHER_NAMES[plain]] if plain in _OTHER_NAMES else []
    near = near or difflib.get_close_matches(plain, NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(NAMES)}"
    raise UsageError(f"{where}: there is no element type {name!r}: {hint}")


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """Return the numpy type of an element type.

    Raises:
        UsageError: it has none.
    """
    if name in SMALL_FLOATS:
        import ml_dtypes

        small: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
        return small
    require_dtype(name, "an input")
    return np.dtype(name)


def dtype_name(dtype: npt.DTypeLike) -> str:
    """Return PyTorch's name of a numpy type; numpy's own where PyTorch has none."""
    return np.dtype(dtype).newbyteorder("=").name


def is_float(name: str) -> bool:
    """Return whether the type is a real floating-point one."""
    return name in FLOATS or name in SMALL_FLOATS


def is_inexact(name: str) -> bool:
    """Return whether the type rounds: real or complex floating point."""
    return is_float(name) or name in COMPLEX
