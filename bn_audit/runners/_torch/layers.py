"""Which modules of a model are norm layers, and what they keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bn_audit.errors import TensorUnavailableError
from bn_audit.recognition.description import HeldTensor, ModuleDescription
from bn_audit.recognition.modules import STATISTIC_NAMES, norm_of_module
from bn_audit.runners._torch.arrays import dtype_name
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.tensor import TensorRef

if TYPE_CHECKING:
    import torch


COUNTER = "num_batches_tracked"


def floating_type(module: torch.nn.Module) -> torch.dtype:
    """Return the element type of the first floating-point parameter or buffer; torch's default where there is none."""
    import torch

    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor.dtype
    return torch.get_default_dtype()


def norm_layers(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, NormLayer]]:
    """Yield (path, module, description) for every registered norm layer that keeps running statistics or could."""
    for path, child in module.named_modules():
        norm = norm_of_module(_describe(child, path), model="", path=path)
        if norm is not None:
            yield path, child, norm


def settable_paths(module: torch.nn.Module) -> tuple[str, ...]:
    """Return the paths of norm layers whose mode decides what they normalise with."""
    return tuple(
        path for path, child, norm in norm_layers(module) if hasattr(child, "training") and norm.kind.is_batch_norm
    )


def state_names(module: torch.nn.Module) -> tuple[str, ...]:
    """Return the names of running statistics and batch counters among the buffers."""
    kept = (*STATISTIC_NAMES, COUNTER)
    return tuple(name for name, _ in module.named_buffers(remove_duplicate=False) if name.rpartition(".")[2] in kept)


def set_mode(module: torch.nn.Module, *, training: bool) -> None:
    """Set the mode of one layer and of nothing below it."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        module.train(training)
    else:
        module.training = training


def type_name_of(module: torch.nn.Module) -> str:
    """Return the qualified class name of a module, also of one that was scripted."""
    import torch

    scripted = getattr(module, "original_name", None) if isinstance(module, torch.jit.ScriptModule) else None
    if scripted:
        return str(scripted)
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _describe(module: torch.nn.Module, path: str) -> ModuleDescription:
    import torch

    scripted = isinstance(module, torch.jit.ScriptModule)
    attributes: dict[object, object] = {}
    if not scripted:
        attributes.update(vars(module))
    attributes["training"] = getattr(module, "training", None)
    return ModuleDescription(
        type_name=type_name_of(module),
        bases=() if scripted else tuple(f"{base.__module__}.{base.__qualname__}" for base in type(module).__mro__[1:]),
        attributes=attributes,
        parameters=_all_held(dict(module.named_parameters(recurse=False)) if scripted else module._parameters, path),
        buffers=_all_held(dict(module.named_buffers(recurse=False)) if scripted else module._buffers, path),
    )


def _all_held(tensors: Mapping[str, torch.Tensor | None], path: str) -> dict[str, HeldTensor | None]:
    """Describe tensors; None stays None: it tells a layer without statistics from one that has none by nature."""
    return {name: None if tensor is None else _held(tensor, path, name) for name, tensor in tensors.items()}


def _held(tensor: torch.Tensor, path: str, name: str) -> HeldTensor:
    from torch.nn.parameter import is_lazy

    def load() -> bytes:
        raise TensorUnavailableError(f"{path}.{name}: the values of a running model are not read")

    uninitialised = bool(is_lazy(tensor))
    return HeldTensor(
        ref=TensorRef(
            name=f"{path}.{name}" if path else name,
            dtype=dtype_name(tensor.dtype),
            shape=() if uninitialised else tuple(tensor.shape),
            load=load,
        ),
        requires_grad=tensor.requires_grad,
        uninitialised=uninitialised,
    )
