"""Sizes that a graph computes from constants alone, computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from bn_audit.runners._onnx.dependence import free_names

Proto: TypeAlias = Any
"""A message of the onnx package."""

SIZED = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""The input by which an operator is told what shape to give."""

MAX_STEPS = 64
"""Of a list of sizes; exporters that fold nothing write some three per size."""

FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the reference raises where nodes do not fit together."""


def fold_sizes(proto: Proto, varying: set[str]) -> None:
    """Put the lists of sizes that Reshape and its like are told, where constants determine them, into the message."""
    import onnx

    makers = {name: node for node in proto.graph.node for name in node.output if name}
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        place = SIZED.get(str(node.op_type), len(node.input))
        if place >= len(node.input) or not node.input[place] or node.input[place] in stored:
            continue
        name = node.input[place]
        nodes = _steps(makers, stored, name, varying)
        array = None if nodes is None else _computed(proto, nodes, stored, name)
        if array is not None:
            tensor = onnx.numpy_helper.from_array(array, f"{name}::{node.output[0]}")
            proto.graph.initializer.append(tensor)
            stored[tensor.name] = tensor
            node.input[place] = tensor.name


def _steps(
    makers: Mapping[str, Proto], stored: Mapping[str, Proto], name: str, varying: set[str]
) -> list[Proto] | None:
    """Return the nodes that make a value, in order; None where it depends on the samples or their shape."""
    found: dict[str, Proto] = {}
    waiting = [name]
    while waiting:
        value = waiting.pop()
        if value in stored or value in found:
            continue
        node = makers.get(value)
        if node is None or value in varying or len(found) > MAX_STEPS:
            return None
        found[value] = node
        reads = list(free_names(node))
        if any(read in varying for read in reads):
            return None
        waiting.extend(reads)
    order = {id(node) for node in found.values()}
    return list({id(node): node for node in makers.values() if id(node) in order}.values())


def _computed(proto: Proto, nodes: list[Proto], stored: Mapping[str, Proto], name: str) -> Any:
    import onnx
    from onnx.reference import ReferenceEvaluator

    read = dict.fromkeys(value for node in nodes for value in free_names(node) if value in stored)
    if any(stored[value].data_location == 1 for value in read):
        return None
    graph = onnx.helper.make_graph(nodes, "sizes", [], [onnx.helper.make_empty_tensor_value_info(name)])
    graph.initializer.extend(stored[value] for value in read)
    try:
        model = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        results: Any = ReferenceEvaluator(model).run(None, {})
    except FAILURES:
        return None
    array = results[0]
    return array if getattr(array, "ndim", 0) == 1 and array.dtype.kind == "i" else None
