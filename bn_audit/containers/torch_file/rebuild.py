"""Every way in which PyTorch pickles a tensor, recognised and checked.

Sources: torch 2.13 ``_utils.py`` (``_rebuild_*``), ``_tensor.py`` (``__reduce_ex__``), ``nn/parameter.py``; torch 0.3
``autograd/variable.py`` (``__reduce_ex__``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bn_audit.containers.inert import Global, Instance
from bn_audit.containers.torch_file.storage import Storage
from bn_audit.containers.torch_file.tensor import (
    StoredTensor,
    corrupt_tensor,
    read_dtype,
    read_flag,
    read_sizes,
    strided_view,
    without_values,
)

_DEEPEST_WRAPPING = 8
"""A parameter around a subclass around a tensor is 3 deep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorReader:
    """Recognises tensors among the values of one file.

    Attributes:
        find_storage: Returns the storage that a value stands for, None where it is none.
        find_array: Returns the numpy array that a value stands for, None where it is none.
    """

    find_storage: Callable[[object, str], Storage | None]
    find_array: Callable[[object, str], StoredTensor | None]

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
            raise corrupt_tensor(name, f"it is wrapped more than {_DEEPEST_WRAPPING} times")
        least, function = rebuild
        if len(value.args) < least:
            raise corrupt_tensor(name, f"{value.type_name} has {len(value.args)} arguments")
        return function(self, value, name, depth)

    def recognises(self, value: object) -> bool:
        """Return whether `value` stands for a tensor, possible or not; much cheaper than `tensor`."""
        if type(value) is not Instance or type(value.constructor) is not Global:
            return False
        rebuild = _REBUILDERS.get((value.constructor.module, value.constructor.name))
        if rebuild is None or rebuild[1] is _subclass:
            return self.tensor(value, "") is not None
        return True

    def inner(self, value: object, name: str, depth: int) -> StoredTensor:
        """Return the tensor within another one; raise a MalformedFileError where there is none."""
        found = self.tensor(value, name, depth + 1)
        if found is None:
            raise corrupt_tensor(name, "it is wrapped around something that is no tensor")
        return found

    def storage(self, value: object, name: str) -> Storage:
        """Return the storage of a tensor; raise a MalformedFileError where there is none."""
        found = self.find_storage(value, name)
        if found is None:
            raise corrupt_tensor(name, "its storage is no storage")
        return found


Rebuild = Callable[[TensorReader, Instance, str, int], StoredTensor | None]


def _argument(value: Instance, index: int) -> object:
    return value.args[index] if len(value.args) > index else None


def _flags(value: Instance, index: int) -> dict[object, object]:
    found = _argument(value, index)
    return found if isinstance(found, dict) else {}


def _typed(reader: TensorReader, value: Instance, name: str, _depth: int) -> StoredTensor:
    """Return a tensor of ``_rebuild_tensor`` or ``_rebuild_tensor_v2``: (storage, offset, shape, strides, ...)."""
    storage = reader.storage(value.args[0], name)
    place = (value.args[1], value.args[2], value.args[3])
    return strided_view(storage, name, storage.dtype, place, _flags(value, 6), requires_grad=_argument(value, 4))


def _untyped(reader: TensorReader, value: Instance, name: str, _depth: int) -> StoredTensor:
    """Return a tensor of ``_rebuild_tensor_v3``, whose dtype is its seventh argument."""
    storage = reader.storage(value.args[0], name)
    place = (value.args[1], value.args[2], value.args[3])
    dtype = read_dtype(value.args[6], name)
    return strided_view(storage, name, dtype, place, _flags(value, 7), requires_grad=value.args[4])


def _quantised(reader: TensorReader, value: Instance, name: str, _depth: int) -> StoredTensor:
    storage = reader.storage(value.args[0], name)
    place = (value.args[1], value.args[2], value.args[3])
    found = strided_view(storage, name, storage.dtype, place, {})
    load = without_values(name, "it is quantised: check the model as it was before quantisation")
    return replace(found, requires_grad=read_flag(_argument(value, 5)), load=load, layout="quantised")


def _parameter(reader: TensorReader, value: Instance, name: str, depth: int) -> StoredTensor:
    """Return a parameter: (tensor, requires_grad, hooks), with its attributes where it has any."""
    return reader.inner(value.args[0], name, depth).as_parameter(read_flag(_argument(value, 1)))


def _variable(reader: TensorReader, value: Instance, name: str, depth: int) -> StoredTensor:
    """Return a variable or parameter of torch 0.3 and before: (tensor), with the state (requires_grad, ...)."""
    found = reader.inner(value.args[0], name, depth)
    state = value.state
    requires_grad = read_flag(state[0]) if isinstance(state, tuple) and len(state) == 3 else None
    return replace(found, is_parameter=value.type_name.endswith("Parameter"), requires_grad=requires_grad)


def _subclass(reader: TensorReader, value: Instance, name: str, depth: int) -> StoredTensor | None:
    """Return a tensor subclass, or a tensor with attributes: (function, class, arguments, attributes)."""
    function, cls, arguments = value.args[:3]
    attributes = _flags(value, 3)
    found = reader.tensor(Instance(function, arguments if isinstance(arguments, tuple) else ()), name, depth + 1)
    if found is not None and found.layout == "meta" and "_local_tensor" in attributes:
        # A DTensor: what this process held of it is all of it only where it was not split.
        local = reader.inner(attributes["_local_tensor"], name, depth)
        split = without_values(name, "it is split over several processes: gather it before saving")
        found = local if local.shape == found.shape else replace(found, load=split)
    if found is None:
        return None
    named = isinstance(cls, Global) and cls.name.endswith("Parameter")
    return replace(found, is_parameter=found.is_parameter or named or attributes.get("_is_param") is True)


def _sparse(reader: TensorReader, value: Instance, name: str, depth: int) -> StoredTensor:
    """Return a sparse tensor: (layout, parts); the parts end in values, shape and for COO a flag."""
    parts = value.args[1]
    if not isinstance(parts, tuple) or not 3 <= len(parts) <= 4:
        raise corrupt_tensor(name, "a sparse tensor lacks its parts")
    compressed = len(parts) == 4 and not isinstance(parts[3], bool | None)
    values = reader.inner(parts[2] if compressed else parts[1], name, depth)
    return StoredTensor(
        dtype=values.dtype,
        shape=read_sizes(parts[3] if compressed else parts[2], name),
        load=without_values(name, "it is sparse: save it as a dense tensor"),
        layout="sparse",
    )


def _nested(reader: TensorReader, value: Instance, name: str, depth: int) -> StoredTensor:
    """Return a nested tensor: (values, ...), or a jagged one: ({"values": ..., ...})."""
    held = value.args[0]
    values = reader.inner(held.get("values") if isinstance(held, dict) else held, name, depth)
    return StoredTensor(dtype=values.dtype, shape=(), load=without_values(name, "it is nested"), layout="nested")


def _meta(_reader: TensorReader, value: Instance, name: str, _depth: int) -> StoredTensor:
    """Return a tensor of the meta device: (dtype, shape, strides, requires_grad)."""
    return StoredTensor(
        dtype=read_dtype(value.args[0], name),
        shape=read_sizes(value.args[1], name),
        load=without_values(name, "it was saved from the meta device: save the model after its weights are loaded"),
        requires_grad=read_flag(_argument(value, 3)),
        layout="meta",
    )


def _wrapper(_reader: TensorReader, value: Instance, name: str, _depth: int) -> StoredTensor:
    """Return a subclass without data of its own: (class, dtype, shape, ...)."""
    return StoredTensor(
        dtype=read_dtype(value.args[1], name),
        shape=read_sizes(value.args[2], name),
        load=without_values(name, "it is a tensor subclass without data of its own"),
        requires_grad=read_flag(_argument(value, 7)),
        layout="meta",
    )


def _from_host(reader: TensorReader, value: Instance, name: str, depth: int) -> StoredTensor:
    """Return a tensor of a device without storages, such as XLA: (CPU tensor or numpy array, dtype, device, ...)."""
    found = reader.inner(value.args[0], name, depth)
    dtype = read_dtype(value.args[1], name)
    load = found.load
    if dtype != found.dtype:
        load = without_values(name, f"it is {dtype}, but was saved as {found.dtype}")
    return replace(found, dtype=dtype, load=load, requires_grad=read_flag(_argument(value, 3)))


def _uninitialised(_reader: TensorReader, value: Instance, name: str, _depth: int) -> StoredTensor:
    """Return a parameter or buffer of a lazy module: (requires_grad)."""
    return StoredTensor(
        dtype="unknown",
        shape=(),
        load=without_values(name, "it is uninitialised: run one batch through the model before saving it"),
        is_parameter=value.type_name.endswith("Parameter"),
        requires_grad=read_flag(_argument(value, 0)),
        layout="uninitialised",
    )


_REBUILDERS: dict[tuple[str, str], tuple[int, Rebuild]] = {
    ("torch._utils", "_rebuild_tensor"): (4, _typed),
    ("torch._utils", "_rebuild_tensor_v2"): (4, _typed),
    ("torch._utils", "_rebuild_tensor_v3"): (7, _untyped),
    ("torch._utils", "_rebuild_parameter"): (1, _parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): (1, _parameter),
    ("torch._utils", "_rebuild_qtensor"): (4, _quantised),
    ("torch._utils", "_rebuild_sparse_tensor"): (2, _sparse),
    ("torch._utils", "_rebuild_nested_tensor"): (1, _nested),
    ("torch.nested._internal.nested_tensor", "_rebuild_njt"): (1, _nested),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): (2, _meta),
    ("torch._utils", "_rebuild_wrapper_subclass"): (3, _wrapper),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): (2, _from_host),
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): (2, _from_host),
    ("torch._utils", "_rebuild_xla_tensor"): (2, _from_host),
    ("torch._tensor", "_rebuild_from_type"): (3, _subclass),
    ("torch._tensor", "_rebuild_from_type_v2"): (3, _subclass),
    ("torch.tensor", "_rebuild_from_type"): (3, _subclass),
    ("torch.nn.parameter", "UninitializedParameter"): (0, _uninitialised),
    ("torch.nn.parameter", "UninitializedBuffer"): (0, _uninitialised),
    ("torch.nn.parameter", "Parameter"): (1, _variable),
    ("torch.autograd.variable", "Variable"): (1, _variable),
}
"""How many arguments each function needs, and what it gives."""
