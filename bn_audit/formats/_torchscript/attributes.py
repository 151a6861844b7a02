"""The saved attributes of modules as values of a symbolic evaluation."""

from __future__ import annotations

from bn_audit.containers.inert import Instance
from bn_audit.containers.torch_file.reading import TorchFile
from bn_audit.formats._torchscript.graph import Graph
from bn_audit.formats._torchscript.tree import ModuleTree, TreeModule
from bn_audit.formats._torchscript.values import NO_FLAGS, Constant, Module, Slot, Value, sequence_of

_MISSING = object()
_BUILDERS = frozenset(
    ("torch.jit._pickle.build_intlist", "torch.jit._pickle.build_doublelist", "torch.jit._pickle.build_boollist")
)


class Attributes:
    """Looks attributes up; each value is made once, so that the same attribute is the same value."""

    def __init__(self, tree: ModuleTree, constants: TorchFile, graph: Graph) -> None:
        self._tree = tree
        self._constants = constants
        self._graph = graph
        self._modules: dict[str, Module] = {}
        self._values: dict[tuple[str, str], Value] = {}

    def module(self, found: TreeModule) -> Module:
        """Return a module of the tree as a value."""
        value = self._modules.get(found.path)
        if value is None:
            value = Module(found.path, found.class_name, found.state, found.interesting)
            self._modules[found.path] = value
        return value

    def children(self, container: Module) -> tuple[Module, ...]:
        """Return the modules in a container."""
        found = self._tree.modules.get(container.path)
        return tuple(self.module(child) for child in found.children.values()) if found else ()

    def value(self, module: Module, name: str) -> Value:
        """Return an attribute of a module or object; a value that is not known where it has none of that name."""
        assigned = module.assigned.get(name)
        if assigned is not None:
            # What a module holds outlives the call: an earlier call, or another turn, may have set another value.
            return self._graph.unknown() if module.state and isinstance(assigned, Constant) else assigned
        key = (module.path, name)
        value = self._values.get(key)
        if value is None or not module.state:
            value = self._stored(module, name)
            self._values[key] = value
        return value

    def constant(self, name: str) -> Value:
        """Return a constant of the code that is stored apart, such as ``c7``."""
        index = int(name[1:]) if name[1:].isdecimal() and len(name) < 10 else -1
        table = self._constants.root
        if not isinstance(table, tuple) or not 0 <= index < len(table):
            return self._graph.unknown()
        held = table[index]
        if isinstance(held, str):
            return Constant(held)
        stored = self._constants.tensor(held, f"CONSTANTS.{name}") if self._graph.detailed else None
        return self._graph.stored(Slot(None, name), stored.shape if stored else None)

    def _stored(self, module: Module, name: str) -> Value:
        held = module.state.get(name, _MISSING)
        if held is _MISSING:
            return self._graph.unknown()
        if held is None or isinstance(held, bool | int | float | str):
            if self._is_reassigned(module.path, name):
                return self._graph.unknown()
            return Constant(held, frozenset((module.path,)) if name == "training" else NO_FLAGS)
        child = self._tree.module_of(held)
        if child is not None:
            return self.module(child)
        if isinstance(held, Instance) and held.type_name in _BUILDERS and held.args:
            held = held.args[0]
        if isinstance(held, list | tuple) and all(isinstance(item, bool | int | float) for item in held):
            return sequence_of(tuple(Constant(item) for item in held))
        return self._graph.stored(Slot(module.path, name), self._shape(module.path, name))

    def _is_reassigned(self, path: str, name: str) -> bool:
        found = self._tree.modules.get(path)
        return found is not None and found.code is not None and f".{name} = " in found.code.text

    def _shape(self, path: str, name: str) -> tuple[int, ...] | None:
        found = self._tree.modules.get(path)
        stored = self._tree.stored(found, name) if found and self._graph.detailed else None
        return stored.shape if stored else None
