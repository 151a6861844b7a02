"""Weights changed by one unit in the last place."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bn_audit.runners._onnx.loading import Model, is_external
from bn_audit.subject.run import Array

Proto: TypeAlias = Any
"""A message of the onnx package."""

_INFINITY = {1: 0x7F800000, 10: 0x7C00, 11: 0x7FF0000000000000, 16: 0x7F80}
"""Bits of infinity by the number of the type: float32, float16, float64, bfloat16."""

_BITS = {1: np.int32, 10: np.int16, 11: np.int64, 16: np.int16}


def jittered(model: Model, seed: int) -> Model:
    """Return a model whose floating-point weights are each one unit in the last place larger or smaller.

    Zeros stay: their neighbours are denormal numbers, which no rounding of weights gives.
    """
    import onnx

    generator = np.random.default_rng(seed)
    changed = model.edited()
    weights: dict[str, Array] = dict(model.weights)
    for tensor in changed.proto.graph.initializer:
        if tensor.data_type not in _BITS:
            continue
        if tensor.name in weights:
            weights[tensor.name] = _moved(weights[tensor.name], tensor.data_type, generator)
        elif not is_external(tensor):
            array = onnx.numpy_helper.to_array(tensor)
            moved = _moved(array, tensor.data_type, generator).view(array.dtype)
            tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
    return Model(name=model.name, proto=changed.proto, weights=weights, folder=model.folder)


def _moved(array: Array, kind: int, generator: np.random.Generator) -> Array:
    bits: npt.NDArray[np.signedinteger[Any]] = np.ascontiguousarray(array).reshape(array.shape).view(_BITS[kind])
    magnitude = bits & np.iinfo(bits.dtype).max
    movable = (magnitude > 1) & (magnitude < _INFINITY[kind] - 1)
    step = generator.integers(0, 2, bits.shape, dtype=np.int8) * 2 - 1
    moved: Array = bits + np.where(movable, step, 0).astype(_BITS[kind])
    return moved.view(array.dtype)
