"""Following the samples of a batch through a graph, node by node."""

from __future__ import annotations

import math
import time
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import numpy as np

from bn_audit.flow.call import Call, Evaluator, Handler
from bn_audit.flow.cells import MET, ShapeConflictError, UndecidableError, may, several
from bn_audit.flow.constants import Array, Constant, Ledger
from bn_audit.flow.values import Lost, Several, Value
from bn_audit.subject.graph import Graph, Node

MAX_DEPTH = 24
"""Bodies and functions inside one another."""
MAX_CALLS = 400_000
"""Nodes followed in one run, those of repeated bodies counted each time."""
MAX_HELD = 1 << 24
"""Cells held at once: 256 MiB."""

Key = tuple[str, str]

FAULTS = (
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)
"""What a node raises whose operands or attributes are not what its operator takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The operators of one dialect.

    Attributes:
        handlers: What each operator does to cells, by (domain, name).
        evaluators: How operators compute constants from constants.
        fixed_sizes: Whether a graph with a recorded batch size can run at no other.
    """

    handlers: Mapping[Key, Handler]
    evaluators: Mapping[Key, Evaluator]
    fixed_sizes: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One node that was followed."""

    node: Node
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(slots=True, kw_only=True)
class Run:
    """One pass over a graph at one batch size.

    Attributes:
        relaxing: Whether a hard-coded leading 1 beside an open size in a reshape counts as the batch.
        declared_batch: The batch size that the graph was declared for; None where it is open.
        deadline: When to give up, by the clock of ``time.monotonic``.
        met: Whether samples may have met anywhere.
    """

    dialect: Dialect
    graph: Graph
    ledger: Ledger
    batch_size: int
    deadline: float
    declared_batch: int | None = None
    relaxing: bool = False
    steps: list[Step] = field(default_factory=list)
    replaced: dict[str, tuple[Node, str]] = field(default_factory=dict)
    remarks: dict[tuple[str, str], tuple[str, Node, str]] = field(default_factory=dict)
    conflicts: list[Lost] = field(default_factory=list)
    outputs: dict[str, Value] = field(default_factory=dict)
    met: bool = False
    _constants: dict[int, Constant] = field(default_factory=dict)
    _depth: int = 0
    _held: int = 0

    def relaxed(self, node: Node, what: str) -> None:
        """Record that a hard-coded batch size was replaced."""
        self.replaced.setdefault(node.name, (node, what))

    def remark(self, kind: str, node: Node, why: str) -> None:
        """Record a mark on a node."""
        self.remarks.setdefault((kind, node.name), (kind, node, why))

    def follow(self, inputs: Mapping[str, Value]) -> None:
        """Follow the graph from the given values of its inputs."""
        names: dict[str, Value] = {}
        self._bind(self.graph, inputs, names)
        self._nodes(self.graph, names)
        for output in self.graph.outputs:
            value = names.get(output.name)
            self.outputs[output.name] = value if value is not None else _absent(output.name)

    def follow_body(
        self, body: Graph, inputs: Mapping[str, Value], outer: MutableMapping[str, Value]
    ) -> tuple[Value, ...]:
        """Follow a graph inside the graph and return its outputs."""
        if self._depth >= MAX_DEPTH:
            raise UndecidableError(f"bodies lie more than {MAX_DEPTH} deep inside one another")
        names: ChainMap[str, Value] = ChainMap({}, outer)
        self._bind(body, inputs, names)
        self._depth += 1
        try:
            self._nodes(body, names)
        finally:
            self._depth -= 1
        return tuple(names.get(output.name, _absent(output.name)) for output in body.outputs)

    def _bind(self, graph: Graph, inputs: Mapping[str, Value], names: MutableMapping[str, Value]) -> None:
        for name, reference in graph.constants.items():
            constant = self._constants.get(id(reference))
            if constant is None:
                constant = self._constants[id(reference)] = Constant(self.ledger, reference=reference)
            names[name] = constant
        names.update(inputs)

    def _nodes(self, graph: Graph, names: MutableMapping[str, Value]) -> None:
        versions = graph.versions or self.graph.versions
        for node in graph.nodes:
            if len(self.steps) >= MAX_CALLS:
                raise UndecidableError(f"more than {MAX_CALLS} operator calls")
            if time.monotonic() > self.deadline:
                raise UndecidableError("the time limit was reached")
            self._node(node, versions, names)

    def _node(self, node: Node, versions: Mapping[str, int], names: MutableMapping[str, Value]) -> None:
        inputs = tuple((names.get(name) or _absent(name)) if name else None for name in node.inputs)
        call = Call(node, inputs, versions.get(node.domain, versions.get("ai.onnx", 0)), self, names)
        outputs = self._outputs(call)
        outputs += tuple(Lost(node, "an output that is not followed") for _ in node.outputs[len(outputs) :])
        outputs = tuple(self._settled(node, output) for output in outputs[: len(node.outputs)])
        self.steps.append(Step(node, tuple(value for value in inputs if value is not None), outputs))
        names.update((name, value) for name, value in zip(node.outputs, outputs, strict=True) if name)

    def _outputs(self, call: Call) -> tuple[Value, ...]:
        """Return the outputs of one node; whatever does not fit makes them lost."""
        node = call.node
        key = (node.domain, node.op)
        lost = next((value for value in call.inputs if isinstance(value, Lost)), None)
        if lost is not None:
            return (lost,) * len(node.outputs)
        try:
            function = self.graph.functions.get(key)
            handler = self.dialect.handlers.get(key)
            if function is not None and handler is None:
                return self.follow_body(function, _arguments(function, call.inputs), {})
            computed = self._computed(call, key)
            if computed is not None:
                return computed
            result = (handler or _unknown)(call)
            return result if isinstance(result, tuple) else (result,)
        except UndecidableError as error:
            return (Lost(node, str(error)),) * len(node.outputs)
        except ShapeConflictError as error:
            conflict = Lost(node, str(error), conflict=True)
        except FAULTS as error:
            conflict = Lost(node, f"its operands do not fit ({type(error).__name__})", conflict=True)
        self.conflicts.append(conflict)
        return (conflict,) * len(node.outputs)

    def _computed(self, call: Call, key: Key) -> tuple[Value, ...] | None:
        """Return the outputs as values, where all inputs are constants with values at hand."""
        evaluator = self.dialect.evaluators.get(key)
        if evaluator is None:
            return None
        arrays: list[Array] = []
        for value in call.inputs:
            if value is None:
                continue
            array = value.values() if isinstance(value, Constant) and value.is_light else None
            if array is None:
                return None
            arrays.append(array)
        try:
            result = evaluator(call, arrays)
        except UndecidableError:
            return None
        results = result if isinstance(result, tuple) else (result,)
        return tuple(Constant(self.ledger, values=np.asarray(array)) for array in results)

    def _settled(self, node: Node, value: Value) -> Value:
        """Return an output as it goes on: arrays without elements are constants, forgiven meetings are recorded."""
        if isinstance(value, Several | Lost):
            return value
        if isinstance(value, Constant):
            return value
        if math.prod(value.shape) == 0:
            return Constant(self.ledger, values=np.zeros(value.shape))
        self._held += value.owners.size
        if self._held > MAX_HELD:
            return Lost(node, f"more than {MAX_HELD} cells are needed")
        if not self.met and several(may(value.owners)).any():
            self.met = True
        if (value.owners & MET).any():
            self.remark("mixes", node, "")
            return replace(value, owners=value.owners & ~MET)
        return value


def _unknown(call: Call) -> Value:
    domain = f"{call.node.domain}." if call.node.domain else ""
    raise UndecidableError(f"the operator {domain}{call.node.op} is not known")


def _arguments(function: Graph, inputs: tuple[Value | None, ...]) -> dict[str, Value]:
    return {
        parameter.name: value for parameter, value in zip(function.inputs, inputs, strict=False) if value is not None
    }


def _absent(name: str) -> Lost:
    return Lost(Node(name=name, op=""), f"the value {name!r} is not computed by any node")
