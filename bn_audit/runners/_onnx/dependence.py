"""Which values of an ONNX graph depend on the samples, and whether their shapes do."""

from __future__ import annotations

import graphlib
from collections.abc import Iterator
from typing import Any, TypeAlias

from bn_audit.runners._onnx.naming import bodies

Proto: TypeAlias = Any
"""A message of the onnx package."""

_SIZES_ONLY = ("Shape", "Size")
"""Operators whose result follows from the shape of their input alone."""

_BY_VALUE = frozenset(("NonZero", "NonMaxSuppression", "Unique", "Compress", "StringSplit", "SequenceAt"))
"""Operators whose output's shape follows from the values of their first input."""

_SHAPING_INPUTS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Slice": (1, 2, 3, 4),
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "TopK": (1,),
    "Pad": (1, 3),
    "OneHot": (1,),
    "Unsqueeze": (1,),
    "Squeeze": (1,),
    "Split": (1,),
    "MaxUnpool": (2,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "If": (0,),
    "Loop": (0, 1),
    **{
        f"Reduce{kind}": (1,)
        for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    },
}
"""The inputs by whose values an operator shapes its output or chooses what runs."""


def free_names(node: Proto) -> Iterator[str]:
    """Yield the values that a node reads: its inputs, and what its bodies take from outside."""
    yield from (name for name in node.input if name)
    for body in bodies(node):
        made = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        for inner in body.node:
            yield from (name for name in free_names(inner) if name not in made)
            made.update(inner.output)
        yield from (value.name for value in body.output if value.name not in made)


def graph_inputs(proto: Proto) -> list[Proto]:
    """Return the inputs that a caller gives: those that are no weights."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    stored |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    return [value for value in proto.graph.input if value.name not in stored]


def varying_values(proto: Proto, *, by_shape: bool = False) -> set[str]:
    """Return the names of the values of the outer graph that depend on what the samples are.

    Args:
        by_shape: Those that depend on the samples' shape alone are among them.
    """
    varying = {value.name for value in graph_inputs(proto)}
    for node in proto.graph.node:
        if (by_shape or node.op_type not in _SIZES_ONLY) and any(name in varying for name in free_names(node)):
            varying.update(name for name in node.output if name)
    return varying


def shaped_by_values(proto: Proto, varying: set[str]) -> list[Proto]:
    """Return the nodes whose output's shape, or choice of what runs, may depend on what the samples are."""
    found = []
    for node in proto.graph.node:
        if node.op_type in _BY_VALUE:
            decides = bool(node.input) and node.input[0] in varying
        elif bodies(node):
            # What happens inside is not followed.
            decides = any(name in varying for name in free_names(node))
        else:
            places = _SHAPING_INPUTS.get(node.op_type, ())
            decides = any(node.input[place] in varying for place in places if place < len(node.input))
        if decides:
            found.append(node)
    return found


def in_order(proto: Proto) -> None:
    """Put the nodes of a graph into an order in which they can run, where they are not; backends take any order."""
    nodes = list(proto.graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needs = [{makers[name] for name in free_names(node) if name in makers} for node in nodes]
    if all(earlier < place for place, places in enumerate(needs) for earlier in places):
        return
    sorter = graphlib.TopologicalSorter(dict(enumerate(needs)))
    try:
        order = list(sorter.static_order())
    except graphlib.CycleError:
        return  # the backend says so
    copies = [type(nodes[place])() for place in order]
    for copy, place in zip(copies, order, strict=True):
        copy.CopyFrom(nodes[place])
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
