"""What the inputs of an ONNX graph may look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from bn_audit.containers.onnx_file.tensors import DTYPES
from bn_audit.errors import UnsupportedRunError
from bn_audit.runners._onnx.dependence import graph_inputs
from bn_audit.runners._onnx.loading import NUMPY_TYPES
from bn_audit.runners._onnx.readers import told_by_readers
from bn_audit.subject.run import InputSpec

Proto: TypeAlias = Any
"""A message of the onnx package."""

Dim = int | str | None

DRAWN = frozenset(NUMPY_TYPES)
"""The element types that samples are drawn of."""

_BATCH_NAME = re.compile(
    r"(?:.*[_.]|^)(?:n|b|bs|bsz|batch|batch_?size|nbatch|num_?samples|batch_?dim|unk__\d+_batch)$", re.I
)
_BATCH_PART = re.compile(r"batch", re.IGNORECASE)
_STEPS = frozenset(("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Expand"))
"""Operators that leave integers what they are."""


def input_specs(proto: Proto, batch_axis: int | None) -> tuple[InputSpec, ...]:
    """Return the inputs that a caller gives, as the graph declares them.

    Args:
        batch_axis: As the user states it; None where the graph is to be asked.

    Raises:
        UnsupportedRunError: an input is no tensor, or of elements that cannot be drawn.
    """
    inputs = graph_inputs(proto)
    stored = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    shapes = {value.name: told_by_readers(proto, stored, value.name, _shape(value)) for value in inputs}
    axes = _batch_axes(shapes, batch_axis)
    return tuple(
        InputSpec(
            name=value.name,
            dtype=_dtype(value),
            shape=shapes[value.name],
            batch_axis=axes[value.name],
            highest=_highest(proto, value.name),
            origin="the graph",
        )
        for value in inputs
    )


def _dtype(value: Proto) -> str:
    kind = DTYPES.get(value.type.tensor_type.elem_type, f"type {value.type.tensor_type.elem_type}")
    if kind not in DRAWN:
        raise UnsupportedRunError(
            f"input {value.name!r} takes elements of type {kind}, which are not drawn: "
            "put the step that makes numbers of it outside the model"
        )
    return kind


def _shape(value: Proto) -> tuple[Dim, ...] | None:
    if value.type.WhichOneof("value") != "tensor_type":
        kind = (value.type.WhichOneof("value") or "no type").removesuffix("_type").replace("_", " ")
        raise UnsupportedRunError(f"input {value.name!r} is no tensor but of kind {kind}, which is not run")
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(_size(dim) for dim in value.type.tensor_type.shape.dim)


def _size(dim: Proto) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return dim.dim_param or None


def _batch_axes(shapes: dict[str, tuple[Dim, ...]], stated: int | None) -> dict[str, int | None]:
    """Return the axis of the samples of every input; None for those shared by all samples."""
    if stated is not None:
        return {name: stated if -len(shape) <= stated < len(shape) else None for name, shape in shapes.items()}
    named = {name: _named_axis(shape) for name, shape in shapes.items()}
    symbols = {shapes[name][axis] for name, axis in named.items() if axis is not None}
    if not symbols:
        leading = [shape[0] for shape in shapes.values() if shape]
        first = leading[0] if leading else None
        if not isinstance(first, int):
            return {name: 0 if shape and not isinstance(shape[0], int) else None for name, shape in shapes.items()}
        second = next((shape for shape in shapes.values() if shape), ())
        free = [axis for axis, size in enumerate(second) if not isinstance(size, int)]
        if free == [1] and first > 1:
            # Sequences with the time first: the only free size is that of the batch.
            return {
                name: 1 if len(shape) > 1 and not isinstance(shape[1], int) else None for name, shape in shapes.items()
            }
        return {name: 0 if shape and shape[0] == first else None for name, shape in shapes.items()}
    found: dict[str, int | None] = {}
    for name, shape in shapes.items():
        shared = [axis for axis, size in enumerate(shape) if size in symbols]
        usual = 0 if shape and shape[0] is None else None
        found[name] = named[name] if named[name] is not None else shared[0] if shared else usual
    return found


def _named_axis(shape: Sequence[Dim]) -> int | None:
    """Return the first axis whose size has the name of a batch."""
    for pattern in (_BATCH_NAME.match, _BATCH_PART.search):
        for axis, size in enumerate(shape):
            if isinstance(size, str) and pattern(size):
                return axis
    return None


def _highest(proto: Proto, name: str) -> int | None:
    """Return one more than the largest index that the tables take which an input looks up; None where it does not."""
    readers: dict[str, list[Proto]] = {}
    for node in proto.graph.node:
        for value in node.input:
            readers.setdefault(value, []).append(node)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    makers = {value: node for node in proto.graph.node for value in node.output}
    found: list[int] = []
    waiting, seen = [name], {name}
    while waiting:
        value = waiting.pop()
        for node in readers.get(value, ()):
            if node.op_type == "Gather" and len(node.input) > 1 and node.input[1] == value:
                axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
                table = _table(sizes, makers, node.input[0])
                if table is not None and -len(table) <= axis < len(table):
                    found.append(table[axis])
            elif node.op_type in _STEPS and node.input[0] == value and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return min(found, default=None)


def _table(sizes: dict[str, tuple[int, ...]], makers: dict[str, Proto], name: str) -> tuple[int, ...] | None:
    """Return the shape of a stored table, behind the steps that make numbers of a quantised one."""
    for _ in range(8):
        if name in sizes:
            return sizes[name]
        node = makers.get(name)
        if node is None or node.op_type not in ("Identity", "Cast", "DequantizeLinear") or not node.input:
            return None
        name = node.input[0]
    return None
