"""Names of nodes and the layers they come from, as the reader of ONNX files gives them."""

from __future__ import annotations

from typing import Any, TypeAlias

from bn_audit.recognition.onnx_places import Place, place_of

Proto: TypeAlias = Any
"""A message of the onnx package."""


def node_names(graph: Proto) -> list[str]:
    """Return the name of every node of a graph: its own, else its operator and place among all nodes."""
    names = []
    count = 0
    for node in graph.node:
        count += 1 + _inside(node)
        names.append(node.name or f"{node.op_type}#{count - 1}")
    return names


def _inside(node: Proto) -> int:
    """Return how many nodes the bodies of a node hold."""
    return sum(1 + _inside(inner) for body in bodies(node) for inner in body.node)


def bodies(node: Proto) -> list[Proto]:
    """Return the graphs in a node's attributes."""
    found = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def place(node: Proto) -> Place:
    """Return where in the exported module a node comes from."""
    return place_of(node.name, {entry.key: entry.value for entry in getattr(node, "metadata_props", ())})
