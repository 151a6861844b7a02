"""The batch size that an ONNX graph was made for, opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from bn_audit.containers.source import Source
from bn_audit.errors import RunError
from bn_audit.runners._onnx.freeing import fixed_size, freed, stated_batch
from bn_audit.runners._onnx.inputs import input_specs
from bn_audit.runners._onnx.loading import Model, copied, load
from bn_audit.runners._onnx.runtime import Runtime
from bn_audit.runners._onnx.verifying import is_same_model
from bn_audit.subject.run import InputSpec

Proto: TypeAlias = Any
"""A message of the onnx package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreedGraph:
    """A graph with an open batch.

    Attributes:
        what: The change, as it is shown.
    """

    proto: Proto
    what: str


def free_batch_size(proto: Proto, source: Source) -> FreedGraph | str:
    """Return the graph with its batch open, or why it cannot be opened.

    The freed graph is run beside the one before in onnxruntime, and must give the same answers.

    Args:
        proto: The graph as it is repaired so far, with its weights.
        source: The file.
    """
    if proto.functions:
        return "the batch size is built into a graph with functions of its own: export it again"
    model = load(str(source.path))
    specs = input_specs(model.proto, None)
    size = stated_batch(specs)
    if size is None:
        declared = fixed_size(specs)
        if declared is not None:
            return f"the batch of {declared} is not the first axis of every input: export again with a free batch"
        return (
            "the batch size is built into nodes of a graph that declares it free: keep the batch in every shape "
            "(x.shape[0], flatten(1)) and export again"
        )
    model = replace(model, proto=_with_tensors(proto, model.proto))
    result = freed(model, specs, size)
    if result is None:
        return f"the batch of {size} is not found in every shape: export again with a free batch"
    free, count = result
    if not _is_verified(model, free, specs, size):
        return (
            f"the batch of {size} can be opened, but onnxruntime does not give the same answers then: export again "
            "with a free batch"
        )
    told = f"{count} operator{'' if count == 1 else 's'} told the size"
    return FreedGraph(proto=_with_tensors(free.proto, proto), what=f"batch axis: {size} -> 'batch' ({told})")


def _is_verified(model: Model, free: Model, specs: Sequence[InputSpec], size: int) -> bool:
    runtime = Runtime(device="cpu", threads=None)
    try:
        return is_same_model(runtime.start(model, 0), runtime.start(free, 0), specs, size)
    except RunError:
        return False


def _with_tensors(graph: Proto, other: Proto) -> Proto:
    """Return a copy of `graph` with the tensors of `other` in place of its own of the same names."""
    theirs = {tensor.name: tensor for tensor in other.graph.initializer}
    copy = copied(graph)
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(theirs.get(tensor.name, tensor) for tensor in graph.graph.initializer)
    return copy
