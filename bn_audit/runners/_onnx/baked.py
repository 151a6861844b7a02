"""A batch size written into the operators of a graph whose inputs leave it open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from bn_audit.errors import RunError
from bn_audit.runners._onnx.backend import Forward
from bn_audit.runners._onnx.folding_sizes import fold_sizes
from bn_audit.runners._onnx.loading import Model
from bn_audit.runners._onnx.naming import node_names
from bn_audit.runners._onnx.shapes import inferred_shapes
from bn_audit.runners._onnx.verifying import drawn
from bn_audit.subject.run import InputSpec

Proto: TypeAlias = Any
"""A message of the onnx package."""

OTHER_SIZE = 1009
"""A batch size to infer shapes at: a prime that is no size of a model's own."""


def baked_size(model: Model, varying: set[str], specs: Sequence[InputSpec]) -> tuple[int, str] | None:
    """Return the only batch size for which every Reshape has room, and the node that says so; None for none.

    It is told by the first Reshape whose sizes are all numbers: their product is that of the elements it is given.
    """
    names = [spec.name for spec in specs if spec.batch_axis == 0]
    told = [node for node in model.proto.graph.node if node.op_type == "Reshape" and node.input[0] in varying]
    if not names or not any(len(node.input) > 1 and node.input[1] not in varying for node in told):
        return None
    proto = model.edited().proto
    fold_sizes(proto, varying)
    stated = _whole_sizes(proto)
    if not any(node.input[1] in stated for node in proto.graph.node if _is_reshape(node, varying)):
        return None
    shapes = inferred_shapes(proto, dict.fromkeys(names, OTHER_SIZE))
    for node, name in zip(proto.graph.node, node_names(proto.graph), strict=True):
        shape = shapes.get(node.input[0]) if _is_reshape(node, varying) and node.input[1] in stated else None
        elements = 0 if shape is None else math.prod(shape)
        if not elements or elements % OTHER_SIZE:
            continue
        size, rest = divmod(math.prod(stated[node.input[1]]) * OTHER_SIZE, elements)
        return (size, name) if size and not rest else None
    return None


def is_only_size(forward: Forward, specs: Sequence[InputSpec], size: int) -> bool:
    """Return whether a model runs at this batch size and at none beside it."""
    return _runs(forward, specs, size) and not _runs(forward, specs, size + 1) and not _runs(forward, specs, 2 * size)


def _runs(forward: Forward, specs: Sequence[InputSpec], size: int) -> bool:
    try:
        forward(drawn(specs, size, 0))
    except RunError:
        return False
    return True


def _is_reshape(node: Proto, varying: set[str]) -> bool:
    return node.op_type == "Reshape" and len(node.input) > 1 and node.input[0] in varying


def _whole_sizes(proto: Proto) -> dict[str, list[int]]:
    """Return the stored lists of sizes in which every size is a number, none left to be found."""
    import onnx

    wanted = {node.input[1] for node in proto.graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    lists = {
        tensor.name: [int(value) for value in onnx.numpy_helper.to_array(tensor).ravel()]
        for tensor in proto.graph.initializer
        if tensor.name in wanted and tensor.data_location == 0
    }
    return {name: sizes for name, sizes in lists.items() if all(size > 0 for size in sizes)}
