"""Random operators of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from bn_audit.runners._onnx.naming import bodies

Proto: TypeAlias = Any
"""A message of the onnx package."""

RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
)
"""Dropout only where it is told to train, which its third input does."""

STANDARD_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc"))
"""Whose operators are known to keep nothing from one run to the next, but for random ones and batch norms."""


def all_nodes(graph: Proto) -> Iterator[Proto]:
    """Yield the nodes of a graph and of the bodies in it."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def random_nodes(graph: Proto) -> list[Proto]:
    """Return the nodes that may draw random numbers."""
    return [node for node in all_nodes(graph) if _draws(node)]


def _draws(node: Proto) -> bool:
    if node.op_type not in RANDOM:
        return False
    return node.op_type != "Dropout" or len(node.input) > 2


def unseed(graph: Proto) -> None:
    """Take away the seeds that nodes state, so that every generator follows the backend's one seed."""
    for node in random_nodes(graph):
        kept = [attribute for attribute in node.attribute if attribute.name != "seed"]
        del node.attribute[:]
        node.attribute.extend(kept)
