"""What a module holds, in one shape for pickled, scripted and live modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bn_audit.subject.tensor import TensorRef


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTensor:
    """A parameter or buffer of a module.

    Attributes:
        requires_grad: None where not recorded.
        uninitialised: True for the placeholders of lazy modules, which have no shape yet.
    """

    ref: TensorRef
    requires_grad: bool | None = None
    uninitialised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleDescription:
    """One module without its children.

    Attributes:
        type_name: Qualified class name.
        bases: Qualified names of its base classes, nearest first; empty where the artifact does not record them.
        attributes: Its plain attributes, such as ``eps``; of any type, since a pickle may hold anything.
        parameters: None for a name that is registered without a value.
        buffers: Likewise.
    """

    type_name: str
    bases: tuple[str, ...] = ()
    attributes: Mapping[object, object]
    parameters: Mapping[str, HeldTensor | None]
    buffers: Mapping[str, HeldTensor | None]

    @property
    def unsaved_buffers(self) -> frozenset[str]:
        """Names of the buffers that a state dict leaves out."""
        value = self.attributes.get("_non_persistent_buffers_set")
        names = value if isinstance(value, set | frozenset) else ()
        return frozenset(name for name in names if isinstance(name, str))

    @property
    def class_name(self) -> str:
        """The class name without its module."""
        return self.type_name.rpartition(".")[2]
