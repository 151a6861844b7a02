"""The batch norms of an ONNX graph that a backend runs, and how to change their mode.

Source: onnx/docs/Changelog.md of ONNX 1.23, BatchNormalization 7 to 15; what onnxruntime 1.31 does with them was
measured: from operator set 14 it takes exactly 3 outputs in training and 1 in inference, before it 5 and 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bn_audit.recognition.onnx_places import layer_path, role_and_path
from bn_audit.runners._onnx.naming import node_names, place

Proto: TypeAlias = Any
"""A message of the onnx package."""

FIRST_BY_ATTRIBUTE = 14
"""The first operator set in which the attribute ``training_mode`` decides; before it the number of outputs does."""

STATISTICS = slice(3, 5)
"""The inputs that are mean and variance."""

MAX_COPIES = 64
"""Cap on the copies between a tensor and its use."""

_ROLES = ("weight", "bias", "running_mean", "running_var")
_COPIES = ("Identity", "Cast", "CastLike", "Reshape", "Squeeze", "Unsqueeze", "DequantizeLinear")
_INTERNAL = "BatchNormInternal"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm:
    """One batch-norm node.

    Attributes:
        index: Of the node in the graph.
        path: Of the layer, as the reader of the file calls it.
        trains: It normalises with the batch's statistics.
        statistics: Names of its mean and variance where they are stored, or copies of what is; else ().
        is_settled: They do not depend on the samples.
        varies: What it normalises depends on the samples; weights that are standardised do not.
        overwrites: The backend writes new statistics over the stored ones, since no output takes them.
    """

    index: int
    node: str
    path: str
    trains: bool
    statistics: tuple[str, ...]
    is_settled: bool
    varies: bool
    overwrites: bool


def batch_norm_nodes(proto: Proto) -> Iterator[Proto]:
    """Yield the batch-norm nodes of a model's graph, bodies left out."""
    for node in proto.graph.node:
        if is_batch_norm(node):
            yield node


def is_batch_norm(node: Proto) -> bool:
    """Return whether a node is a batch norm with its five inputs."""
    standard = node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx", "com.ms.internal.nhwc")
    return len(node.input) == 5 and (standard or (node.domain, node.op_type) == ("com.microsoft", _INTERNAL))


def trains(node: Proto, opset: int) -> bool:
    """Return whether a batch-norm node takes the batch's statistics."""
    flag = next((bool(attribute.i) for attribute in node.attribute if attribute.name == "training_mode"), None)
    if node.op_type == _INTERNAL:
        return flag is not False
    if opset >= FIRST_BY_ATTRIBUTE:
        return bool(flag)
    return sum(1 for name in node.output if name) > 1


def batch_norms(proto: Proto, opset: int, varying: Collection[str]) -> tuple[BatchNorm, ...]:
    """Return the batch norms of a model's graph, in order.

    Args:
        varying: Names of the values that depend on the samples.
    """
    stored = {tensor.name for tensor in proto.graph.initializer}
    makers = makers_of(proto)
    wanted = {value.name for value in proto.graph.output}
    used = wanted | {name for node in proto.graph.node for name in node.input}
    names = node_names(proto.graph)
    found = []
    for index, node in enumerate(proto.graph.node):
        if not is_batch_norm(node):
            continue
        called = {role: _origin(makers, name) for role, name in zip(_ROLES, node.input[1:], strict=True)}
        training = trains(node, opset)
        origins = [stored_origin(makers, stored, name) for name in node.input[STATISTICS]]
        statistics = tuple(name for name in origins if name is not None)
        found.append(
            BatchNorm(
                index=index,
                node=names[index],
                path=layer_path(called, place(node), names[index]),
                trains=training,
                statistics=statistics if len(statistics) == 2 else (),
                is_settled=not any(name in varying for name in node.input[STATISTICS]),
                varies=node.input[0] in varying,
                overwrites=training and any(name not in used for name in node.output[1:3]),
            )
        )
    return tuple(found)


def makers_of(proto: Proto) -> dict[str, Proto]:
    """Return the node that makes each value of the outer graph."""
    return {name: node for node in proto.graph.node for name in node.output if name}


def stored_origin(makers: Mapping[str, Proto], stored: Collection[str], name: str) -> str | None:
    """Return the initialiser that a value is or is a copy of; exporters keep one of several equal tensors."""
    value = name
    for _ in range(MAX_COPIES):
        if value in stored:
            return value
        node = makers.get(value)
        if node is None or node.domain or node.op_type not in _COPIES or not node.input:
            return None
        value = node.input[0]
    return None


def _origin(makers: Mapping[str, Proto], name: str) -> str:
    """Return the nearest name, among a value and what it is a copy of, that a framework gives to parameters."""
    value = name
    for _ in range(MAX_COPIES):
        if role_and_path(value) is not None:
            return value
        node = makers.get(value)
        if node is None or node.domain or node.op_type not in _COPIES or not node.input:
            return name
        value = node.input[0]
    return name


def set_mode(proto: Proto, opset: int, norms: Collection[BatchNorm], *, training: bool) -> None:
    """Make these batch norms of a message take the batch's statistics, or the stored ones."""
    for norm in norms:
        node = proto.graph.node[norm.index]
        if norm.trains == training:
            continue
        named = node.op_type == _INTERNAL or opset >= FIRST_BY_ATTRIBUTE
        if named:
            kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
            flag = node.attribute.add()
            flag.name, flag.type, flag.i = "training_mode", 2, int(training)
        first = node.output[0]
        del node.output[:]
        wanted = 1 if not training else 3 if named else 5
        node.output.extend([first, *(f"{first}::statistics{place}" for place in range(1, wanted))])
