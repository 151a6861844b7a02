"""How to look at the modules of an unpickled checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bn_audit.containers.inert import Global, Instance
from bn_audit.formats._checkpoint.search import children, inner_values, module_state
from bn_audit.recognition.description import HeldTensor, ModuleDescription
from bn_audit.recognition.modules import STATISTIC_NAMES
from bn_audit.recognition.tree import ModuleAccess, join

Hold = Callable[[object, str], HeldTensor | None]
"""Returns the tensor that a pickled value is, under the given name; None for any other value."""


def module_access(hold: Hold) -> ModuleAccess:
    """Return how to look at pickled modules whose tensors `hold` recognises."""

    def describe(module: object, path: str) -> ModuleDescription:
        return _describe(module, path, hold)

    def inner(value: object) -> Iterator[tuple[object, object]]:
        return iter(()) if hold(value, "") is not None else inner_values(value)

    return ModuleAccess(
        is_module=lambda value: module_state(value) is not None,
        children=children,
        attributes=_attributes,
        describe=describe,
        is_container=_is_container,
        inner_values=inner,
    )


def _is_container(value: object) -> bool:
    if isinstance(value, Instance):
        return value.type_name == "collections.deque"
    return isinstance(value, dict | list | tuple | set | frozenset)


def _attributes(module: object) -> Mapping[object, object]:
    return module_state(module) or {}


def _describe(module: object, path: str, hold: Hold) -> ModuleDescription:
    state = _attributes(module)
    attributes: Mapping[object, object] = state
    if not STATISTIC_NAMES.isdisjoint(state):
        shelved: dict[object, object] = dict(state)
        for name in STATISTIC_NAMES & state.keys():
            shelved[name] = hold(state[name], join(path, name)) or state[name]
        attributes = shelved
    return ModuleDescription(
        type_name=class_of(module),
        bases=_bases_of(module),
        attributes=attributes,
        parameters=_held(state.get("_parameters"), path, hold),
        buffers=_held(state.get("_buffers"), path, hold),
    )


def class_of(module: object) -> str:
    """Return the qualified class name of a pickled module; ``"?"`` where the pickle does not name one."""
    if not isinstance(module, Instance):
        return "?"
    if module.type_name == "torch.fx.graph_module.reduce_graph_module":
        return "torch.fx.graph_module.GraphModule"
    written = _written_class(module)
    return str(written[0]) if written is not None else module.type_name


def _bases_of(module: object) -> tuple[str, ...]:
    written = _written_class(module) if isinstance(module, Instance) else None
    bases = written[1] if written is not None else ()
    return tuple(base.qualified for base in bases if isinstance(base, Global)) if isinstance(bases, tuple) else ()


def _written_class(module: Instance) -> tuple[object, object] | None:
    """Return (name, bases) where cloudpickle wrote the class itself: _make_skeleton_class(type, name, bases, ...)."""
    constructor = module.constructor
    if isinstance(constructor, Instance) and len(constructor.args) > 2 and isinstance(constructor.args[1], str):
        return constructor.args[1], constructor.args[2]
    return None


def _held(registered: object, path: str, hold: Hold) -> dict[str, HeldTensor | None]:
    if not isinstance(registered, dict):
        return {}
    return {
        name: hold(value, join(path, name)) if value is not None else None
        for name, value in registered.items()
        if isinstance(name, str)
    }
