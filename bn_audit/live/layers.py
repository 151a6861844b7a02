"""The modules of a running model by identity, and the running statistics that they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from bn_audit.recognition.modules import STATISTIC_NAMES

if TYPE_CHECKING:
    import torch
    from torch import nn

_RUNNING_NAME = re.compile(r"^(?:running|moving|stored)_|_(?:running|moving)$|^num_batches_tracked$")
"""Buffers that a forward pass in training mode moves; `STATISTIC_NAMES` holds further names without such a prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """A module that keeps running statistics, and their names among its buffers and plain attributes."""

    module: nn.Module
    path: str
    names: tuple[str, ...]

    def read(self, name: str) -> object:
        """Return what hangs under a name now; None for nothing."""
        buffers = self.module._buffers  # of TorchScript no dict, but something that answers like one to this
        return buffers[name] if name in buffers else self.module.__dict__.get(name)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The modules of one model.

    Attributes:
        paths: First module path by ``id`` of the module.
        modules: Every module once, in the same order.
    """

    paths: dict[int, str]
    modules: tuple[nn.Module, ...]
    keepers: tuple[Keeper, ...]

    @cached_property
    def parameter_addresses(self) -> frozenset[int]:
        """Where the memory of each parameter begins, when it was first asked for."""
        held = (item for module in self.modules for item in module._parameters.values() if item is not None)
        return frozenset(found for item in held if (found := address(item)) is not None)


def address(tensor: torch.Tensor) -> int | None:
    """Return where the memory under a tensor begins; None for one without memory of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError, ValueError):  # wrappers of torch.func, sparse tensors, lazy ones
        return None


def layers_of(model: nn.Module) -> Layers:
    """Return the modules of a model; a walk of its own, since it is paid at each block that is guarded."""
    paths: dict[int, str] = {}
    modules: list[nn.Module] = []
    keepers: list[Keeper] = []
    pending = [("", model)]
    while pending:
        path, module = pending.pop()
        if id(module) in paths:
            continue
        paths[id(module)] = path
        modules.append(module)
        names = _running_names(module)
        if names:
            keepers.append(Keeper(module=module, path=path, names=names))
        if module._modules:
            prefix = f"{path}." if path else ""
            children = [(prefix + name, child) for name, child in module._modules.items() if child is not None]
            pending += reversed(children)
    return Layers(paths=paths, modules=tuple(modules), keepers=tuple(keepers))


def _running_names(module: nn.Module) -> tuple[str, ...]:
    buffers = module._buffers
    names = _running_among(tuple(buffers.keys())) if buffers else ()
    if STATISTIC_NAMES.isdisjoint(module.__dict__):
        return names
    return (*names, *(name for name in module.__dict__ if name in STATISTIC_NAMES))


@lru_cache(maxsize=256)
def _running_among(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in STATISTIC_NAMES or _RUNNING_NAME.search(name))
