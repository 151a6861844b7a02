"""The element type that a model works in."""

from __future__ import annotations

import math
from collections import Counter

from bn_audit.containers.onnx_file.tensors import DTYPES
from bn_audit.runners._onnx.dependence import graph_inputs
from bn_audit.runners._onnx.loading import Model

_FLOATS = frozenset(name for name in DTYPES.values() if "float" in name)


def main_dtype(model: Model) -> str:
    """Return the type of most of a model's floating-point weights, else of its first such input, else of any input."""
    counts: Counter[str] = Counter()
    for tensor in model.proto.graph.initializer:
        counts[DTYPES.get(tensor.data_type, "")] += math.prod(tensor.dims)
    floats = [kind for kind, _ in counts.most_common() if kind in _FLOATS]
    kinds = [DTYPES.get(value.type.tensor_type.elem_type, "") for value in graph_inputs(model.proto)]
    return next(iter([*floats, *(kind for kind in kinds if kind in _FLOATS), *kinds]), "")
