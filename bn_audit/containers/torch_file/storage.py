"""The storages of a PyTorch file: which bytes a tensor views, and of which type.

Sources: torch 2.13 ``serialization.py`` (``_save``, ``_legacy_save``), ``storage.py``, ``_utils.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bn_audit.containers.inert import Global, PersistentId
from bn_audit.errors import MalformedFileError
from bn_audit.subject.tensor import ITEM_SIZES

_OPAQUE_SIZES = {
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
    "bits8": 1,
    "bits16": 2,
    "bits1x8": 1,
    "bits2x4": 1,
    "bits4x2": 1,
    "float4_e2m1fn_x2": 1,
}
"""Bytes per element of the dtypes whose elements have no value of their own."""

_STORAGE_DTYPES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "QInt8": "qint8",
    "QInt32": "qint32",
    "QUInt8": "quint8",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
    "Untyped": "uint8",
    "_Untyped": "uint8",
}

_ALIASES = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "chalf": "complex32",
    "cfloat": "complex64",
    "cdouble": "complex128",
}

MAX_DIMENSIONS = 64
"""PyTorch itself cannot save a tensor of more dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Storage:
    """A run of bytes that tensors view.

    Attributes:
        key: What tells it apart from the other storages of the file.
        dtype: Type of its elements; ``uint8`` for an untyped one.
        size: Size in bytes.
        big_endian: The bytes are those of a big-endian machine.
        read: Returns (offset, length) bytes, counted from its start.
    """

    key: str
    dtype: str
    size: int
    big_endian: bool
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageId:
    """What a persistent id says about a storage; sizes and offsets in elements of `dtype`.

    Attributes:
        view: (key, offset, size) of the part that is meant, in files of torch 0.4 and before.
    """

    key: str
    dtype: str
    numel: int
    view: tuple[str, int, int] | None


def item_size(dtype: str) -> int:
    """Return the bytes per element of a dtype that `dtype_name` or a storage class names."""
    return ITEM_SIZES.get(dtype) or _OPAQUE_SIZES[dtype]


def dtype_name(value: object) -> str | None:
    """Return torch's name of a pickled dtype such as ``torch.float32``; None for anything else."""
    if not isinstance(value, Global) or value.module != "torch":
        return None
    name = _ALIASES.get(value.name, value.name)
    return name if name in ITEM_SIZES or name in _OPAQUE_SIZES else None


def storage_id(value: object, name: str) -> StorageId | None:
    """Return what a persistent id names; None where it is no storage.

    Raises:
        MalformedFileError: it is a storage, but an impossible one.
    """
    if not isinstance(value, PersistentId):
        return None
    parts = value.value
    if isinstance(parts, str) and parts.startswith("('storage'"):
        raise MalformedFileError(
            f"{name}: saved with pickle protocol 0, which loses the tensors (PyTorch cannot load it either): "
            "save it with the default protocol"
        )
    if not isinstance(parts, tuple) or not 5 <= len(parts) <= 6 or parts[0] != "storage":
        return None
    _, kind, key, _location, numel = parts[:5]
    dtype = _storage_dtype(kind)
    if dtype is None:
        called = kind.qualified if isinstance(kind, Global) else "a value that is no name"
        raise MalformedFileError(f"{name}: storage of the unknown type {called}: save the file with a released PyTorch")
    text = _key_text(key)
    if text is None or type(numel) is not int or not 0 <= numel < 1 << 60:
        raise MalformedFileError(f"{name}: corrupt: a storage has an impossible key or size")
    return StorageId(key=text, dtype=dtype, numel=numel, view=_view(parts[5] if len(parts) == 6 else None, name))


def _view(value: object, name: str) -> tuple[str, int, int] | None:
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 3:
        key, offset, size = _key_text(value[0]), value[1], value[2]
        if key is not None and type(offset) is int and type(size) is int and offset >= 0 and size >= 0:
            return key, offset, size
    raise MalformedFileError(f"{name}: corrupt: a storage is an impossible part of another")


def _key_text(key: object) -> str | None:
    if type(key) is str:
        return key
    return str(key) if type(key) is int and abs(key) < 1 << 70 else None


def _storage_dtype(kind: object) -> str | None:
    if isinstance(kind, Global) and kind.name.endswith("Storage") and kind.module.partition(".")[0] == "torch":
        return _STORAGE_DTYPES.get(kind.name.removesuffix("Storage"))
    return None
