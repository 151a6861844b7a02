"""Programs that change tensors in place, as the same programs without: every change gives a new value.

`torch.export` keeps in-place operators (``run_decompositions`` removes them). A change of a view changes the tensor too
that it is a view of, and all of its other views: the change is written back along the chain of views, and whatever else
is a view of that tensor is taken anew where it is used next. An operator that may give a view or a copy is followed by
name only, as an operator that nobody knows, where the difference shows.

Source: torch 2.13 ``aten/src/ATen/native/native_functions.yaml`` (alias annotations); the method is that of
``torch/csrc`` functionalization (``FunctionalStorageImpl``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bn_audit.formats._exported.memory import is_contiguous
from bn_audit.formats._exported.views import is_view, written_back
from bn_audit.subject.graph import InputRef, Node

_KNOWN_NAMESPACES = ("aten", "prims", "prim", "quantized_decomposed", "higher_order", "_operator", "math", "torch")
"""Operators of any other library may change what they are given, whatever they are called."""

_NORMS_OF_RUNNING_STATISTICS = frozenset(
    (
        *("aten.batch_norm.default", "aten.native_batch_norm.default", "aten.cudnn_batch_norm.default"),
        *("aten._native_batch_norm_legit.default", "aten._batch_norm_with_update.default"),
        *("aten._batch_norm_impl_index.default", "aten.instance_norm.default", "aten.miopen_batch_norm.default"),
    )
)
"""Operators that store new running statistics in their operands; the new ones are further outputs of the node."""


def without_mutation(
    nodes: Sequence[Node], outputs: Sequence[str], metadata: Mapping[str, object]
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """Return nodes that change nothing in place, and the values that stand for `outputs` at their end.

    Args:
        metadata: Tensor metadata by value, to tell views from copies.
    """
    if not any(changed_arguments(node) for node in nodes):
        return tuple(nodes), tuple(outputs)
    state = _State(metadata)
    for node in nodes:
        state.add(node)
    results = tuple(state.read(name) for name in outputs)
    return tuple(state.nodes), results


def changed_arguments(node: Node) -> tuple[str, ...]:
    """Return the names of the arguments that an operator changes."""
    namespace, _, rest = node.op.partition(".")
    if namespace.partition("::")[0] not in _KNOWN_NAMESPACES:
        return tuple(name for name, value in node.attributes.items() if isinstance(value, InputRef))
    name = rest.partition(".")[0]
    if name.endswith("_") and not name.endswith("__"):
        return ("self",) if "self" in node.attributes else tuple(node.attributes)[:1]
    if name.startswith("__i") and name.endswith("__") and name != "__invert__":
        return ("self",)
    trains = node.attributes.get("training", node.attributes.get("use_input_stats", True))
    if node.op in _NORMS_OF_RUNNING_STATISTICS and trains:
        return tuple(n for n in ("running_mean", "running_var") if isinstance(node.attributes.get(n), InputRef))
    return tuple(name for name in ("out",) if isinstance(node.attributes.get(name), InputRef))


def functional_name(op: str) -> str:
    """Return the operator that computes what one in place leaves behind."""
    namespace, _, rest = op.partition(".")
    name, dot, overload = rest.partition(".")
    if name.startswith("__i") and name.endswith("__") and name != "__invert__":
        name = "__" + name[3:]
    elif name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return f"{namespace}.{name}{dot}{overload}"


@dataclass(slots=True)
class _View:
    """A value that shares its elements with another.

    Attributes:
        parent: The value that it is a view of.
        index: Which output of its node it is.
        seen: How many changes of the viewed tensor its present value accounts for.
        certain: Whether it is a view and no copy.
    """

    parent: str
    node: Node
    index: int
    seen: int
    certain: bool


@dataclass(slots=True)
class _State:
    """The present value of every name, as nodes are added."""

    metadata: Mapping[str, object]
    nodes: list[Node] = field(default_factory=list)
    now: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    views: dict[str, _View] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    made: int = 0

    def add(self, node: Node) -> None:
        """Add a node, its inputs in their present state."""
        changed = changed_arguments(node)
        present = replace(node, inputs=tuple(self.read(name) if name else "" for name in node.inputs))
        if not changed:
            self.nodes.append(present)
            self._note_views(node, present)
            return
        targets = list(self._targets(node, changed))
        op = functional_name(node.op)
        new: tuple[str, ...]
        outputs: tuple[str, ...]
        if op != node.op and len(targets) == len(node.outputs) == 1:
            new, outputs = node.outputs, node.outputs
            self.same[new[0]] = targets[0]
        else:
            new = tuple(self._fresh(name) for name in targets)
            outputs = new if op != node.op and not node.outputs else (*node.outputs, *new)
        self.nodes.append(replace(present, op=op, outputs=outputs))
        for target, value in zip(targets, new, strict=True):
            self.now[target] = value
            self._write_back(target)

    def read(self, name: str) -> str:
        """Return the value that a name stands for now."""
        name = self._own(name)
        chain: list[str] = []
        while name in self.views and self.views[name].seen != self.changes.get(self._root(name), 0):
            chain.append(name)
            name = self._own(self.views[name].parent)
        for stale in reversed(chain):
            self._take_anew(stale)
        last = chain[0] if chain else name
        return self.now.get(last, last)

    def _own(self, name: str) -> str:
        while name in self.same:
            name = self.same[name]
        return name

    def _root(self, name: str) -> str:
        name = self._own(name)
        while name in self.views:
            name = self._own(self.views[name].parent)
        return name

    def _fresh(self, name: str) -> str:
        self.made += 1
        return f"{name}#{self.made}"

    def _targets(self, node: Node, arguments: Sequence[str]) -> Iterator[str]:
        for argument in arguments:
            value = node.attributes.get(argument)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, InputRef):
                    yield self._own(node.inputs[item.index])

    def _note_views(self, node: Node, present: Node) -> None:
        certainty = is_view(node, self._dtype, lambda name: is_contiguous(self.metadata.get(name)))
        first = node.attributes.get("self", node.attributes.get("input"))
        if certainty is False or not isinstance(first, InputRef):
            return
        parent = self._own(node.inputs[first.index])
        seen = self.changes.get(self._root(parent), 0)
        for index, output in enumerate(node.outputs):
            self.views[output] = _View(parent, present, index, seen, certainty is True)

    def _take_anew(self, name: str) -> None:
        view = self.views[name]
        parent = self._own(view.parent)
        fresh = tuple(self._fresh(output) for output in view.node.outputs)
        op = view.node.op if view.certain else f"{view.node.op} of a tensor that changes"
        inputs = (self.now.get(parent, parent), *view.node.inputs[1:])
        self.nodes.append(replace(view.node, op=op, inputs=inputs, outputs=fresh))
        self.now[name] = fresh[view.index]
        view.seen = self.changes.get(self._root(name), 0)

    def _write_back(self, name: str) -> None:
        chain: list[_View] = []
        while name in self.views:
            view = self.views[name]
            parent = self._own(view.parent)
            node = written_back(view.node, view.index) if view.certain else None
            if node is None:
                node = replace(view.node, op=f"{view.node.op} whose result changes in place", attributes={})
            before, after = self.now.get(parent, parent), self._fresh(parent)
            inputs = (before, self.now.get(name, name), *view.node.inputs[1:])
            self.nodes.append(replace(node, inputs=inputs, outputs=(after,)))
            self.now[parent] = after
            chain.append(view)
            name = parent
        self.changes[name] = self.changes.get(name, 0) + 1
        for view in chain:
            view.seen = self.changes[name]

    def _meta(self, name: str) -> Mapping[str, object]:
        found = self.metadata.get(name)
        inner = found.get("meta", found) if isinstance(found, dict) else None
        return inner if isinstance(inner, dict) else {}

    def _dtype(self, name: str) -> object:
        return self._meta(name).get("dtype")
