"""Looks at a module: builds it where the target is a factory, and describes every module below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bn_audit.containers.factory import Built, build, build_without_memory, require_module
from bn_audit.containers.target import FactoryTarget, ModuleTarget
from bn_audit.errors import FactoryError, TensorUnavailableError
from bn_audit.formats._live.weights import Expected, fit_weights
from bn_audit.recognition.description import HeldTensor, ModuleDescription
from bn_audit.recognition.modules import STATISTIC_NAMES
from bn_audit.recognition.tree import ModuleAccess, descendants, join, read_tree
from bn_audit.subject.subject import Facts, Subject
from bn_audit.subject.tensor import TensorRef

if TYPE_CHECKING:
    import torch

_CLASS_LEVEL_SETTINGS = ("eps", "epsilon", "momentum", "affine", "track_running_stats", "num_features")
"""Settings that a hand-written layer may keep on its class, where ``__dict__`` of the instance does not show them."""


def read_live(target: FactoryTarget | ModuleTarget, *, format_name: str) -> Subject:
    """Return the one model of the target; see the format's ``read``."""
    built = _build(target)
    module = built.module
    access = ModuleAccess(
        is_module=_is_module,
        children=_children,
        attributes=_attributes,
        describe=_describe,
        is_container=lambda _value: True,  # nothing else is opened
        inner_values=_inner_values,
    )
    registered = frozenset(map(id, descendants(module, _children)))
    tree = read_tree(module, route="", access=access, registered=registered)
    model, norms = tree.model, tree.norms
    facts = Facts.MODES | Facts.REGISTRY | Facts.SETTINGS | Facts.GRADIENTS
    loading = None
    if target.weights is not None:
        loading, norms = fit_weights(target.weights, _state_dict(module), norms)
    if not built.no_values and not any(_is_on_meta(module, norm.path) for norm in norms):
        facts |= Facts.VALUES
    subject = Subject(
        source=target.name,
        format=format_name,
        facts=facts,
        models=(model,),
        norms=norms,
        loading=loading,
        remarks=(f"{target.name} {built.remark}",) if built.remark else (),
        unread=tuple(_scripted(module)),
    )
    return _without_values(subject, built.no_values) if built.no_values else subject


def _build(target: FactoryTarget | ModuleTarget) -> Built:
    if isinstance(target, ModuleTarget):
        return Built(module=require_module(target.module, target.name))
    return build_without_memory(target.spec) if target.without_memory else build(target.spec)


def _scripted(module: torch.nn.Module) -> Iterator[str]:
    """Yield a reason for each TorchScript module inside: its code decides its mode, so no layer of it is judged."""
    import torch

    seen: set[str] = set()
    for path, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            seen.add(path)
            if path.rpartition(".")[0] not in seen:
                yield f"{path}: a TorchScript module inside: write it with torch.jit.save and check that file"


def _without_values(subject: Subject, reason: str) -> Subject:
    """Return the subject with tensors that give `reason` when they are asked for their values."""

    def load() -> bytes:
        raise TensorUnavailableError(f"{subject.source}: {reason}")

    models = tuple(
        replace(model, tensors=tuple(replace(ref, load=load, read=None) for ref in model.tensors))
        for model in subject.models
    )
    norms = []
    for norm in subject.norms:
        emptied = {role: replace(ref, load=load, read=None) for role, ref in norm.tensors.items()}
        norms.append(replace(norm, **emptied))  # type: ignore[arg-type]
    return replace(subject, models=models, norms=tuple(norms))


def _is_module(value: object) -> bool:
    import torch

    return isinstance(value, torch.nn.Module) and not isinstance(value, torch.jit.ScriptModule)


def _children(module: object) -> Iterator[tuple[str, object]]:
    import torch

    if isinstance(module, torch.nn.Module):  # named_children() would leave out a child's second name
        yield from ((name, child) for name, child in module._modules.items() if _is_module(child))


def _attributes(module: object) -> Mapping[object, object]:
    attributes: dict[object, object] = {}
    attributes.update(vars(module))
    if type(module).__module__ == "torch.export.unflatten":
        attributes.pop("graph_module", None)  # the same tensors once more
    return attributes


def _inner_values(value: object) -> Iterator[tuple[object, object]]:
    """Yield what plain containers hold; other objects of the user are not opened."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from enumerate(value)


def _describe(module: object, path: str) -> ModuleDescription:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise FactoryError(f"{path}: not a module")
    attributes: dict[object, object] = {
        name: getattr(type(module), name) for name in _CLASS_LEVEL_SETTINGS if hasattr(type(module), name)
    }
    attributes.update(vars(module))
    for name in STATISTIC_NAMES & attributes.keys():
        value = attributes[name]
        if isinstance(value, torch.Tensor):
            attributes[name] = _held(value, join(path, name))
    return ModuleDescription(
        type_name=_qualified(type(module)),
        bases=tuple(_qualified(base) for base in type(module).__mro__[1:]),
        attributes=attributes,
        parameters=_held_tensors(module._parameters, path),
        buffers=_held_tensors(module._buffers, path),
    )


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _held_tensors(registered: Mapping[str, torch.Tensor | None], path: str) -> dict[str, HeldTensor | None]:
    return {
        name: _held(tensor, join(path, name)) if tensor is not None else None for name, tensor in registered.items()
    }


def _held(tensor: torch.Tensor, name: str) -> HeldTensor:
    from torch.nn.parameter import is_lazy

    uninitialised = bool(is_lazy(tensor))

    def load() -> bytes:
        return _bytes_of(tensor, name)

    ref = TensorRef(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=() if uninitialised else tuple(tensor.shape),
        load=load,
    )
    return HeldTensor(ref=ref, requires_grad=tensor.requires_grad, uninitialised=uninitialised)


def _bytes_of(tensor: torch.Tensor, name: str) -> bytes:
    import torch

    if tensor.is_meta:
        raise TensorUnavailableError(f"{name}: a tensor on the meta device has no values")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise TensorUnavailableError(
            f"{name}: a tensor on {tensor.device} of layout {tensor.layout} has no plain values"
        )
    with torch.no_grad():
        plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return bytes(plain.view(torch.uint8).numpy().tobytes())


def _state_dict(module: torch.nn.Module) -> dict[str, Expected]:
    import torch

    first_keys: dict[int, str] = {}
    return {
        name: Expected(
            shape=tuple(value.shape),
            dtype=str(value.dtype).removeprefix("torch."),
            first_key=first_keys.setdefault(id(value), name),
        )
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)
    }


def _is_on_meta(module: torch.nn.Module, path: str) -> bool:
    try:
        norm = module.get_submodule(path)
    except AttributeError:
        return False
    return any(
        tensor is not None and tensor.is_meta for tensor in (*norm._parameters.values(), *norm._buffers.values())
    )
