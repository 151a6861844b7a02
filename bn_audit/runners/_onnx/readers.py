"""What the first operators that read an input tell about its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Proto: TypeAlias = Any
"""A message of the onnx package."""

Dim = int | str | None

_SAME = frozenset(
    ("Identity", "Cast", "Relu", "Sub", "Mul", "Div", "Add", "Dropout", "QuantizeLinear", "DequantizeLinear")
)
"""Operators that leave the sizes of their first input what they are, or the model takes no other."""

MAX_STEPS = 8
"""Of them between an input and the operator that tells its channels."""


def told_by_readers(
    proto: Proto, stored: Mapping[str, tuple[int, ...]], name: str, declared: tuple[Dim, ...] | None
) -> tuple[Dim, ...]:
    """Return the shape of an input: as declared, with the channels or features that the first layer takes.

    An input without a declared shape has the rank that this layer takes, else one axis.
    """
    value = name
    for _ in range(MAX_STEPS):
        readers = [node for node in proto.graph.node if value in node.input]
        for node in readers:
            told = _told(node, stored, value)
            if told is not None:
                return _joined(declared, *told)
        following = next((node for node in readers if node.op_type in _SAME and node.input[0] == value), None)
        if following is None:
            break
        value = following.output[0]
    return (None,) if declared is None else declared


def _told(node: Proto, stored: Mapping[str, tuple[int, ...]], value: str) -> tuple[int | None, int, int] | None:
    """Return (rank, axis, size) that a layer takes; a rank of None where any will do."""
    if len(node.input) < 2 or node.input[0] != value:
        return None
    weight = stored.get(node.input[1])
    if weight is None:
        return None
    numbers = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Conv" and len(weight) > 2:
        return len(weight), 1, weight[1] * numbers.get("group", 1)
    if node.op_type == "ConvTranspose" and len(weight) > 2:
        return len(weight), 1, weight[0]
    if node.op_type == "Gemm" and len(weight) == 2 and not numbers.get("transA"):
        return 2, 1, weight[1 if numbers.get("transB") else 0]
    if node.op_type == "MatMul" and len(weight) == 2:
        return None, -1, weight[0]
    return None


def _joined(declared: tuple[Dim, ...] | None, rank: int | None, axis: int, size: int) -> tuple[Dim, ...]:
    shape: list[Dim] = list(declared) if declared is not None else [None] * (rank or 2)
    if len(shape) == (rank or len(shape)) and len(shape) > 1 and not isinstance(shape[axis], int):
        shape[axis] = size
    return tuple(shape)
