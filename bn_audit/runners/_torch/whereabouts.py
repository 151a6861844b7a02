"""Which module is running: by hooks, by the nodes of a program's graph, or by the parameters an operator is given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from bn_audit.runners._torch.layers import type_name_of
from bn_audit.runners._torch.watching import Tensors
from bn_audit.subject.observation import Place

if TYPE_CHECKING:
    import torch


Leaving: TypeAlias = "Callable[[str, torch.nn.Module, object], None]"
"""Called with path, module and output when a module returns."""

Entering: TypeAlias = "Callable[[str, torch.nn.Module], None]"


class Whereabouts:
    """Follows a run of one module.

    Args:
        on_leave: Called when a module returns.
        on_enter: Called before it runs.
    """

    def __init__(
        self, module: torch.nn.Module, on_leave: Leaving | None = None, on_enter: Entering | None = None
    ) -> None:
        import torch

        self._module = module
        self._on_leave = on_leave
        self._on_enter = on_enter
        self._stack: list[tuple[str, str]] = [("", type_name_of(module))]
        self._owners = _owners(module) if isinstance(module, torch.jit.ScriptModule) else {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[Callable[..., object]]:
        """Give what runs the module, with hooks attached to its parts inside the block."""
        import torch

        if isinstance(self._module, torch.jit.ScriptModule):
            yield self._module
        elif isinstance(self._module, torch.fx.GraphModule) and has_stacks(self._module):
            yield partial(self._interpreted, self._module)
        else:
            handles = list(self._hooks())
            try:
                yield self._module
            finally:
                for handle in handles:
                    handle.remove()

    def place(self, operator: str = "", inputs: Tensors = ()) -> Place:
        """Return the module that is running now, and the operator in it."""
        path, type_name = self._stack[-1]
        for tensor in inputs if self._owners else ():
            owner = self._owners.get(tensor.data_ptr())
            if owner is not None:
                path, type_name = owner
                break
        return Place(path=path, type_name=type_name, op=operator)

    @property
    def has_modules(self) -> bool:
        """Whether modules can be seen entering and leaving."""
        import torch

        return not isinstance(self._module, torch.jit.ScriptModule | torch.fx.GraphModule)

    def paths(self) -> Sequence[str]:
        """Return the modules that are running now, the innermost last."""
        return [path for path, _ in self._stack]

    def _hooks(self) -> Iterator[Any]:
        import torch

        for path, child in self._module.named_modules():
            if isinstance(child, torch.jit.ScriptModule):
                continue
            name = type_name_of(child)

            def enter(entered: torch.nn.Module, _args: object, path: str = path, name: str = name) -> None:
                self._stack.append((path, name))
                if self._on_enter is not None:
                    self._on_enter(path, entered)

            def leave(left: torch.nn.Module, _args: object, output: object, path: str = path) -> None:
                if self._on_leave is not None and output is not None:
                    self._on_leave(path, left, output)
                if len(self._stack) > 1:
                    self._stack.pop()

            yield child.register_forward_pre_hook(enter)
            yield child.register_forward_hook(leave, always_call=True)

    def _interpreted(self, graph: torch.fx.GraphModule, /, *arguments: object, **named: object) -> object:
        import torch

        return _follower(graph, self._stack).run(*torch.utils._pytree.tree_leaves((arguments, named)))


def _follower(module: torch.fx.GraphModule, stack: list[tuple[str, str]]) -> torch.fx.Interpreter:
    """Return what runs a graph node by node and notes the module that each came from."""
    import torch

    class Follower(torch.fx.Interpreter):
        def run(self, *leaves: object) -> object:  # type: ignore[override]
            return super().run(*leaves, enable_io_processing=False)

        def run_node(self, n: torch.fx.Node) -> object:
            stack[:] = [*stack[:1], *_stack_of(n)]
            return super().run_node(n)

    return Follower(module)


def has_stacks(module: torch.fx.GraphModule) -> bool:
    """Return whether the graph says which module each node came from, as those of torch.export do."""
    return any(node.meta.get("nn_module_stack") for node in module.graph.nodes)


def _stack_of(node: torch.fx.Node) -> list[tuple[str, str]]:
    stack: Mapping[str, object] = node.meta.get("nn_module_stack") or {}
    found = []
    for entry in stack.values():
        if isinstance(entry, tuple) and len(entry) == 2:
            kind = entry[1]
            name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            found.append((_without_root(str(entry[0])), name))
    return found


def _without_root(path: str) -> str:
    """Return a module path without the name that exporters give to the model itself (``L['self'].layer``)."""
    return path.removeprefix("L['self']").removeprefix(".")


def _owners(module: torch.nn.Module) -> dict[int, tuple[str, str]]:
    """Return the path and class of the module that owns each tensor, by the tensor's place in memory."""
    found: dict[int, tuple[str, str]] = {}
    for path, child in module.named_modules():
        for tensor in (*child.parameters(recurse=False), *child.buffers(recurse=False)):
            found.setdefault(tensor.data_ptr(), (path, type_name_of(child)))
    return found
