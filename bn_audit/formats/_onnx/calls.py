"""The nodes of a graph with what the audit needs beside each node itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bn_audit.containers.onnx_file.records import TensorRecord
from bn_audit.recognition.onnx_places import Place
from bn_audit.subject.graph import Graph, GraphValue, Node


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """One node, with what the audit needs beside the node itself.

    Attributes:
        version: Of the node's operator set; None where the file states none for its domain.
        bodies: What the node runs, by attribute: the branches of an If, the body of a Loop.
    """

    node: Node
    version: int | None
    place: Place
    bodies: tuple[tuple[str, Body], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """A graph with the calls that its nodes were made from.

    Attributes:
        types: Element type and shape of values, where the file states them.
        records: The tensors that are its constants, as the file describes them.
        free: Values that it takes from outside, with the name of a node that reads each.
    """

    graph: Graph
    calls: tuple[Call, ...]
    types: Mapping[str, GraphValue]
    records: Mapping[str, TensorRecord]
    free: Mapping[str, str]
