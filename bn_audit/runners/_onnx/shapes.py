"""Shapes of the values of an ONNX graph at a given batch size, and where the batch is in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from bn_audit.runners._onnx.loading import copied

Proto: TypeAlias = Any
"""A message of the onnx package."""

Shape: TypeAlias = tuple[int, ...]

BATCH = "batch"
"""The symbol of a size that is left open."""


def inferred_shapes(proto: Proto, sizes: Mapping[str, int]) -> dict[str, Shape]:
    """Return the shape of every value where it is known, with the first axis of these inputs as given."""
    import onnx

    model = copied(proto)
    if sizes:
        open_declarations(model, sizes)
        for value in model.graph.input:
            if value.name in sizes:
                value.type.tensor_type.shape.dim[0].dim_value = sizes[value.name]
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    found: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found


def open_declarations(proto: Proto, names: Sequence[str] | Mapping[str, int]) -> None:
    """Leave the batch open in the inputs, and every other shape to be inferred."""
    del proto.graph.value_info[:]
    for value in proto.graph.input:
        if value.name in names:
            dim = value.type.tensor_type.shape.dim[0]
            dim.ClearField("dim_value")
            dim.dim_param = BATCH
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def batch_place(shape: Shape, stride: int, size: int) -> int | None:
    """Return the axis of a shape that holds a batch whose samples are `stride` elements apart; None where none does.

    An axis of the batch alone is preferred to one that begins with it, and that to one that holds it further within.
    """
    merged = within = None
    for axis in range(len(shape)):
        below = math.prod(shape[axis + 1 :])
        whole = below * shape[axis]
        if below == stride and shape[axis] == size:
            return axis
        if stride % max(below, 1) == 0 and whole == stride * size:
            merged = axis
        elif stride % max(below, 1) == 0 and whole and whole % (stride * size) == 0:
            within = axis
    return within if merged is None else merged
