"""Every way in which PyTorch pickles a tensor, recognised and checked, with its bytes on demand.

Sources: torch 2.13 ``_utils.py`` (``_rebuild_*``), ``_tensor.py`` (``__reduce_ex__``), ``nn/parameter.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bn_audit.containers.inert import Global, Instance
from bn_audit.containers.strided import check_extent, contiguous_bytes
from bn_audit.containers.torch_file_storage import MAX_DIMENSIONS, Storage, dtype_name, item_size
from bn_audit.errors import LimitExceededError, MalformedFileError, TensorUnavailableError
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef

MAX_TENSOR_BYTES = 64 << 20
"""Largest tensor that is loaded; the tensors of a norm layer have some kilobytes."""

_DEEPEST_WRAPPING = 8
"""A parameter around a subclass around a tensor is 3 deep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as a PyTorch file describes it.

    Attributes:
        dtype: A key of `ITEM_SIZES`, or torch's name of a dtype without real values, such as ``qint8``; ``"unknown"``
            where the file does not say.
        shape: Size of each dimension; ``()`` for an uninitialised one, whose shape is not known yet.
        load: Returns the elements as little-endian, contiguous, row-major bytes. Raises TensorUnavailableError where
            the layout is not ``strided``, LimitExceededError beyond `MAX_TENSOR_BYTES`.
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

    def ref(self, name: str) -> TensorRef:
        """Return the tensor under the name that the artifact gives it."""
        return TensorRef(name=name, dtype=self.dtype, shape=self.shape, load=self.load)


FindStorage = Callable[[object, str], Storage | None]
FindArray = Callable[[object, str], StoredTensor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorReader:
    """Recognises tensors among the values of one file.

    Attributes:
        find_storage: Returns the storage that a value stands for, None where it is none.
        find_array: Returns the numpy array that a value stands for, None where it is none.
    """

    find_storage: FindStorage
    find_array: FindArray

    def tensor(self, value: object, name: str, depth: int = 0) -> StoredTensor | None:
        """Return the tensor that `value` stands for; None where it is none.

        Raises:
            MalformedFileError: it is a tensor, but an impossible one.
        """
        if type(value) is not Instance or type(value.constructor) is not Global:
            return None
        rebuild = _REBUILDERS.get((value.constructor.module, value.constructor.name))
        if rebuild is None:
            return self.find_array(value, name)
        if depth > _DEEPEST_WRAPPING:
            raise MalformedFileError(f"{name}: corrupt: a tensor is wrapped more than {_DEEPEST_WRAPPING} times")
        try:
            return rebuild(self, value.args, name, depth)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise _corrupt(name, f"{value.type_name} has impossible arguments") from error


Rebuild = Callable[[TensorReader, tuple[object, ...], str, int], StoredTensor | None]


def _corrupt(name: str, what: str) -> MalformedFileError:
    return MalformedFileError(f"{name}: corrupt tensor: {what}: save or download the file again")


def _unavailable(name: str, why: str) -> Callable[[], bytes]:
    def load() -> bytes:
        raise TensorUnavailableError(f"{name}: the file holds no values for this tensor: {why}")

    return load


def _sizes(value: object, name: str) -> tuple[int, ...]:
    if type(value) is Instance and value.type_name == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    if type(value) not in (tuple, list):
        raise _corrupt(name, "its shape is no tuple")
    sizes: tuple[int, ...] = tuple(value)  # type: ignore[arg-type]
    if len(sizes) > MAX_DIMENSIONS:
        raise _corrupt(name, f"it has {len(sizes)} dimensions")
    if any(type(size) is not int or not 0 <= size < 1 << 62 for size in sizes):
        raise _corrupt(name, "its shape or strides are no sizes")
    return sizes


def _flag(value: object) -> bool | None:
    return value if type(value) is bool else None


def _dtype(value: object, name: str) -> str:
    dtype = dtype_name(value)
    if dtype is None:
        called = value.qualified if isinstance(value, Global) else "no name"
        raise MalformedFileError(f"{name}: tensor of the unknown dtype {called}: save it with a released PyTorch")
    return dtype


def _view(
    storage: Storage, name: str, dtype: str, place: tuple[object, object, object], flags: dict[object, object]
) -> StoredTensor:
    offset, shape, strides = place[0], _sizes(place[1], name), _sizes(place[2], name)
    if type(offset) is not int:
        raise _corrupt(name, "its offset is no integer")
    size = item_size(dtype)
    check_extent(name=name, size=size, shape=shape, strides=strides, offset=offset, storage_bytes=storage.size)
    count = math.prod(shape)

    def load() -> bytes:
        if dtype not in ITEM_SIZES:
            raise TensorUnavailableError(f"{name}: elements of dtype {dtype} have no real value to judge")
        if count * size > MAX_TENSOR_BYTES:
            raise LimitExceededError(
                f"{name}: the tensor has {count * size} bytes, more than the {MAX_TENSOR_BYTES} this tool loads"
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
        return _with_flags(data, dtype, flags)

    return StoredTensor(dtype=dtype, shape=shape, load=load, storage=f"{storage.key}+{offset * size}")


def _with_flags(data: bytes, dtype: str, flags: dict[object, object]) -> bytes:
    """Return the elements with the signs that the ``neg`` and ``conj`` bits of a lazy view ask for."""
    complex_part = {"complex32": 2, "complex64": 4, "complex128": 8}.get(dtype)
    part = complex_part or ITEM_SIZES[dtype]
    flipped = bytearray(data)
    if flags.get("neg") is True:
        if not (complex_part or dtype.startswith(("float", "bfloat"))):
            raise TensorUnavailableError(f"a negated view of dtype {dtype} is not read")
        flipped[part - 1 :: part] = bytes(byte ^ 0x80 for byte in flipped[part - 1 :: part])
    if flags.get("conj") is True and complex_part:
        last = 2 * part - 1
        flipped[last :: 2 * part] = bytes(byte ^ 0x80 for byte in flipped[last :: 2 * part])
    return bytes(flipped) if flags else data


def _storage(reader: TensorReader, value: object, name: str) -> Storage:
    storage = reader.find_storage(value, name)
    if storage is None:
        raise _corrupt(name, "its storage is no storage")
    return storage


def _metadata(args: tuple[object, ...], index: int) -> dict[object, object]:
    value = args[index] if len(args) > index else None
    return value if isinstance(value, dict) else {}


def _rebuild_v2(reader: TensorReader, args: tuple[object, ...], name: str, _depth: int) -> StoredTensor:
    """Return a tensor of ``_rebuild_tensor`` or ``_rebuild_tensor_v2``."""
    storage = _storage(reader, args[0], name)
    found = _view(storage, name, storage.dtype, (args[1], args[2], args[3]), _metadata(args, 6))
    quantised = found.dtype not in ITEM_SIZES
    return replace(
        found,
        requires_grad=_flag(args[4]) if len(args) > 4 else None,
        layout="quantised" if quantised else "strided",
    )


def _rebuild_v3(reader: TensorReader, args: tuple[object, ...], name: str, _depth: int) -> StoredTensor:
    """Return a tensor whose storage is untyped."""
    storage = _storage(reader, args[0], name)
    place = (args[1], args[2], args[3])
    found = _view(storage, name, _dtype(args[6], name), place, _metadata(args, 7))
    return replace(found, requires_grad=_flag(args[4]))


def _rebuild_quantised(reader: TensorReader, args: tuple[object, ...], name: str, _depth: int) -> StoredTensor:
    storage = _storage(reader, args[0], name)
    found = _view(storage, name, storage.dtype, (args[1], args[2], args[3]), {})
    load = _unavailable(name, "it is quantised: save the model before quantisation")
    return replace(found, requires_grad=_flag(args[5]) if len(args) > 5 else None, load=load, layout="quantised")


def _rebuild_parameter(reader: TensorReader, args: tuple[object, ...], name: str, depth: int) -> StoredTensor | None:
    inner = reader.tensor(args[0], name, depth + 1)
    if inner is None:
        raise _corrupt(name, "a parameter holds no tensor")
    requires_grad = _flag(args[1]) if len(args) > 1 else None
    return replace(inner, is_parameter=True, requires_grad=requires_grad)


def _rebuild_subclass(reader: TensorReader, args: tuple[object, ...], name: str, depth: int) -> StoredTensor | None:
    """Return a tensor subclass, or a tensor with attributes: (function, class, arguments, state)."""
    function, cls, inner_args, state = (*args, None)[:4]
    inner = Instance(function, inner_args if isinstance(inner_args, tuple) else ())
    found = reader.tensor(inner, name, depth + 1)
    if found is None:
        return None
    attributes = state if isinstance(state, dict) else {}
    is_parameter = found.is_parameter or attributes.get("_is_param") is True
    is_parameter = is_parameter or (isinstance(cls, Global) and cls.name.endswith("Parameter"))
    return replace(found, is_parameter=is_parameter)


def _rebuild_sparse(reader: TensorReader, args: tuple[object, ...], name: str, depth: int) -> StoredTensor:
    parts = args[1]
    if not isinstance(parts, tuple) or not 3 <= len(parts) <= 4:
        raise _corrupt(name, "a sparse tensor lacks its parts")
    compressed = len(parts) == 4 and not isinstance(parts[3], bool) and parts[3] is not None
    values = reader.tensor(parts[2] if compressed else parts[1], name, depth + 1)
    return StoredTensor(
        dtype=values.dtype if values else "unknown",
        shape=_sizes(parts[3] if compressed else parts[2], name),
        load=_unavailable(name, "it is sparse: save it as a dense tensor"),
        layout="sparse",
    )


def _rebuild_nested(reader: TensorReader, args: tuple[object, ...], name: str, depth: int) -> StoredTensor:
    values = reader.tensor(args[0], name, depth + 1)
    load = _unavailable(name, "it is a nested tensor")
    return StoredTensor(dtype=values.dtype if values else "unknown", shape=(), load=load, layout="nested")


def _rebuild_meta(_reader: TensorReader, args: tuple[object, ...], name: str, _depth: int) -> StoredTensor:
    return StoredTensor(
        dtype=_dtype(args[0], name),
        shape=_sizes(args[1], name),
        load=_unavailable(name, "it was saved from the meta device: save the model after its weights are loaded"),
        requires_grad=_flag(args[3]) if len(args) > 3 else None,
        layout="meta",
    )


def _rebuild_wrapper(_reader: TensorReader, args: tuple[object, ...], name: str, _depth: int) -> StoredTensor:
    """Return a wrapper subclass (class, dtype, size, ...), whose data is in its attributes, if anywhere."""
    return StoredTensor(
        dtype=_dtype(args[1], name),
        shape=_sizes(args[2], name),
        load=_unavailable(name, "it is a tensor subclass without data of its own"),
        requires_grad=_flag(args[7]) if len(args) > 7 else None,
        layout="meta",
    )


def _rebuild_from_device(reader: TensorReader, args: tuple[object, ...], name: str, depth: int) -> StoredTensor | None:
    """Return a tensor of a device without storages (XLA ...), saved as a CPU tensor or a numpy array."""
    inner = reader.tensor(args[0], name, depth + 1)
    if inner is None:
        raise _corrupt(name, "it holds no data")
    wanted = _dtype(args[1], name)
    load = inner.load
    if wanted != inner.dtype:
        load = _unavailable(name, f"it is {wanted}, but was saved as {inner.dtype}")
    return replace(inner, dtype=wanted, load=load, requires_grad=_flag(args[3]) if len(args) > 3 else None)


def _uninitialised(*, is_parameter: bool) -> Rebuild:
    def rebuild(_reader: TensorReader, args: tuple[object, ...], name: str, _depth: int) -> StoredTensor:
        return StoredTensor(
            dtype="unknown",
            shape=(),
            load=_unavailable(name, "it is uninitialised: run one batch through the model before saving it"),
            is_parameter=is_parameter,
            requires_grad=_flag(args[0]) if args else None,
            layout="uninitialised",
        )

    return rebuild


_REBUILDERS: dict[tuple[str, str], Rebuild] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_v2,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._utils", "_rebuild_qtensor"): _rebuild_quantised,
    ("torch._utils", "_rebuild_sparse_tensor"): _rebuild_sparse,
    ("torch._utils", "_rebuild_nested_tensor"): _rebuild_nested,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _rebuild_meta,
    ("torch._utils", "_rebuild_wrapper_subclass"): _rebuild_wrapper,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): _rebuild_from_device,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): _rebuild_from_device,
    ("torch._utils", "_rebuild_xla_tensor"): _rebuild_from_device,
    ("torch._tensor", "_rebuild_from_type"): _rebuild_subclass,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_subclass,
    ("torch.tensor", "_rebuild_from_type"): _rebuild_subclass,
    ("torch.nn.parameter", "UninitializedParameter"): _uninitialised(is_parameter=True),
    ("torch.nn.parameter", "UninitializedBuffer"): _uninitialised(is_parameter=False),
}
