"""A digest of the shapes that a run gives, without running the graph where the inputs' shapes decide them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from bn_audit.runners._onnx.dependence import Proto, shaped_by_values
from bn_audit.runners._onnx.loading import Model
from bn_audit.subject.run import Batch, Outputs


def deciding_values(proto: Proto, varying: set[str]) -> list[str]:
    """Return the values whose shapes and, for those that choose a branch, elements may differ between samples.

    The shape of every other value follows from the shapes of the inputs, and so does which kernel runs.
    """
    found: dict[str, None] = {}
    for node in shaped_by_values(proto, varying):
        if node.op_type in ("If", "Loop"):
            found.update((name, None) for name in node.input[:2] if name in varying)
        found.update((name, None) for name in node.output if name)
    return list(found)


def with_outputs(model: Model, names: Sequence[str], *, only: bool = False) -> Model:
    """Return a model that gives further values, or only those."""
    import onnx

    exposed = model.edited()
    if only:
        del exposed.proto.graph.output[:]
    present = {value.name for value in exposed.proto.graph.output}
    exposed.proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in present
    )
    return exposed


def digest(batches: Sequence[Batch], results: Sequence[Outputs]) -> str:
    """Return a digest of the shapes of batches and results, and of results that are single numbers or truth values."""
    state = hashlib.blake2b(digest_size=16)
    for arrays in (*batches, *results):
        for name in sorted(arrays):
            array = arrays[name]
            state.update(f"{name}{array.shape}{array.dtype.str}".encode("utf-8", "surrogateescape"))
            if array.size == 1 and array.dtype.kind in "bi":
                state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()
