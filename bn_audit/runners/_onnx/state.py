"""Stored statistics that a backend overwrites while it runs a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bn_audit.runners._onnx.backend import Backend
from bn_audit.runners._onnx.batch_norms import BatchNorm
from bn_audit.runners._onnx.loading import Model
from bn_audit.runners._onnx.tracing import with_outputs
from bn_audit.subject.run import Batch


def changed_tensors(
    backend: Backend, model: Model, norms: Sequence[BatchNorm], batch: Batch, seed: int
) -> tuple[str, ...]:
    """Return the names of statistics that differ after a run, by bits.

    Copies are taken as further outputs of two runs: each shows what was stored before it, for a copy that reads an
    initialiser alone runs before the node that overwrites it; where it does not, it shows the change all the same.
    """
    import onnx

    names = list(dict.fromkeys(name for norm in norms if norm.overwrites for name in norm.statistics))
    copies = {f"{name}::copy": name for name in names}
    watched = model.edited()
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in watched.proto.graph.initializer
        if tensor.name in names
    }
    nodes = [onnx.helper.make_node("Identity", [name], [copy]) for copy, name in copies.items()]
    rest = list(watched.proto.graph.node)
    del watched.proto.graph.node[:]
    watched.proto.graph.node.extend([*nodes, *rest])
    forward = backend.start(with_outputs(watched, list(copies)), seed)
    forward(batch)
    after = forward(batch)
    return tuple(
        name
        for copy, name in copies.items()
        if copy in after and np.ascontiguousarray(after[copy]).tobytes() != np.ascontiguousarray(stored[name]).tobytes()
    )
