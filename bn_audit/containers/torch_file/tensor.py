"""A tensor as a PyTorch file describes it, and the strided view of a storage that most tensors are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bn_audit.containers.inert import Global, Instance
from bn_audit.containers.strided import check_extent, contiguous_bytes, ranged_reader
from bn_audit.containers.torch_file.storage import MAX_DIMENSIONS, Storage, dtype_name, item_size
from bn_audit.errors import LimitExceededError, MalformedFileError, TensorUnavailableError
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef

MAX_TENSOR_BYTES = 64 << 20
"""Largest tensor that is loaded; the tensors of a norm layer have some kilobytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as a PyTorch file describes it.

    Attributes:
        dtype: A key of `ITEM_SIZES`, or torch's name of a dtype without real values, such as ``qint8``; ``"unknown"``
            where the file does not say.
        shape: Size of each dimension; ``()`` for an uninitialised or nested one, which has no shape yet.
        load: Returns the elements as little-endian, contiguous, row-major bytes. Raises TensorUnavailableError where
            the layout is not ``strided``, LimitExceededError beyond `MAX_TENSOR_BYTES`.
        read: Returns (offset, length) of these bytes, without that limit; None where they are rearranged.
        is_parameter: It is a ``Parameter``.
        requires_grad: None where the file does not say.
        storage: Identity of its storage and of the place in it, equal for tensors that share their elements; None
            where there are no bytes.
        layout: ``strided``, ``sparse``, ``meta``, ``uninitialised``, ``quantised`` or ``nested``.
    """

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], bytes]
    is_parameter: bool = False
    requires_grad: bool | None = None
    storage: str | None = None
    layout: str = "strided"
    read: Callable[[int, int], bytes] | None = None

    def ref(self, name: str) -> TensorRef:
        """Return the tensor under the name that the artifact gives it."""
        return TensorRef(name=name, dtype=self.dtype, shape=self.shape, load=self.load, read=self.read)

    def as_parameter(self, requires_grad: bool | None) -> StoredTensor:
        """Return the same tensor as a parameter; the usual case, and several times cheaper than ``replace``."""
        return StoredTensor(
            dtype=self.dtype,
            shape=self.shape,
            load=self.load,
            is_parameter=True,
            requires_grad=requires_grad,
            storage=self.storage,
            layout=self.layout,
            read=self.read,
        )


def corrupt_tensor(name: str, what: str) -> MalformedFileError:
    """Return the error that says what is wrong with a tensor."""
    return MalformedFileError(f"{name}: corrupt tensor: {what}: save or download the file again")


def without_values(name: str, why: str) -> Callable[[], bytes]:
    """Return the ``load`` of a tensor that has no bytes: it raises a TensorUnavailableError that says why."""

    def load() -> bytes:
        raise TensorUnavailableError(f"{name}: the file holds no values for this tensor: {why}")

    return load


def read_sizes(value: object, name: str) -> tuple[int, ...]:
    """Return a pickled shape or strides, which may be a ``torch.Size``."""
    if type(value) is Instance and value.type_name == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    if type(value) not in (tuple, list):
        raise corrupt_tensor(name, "its shape is no tuple")
    if len(value) > MAX_DIMENSIONS:  # type: ignore[arg-type]
        raise corrupt_tensor(name, f"it has {len(value)} dimensions")  # type: ignore[arg-type]
    sizes: tuple[int, ...] = tuple(value)  # type: ignore[arg-type]
    for size in sizes:
        if type(size) is not int or not 0 <= size < 1 << 62:
            raise corrupt_tensor(name, "its shape or strides are no sizes")
    return sizes


def read_flag(value: object) -> bool | None:
    """Return a pickled boolean; None for anything else."""
    return value if type(value) is bool else None


def read_dtype(value: object, name: str) -> str:
    """Return the name of a pickled ``torch.dtype``."""
    dtype = dtype_name(value)
    if dtype is None:
        called = value.qualified if isinstance(value, Global) else "no name"
        raise MalformedFileError(f"{name}: tensor of the unknown dtype {called}: save it with a released PyTorch")
    return dtype


def strided_view(
    storage: Storage,
    name: str,
    dtype: str,
    place: tuple[object, object, object],
    flags: dict[object, object],
    *,
    requires_grad: object = None,
) -> StoredTensor:
    """Return the tensor that views a storage.

    Args:
        place: Offset in elements, shape and strides, as pickled.
        requires_grad: As pickled.
        flags: The ``neg`` and ``conj`` bits of a lazy view.

    Raises:
        MalformedFileError: an impossible place, or one outside the storage.
    """
    offset, shape, strides = place[0], read_sizes(place[1], name), read_sizes(place[2], name)
    if type(offset) is not int:
        raise corrupt_tensor(name, "its offset is no integer")
    size = item_size(dtype)
    check_extent(name=name, size=size, shape=shape, strides=strides, offset=offset, storage_bytes=storage.size)

    def load() -> bytes:
        if dtype not in ITEM_SIZES:
            raise TensorUnavailableError(f"{name}: elements of dtype {dtype} have no real value to judge")
        length = math.prod(shape) * size
        if length > MAX_TENSOR_BYTES:
            raise LimitExceededError(
                f"{name}: the tensor has {length} bytes, more than the {MAX_TENSOR_BYTES} this tool loads"
            )
        data = contiguous_bytes(
            storage.read,
            name=name,
            dtype=dtype,
            shape=shape,
            strides=strides,
            offset=offset,
            storage_bytes=storage.size,
            big_endian=storage.big_endian,
        )
        return _with_signs(data, name, dtype, flags) if flags else data

    read = None
    if dtype in ITEM_SIZES and not flags:
        read = ranged_reader(
            storage.read,
            name=name,
            size=size,
            shape=shape,
            strides=strides,
            offset=offset,
            big_endian=storage.big_endian,
        )
    return StoredTensor(
        dtype=dtype,
        shape=shape,
        load=load,
        requires_grad=read_flag(requires_grad),
        storage=f"{storage.key}+{offset * size}",
        layout="strided" if dtype in ITEM_SIZES else "quantised",
        read=read,
    )


def _with_signs(data: bytes, name: str, dtype: str, flags: dict[object, object]) -> bytes:
    """Return the elements with the signs that the ``neg`` and ``conj`` bits of a lazy view ask for.

    Source: torch 2.13 ``_utils.py``, ``set_tensor_metadata``. In a little-endian IEEE number the sign is the highest
    bit of the last byte.
    """
    is_complex = dtype.startswith("complex")
    part = ITEM_SIZES[dtype] // 2 if is_complex else ITEM_SIZES[dtype]
    flipped = bytearray(data)
    if flags.get("neg") is True:
        if not is_complex and "float" not in dtype:
            raise TensorUnavailableError(f"{name}: a negated view of dtype {dtype} is not read: save a copy of it")
        flipped[part - 1 :: part] = flipped[part - 1 :: part].translate(_SIGN_FLIPPED)
    if flags.get("conj") is True and is_complex:
        last = 2 * part - 1
        flipped[last :: 2 * part] = flipped[last :: 2 * part].translate(_SIGN_FLIPPED)
    return bytes(flipped)


_SIGN_FLIPPED = bytes(byte ^ 0x80 for byte in range(256))
