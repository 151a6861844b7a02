"""The operators of a model as data, in one shape for ONNX and exported programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bn_audit.subject.tensor import TensorRef

Dim = int | str | None
"""A size: known, symbolic by name, or unknown."""

AttributeValue: TypeAlias = (
    "bool | int | float | str | bytes | TensorRef | Graph | InputRef | tuple[AttributeValue, ...] | None"
)
"""The value of a node's attribute; a list is a tuple."""


@dataclass(frozen=True, slots=True)
class InputRef:
    """An argument of an ATen operator that is one of its node's inputs: a tensor or a computed number."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphValue:
    """An input or output of a graph.

    Attributes:
        dtype: PyTorch's name of the element type; None where not recorded.
        shape: None where not even the rank is recorded.
    """

    name: str
    dtype: str | None = None
    shape: tuple[Dim, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One call of an operator.

    Attributes:
        name: Name of the node, as the file gives it; else ``<op>#<index>``.
        op: Name of the operator within its domain, such as ``BatchNormalization`` or ``aten.view.default``.
        domain: ``""`` for the standard operators of the dialect.
        inputs: Names of values in the order of the operator's schema; ``""`` for an omitted optional one.
        outputs: Likewise.
        attributes: Constant arguments by name; of ATen operators every argument, with an `InputRef`
            for each that is a value, and ``input_dtypes`` where truth values mean something else than numbers.
        path: Module path within the model; ``""`` where the file records none.
    """

    name: str
    op: str
    domain: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The operators of one model or of a body inside it, in an order in which they can run.

    Attributes:
        dialect: ``onnx`` or ``aten``: which operator table applies.
        versions: Version of each operator set by domain (ONNX's opset imports).
        inputs: What the caller gives at each run; weights are no inputs.
        constants: Parameters, buffers and initialisers by value name.
        nodes: In topological order.
        functions: Bodies of the model's own functions by (domain, name).
    """

    dialect: str
    name: str = ""
    versions: Mapping[str, int] = field(default_factory=dict)
    inputs: tuple[GraphValue, ...] = ()
    outputs: tuple[GraphValue, ...] = ()
    constants: Mapping[str, TensorRef] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    functions: Mapping[tuple[str, str], Graph] = field(default_factory=dict)
