"""What the norm calls of a graph normalise: activations, parameters, or instances in disguise."""

from __future__ import annotations

from collections import defaultdict

from bn_audit.flow.origin import input_origin
from bn_audit.flow.placement import Placement
from bn_audit.formats._torchscript.graph import Graph, NormCall
from bn_audit.formats._torchscript.values import Constant, Tensor
from bn_audit.subject.norm import InputOrigin


class Inputs:
    """Decides for each call of one graph.

    Attributes:
        dependent: Names of the values that samples, or values that are not known, determine.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._placements: dict[str, Placement] = {}
        self.dependent = _dependent(graph)

    def comes_from_parameters(self, call: NormCall) -> bool:
        """Return whether stored tensors alone determine what a call normalises."""
        value = call.input
        return isinstance(value, Tensor) and value.name not in self.dependent and not self._graph.unsure

    def origin(self, call: NormCall) -> InputOrigin:
        """Return what a call in training form normalises."""
        value = call.input
        if not isinstance(value, Tensor):
            return InputOrigin.UNDECIDED
        if self.comes_from_parameters(call):
            return InputOrigin.PARAMETERS
        if has_statistics(call):
            # Stored statistics of C channels leave no room for samples folded into the channels.
            return InputOrigin.ACTIVATIONS
        found = input_origin(
            value.name,
            self._graph.producers,
            parameters=self._graph.parameters,
            inputs=self._graph.inputs,
            placements=self._placements,
        )
        return InputOrigin.UNDECIDED if found is InputOrigin.PARAMETERS else found


def has_statistics(call: NormCall) -> bool:
    """Return whether a call is given running statistics."""
    return any(not (isinstance(value, Constant) and value.value is None) for value in (call.mean, call.variance))


def _dependent(graph: Graph) -> set[str]:
    """Return every value that an argument, a random or an unknown value reaches, through writes in place too."""
    readers: dict[str, list[str]] = defaultdict(list)
    for name, operation in graph.producers.items():
        for operand in operation.inputs:
            readers[operand].append(name)
    found: set[str] = set()
    waiting = [*graph.inputs, *graph.sources]
    writes = list(graph.writes)
    while waiting:
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(readers[name])
        later = []
        for target, written in writes:
            if found.isdisjoint(written):
                later.append((target, written))
            else:
                waiting.extend(_shares_memory(target, graph) - found)
        writes = later
    return found


def _shares_memory(target: str, graph: Graph) -> set[str]:
    """Return the values of which `target` may be a view: everything that it was computed from, but stored tensors."""
    found: set[str] = set()
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name in found or name in graph.parameters:
            continue
        found.add(name)
        operation = graph.producers.get(name)
        if operation is not None:
            waiting.extend(operation.inputs)
    return found
