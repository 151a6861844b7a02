"""The batch norms of a graph by what they normalise with, and where ranges are chosen for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from bn_audit.errors import RunError
from bn_audit.runners._onnx.batch_norms import STATISTICS, BatchNorm
from bn_audit.runners._onnx.dependence import Proto
from bn_audit.runners._onnx.places import node_places
from bn_audit.subject.run import Calls, Outputs

_RANGED = frozenset(("DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul"))
"""Operators that choose one range for all they are given."""


def find_calls(
    proto: Proto,
    norms: Sequence[BatchNorm],
    varying: Collection[str],
    batch_size: int,
    give: Callable[[Sequence[str]], Outputs],
) -> Calls:
    """Return the calls of one forward pass; weights that are standardised by a batch norm are none.

    Args:
        varying: Names of the values that depend on the samples.
        give: Runs the model and returns values of it by name.
    """
    places = node_places(proto, norms)
    nodes = list(proto.graph.node)
    called = [norm for norm in norms if norm.varies]
    training = [norm for norm in called if norm.trains]
    by_instance = _by_instance([nodes[norm.index].input[0] for norm in training], batch_size, give)
    users = [
        norm
        for norm in called
        if (norm.trains and nodes[norm.index].input[0] not in by_instance)
        or (not norm.trains and any(name in varying for name in nodes[norm.index].input[STATISTICS]))
    ]
    evaluated = [norm for norm in called if not norm.trains and norm.statistics]
    return Calls(
        norm_calls=len(called),
        registered=len(called),
        batch_statistics=tuple(places[norm.index] for norm in users),
        untrained=bool(called)
        and len(evaluated) == len(called)
        and all(_is_initial(proto, norm) for norm in evaluated),
        dynamic_ranges=tuple(
            places[index]
            for index, node in enumerate(nodes)
            if node.op_type in _RANGED and any(name in varying for name in node.input)
        ),
    )


def _by_instance(names: Sequence[str], batch_size: int, give: Callable[[Sequence[str]], Outputs]) -> set[str]:
    """Return the values whose samples lie in the channels: a batch norm of such a one is an instance norm."""
    wanted = list(dict.fromkeys(names))
    if not wanted or batch_size < 2:
        return set()
    try:
        values = give(wanted)
    except RunError:
        return set()
    return {name for name in wanted if name in values and np.shape(values[name])[:1] == (1,)}


def _is_initial(proto: Proto, norm: BatchNorm) -> bool:
    import onnx

    stored = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name in norm.statistics}
    mean, variance = (onnx.numpy_helper.to_array(stored[name]).astype(np.float64) for name in norm.statistics)
    return not np.any(mean) and bool(np.all(variance == 1))
