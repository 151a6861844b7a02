"""What an ONNX file holds, as plain values: one class for each message, without a meaning of its own.

Source: onnx/onnx.proto of ONNX 1.23 (IR versions 1 to 14).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from bn_audit.containers.protobuf import Span

Dim = int | str | None
"""A size: known, symbolic by name, or unknown."""


class AttributeType(IntEnum):
    """The discriminator of an attribute; the files of the first IR version leave it out."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorRecord:
    """A tensor without its elements.

    Attributes:
        data_type: The number that ``TensorProto.DataType`` gives it.
        dims: None where the list is longer than any shape.
        data: The fields that hold elements, with their bytes.
        loose: Elements of lists that are not packed, as bits, by field; incomplete where `is_cut`.
        external: Location, offset and length of elements in another file, as texts.
        is_external: The elements lie in another file.
        is_sparse: Only some elements are stored, with their indices.
    """

    name: str = ""
    data_type: int = 0
    dims: tuple[int, ...] | None = ()
    data: tuple[tuple[str, Span], ...] = ()
    loose: Mapping[str, tuple[int, ...]]
    external: Mapping[str, str]
    is_external: bool = False
    is_cut: bool = False
    is_sparse: bool = False


RawValue: TypeAlias = "int | float | bytes | TensorRecord | GraphRecord | None"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttributeRecord:
    """An attribute of a node.

    Attributes:
        value: A tuple for a list; None where it is of no use here or longer than what is kept.
        reference: Name of the attribute of the enclosing function that gives the value; ``""`` for none.
    """

    name: str
    value: RawValue | tuple[RawValue, ...] = None
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NodeRecord:
    """One call of an operator or function.

    Attributes:
        metadata: The entries that exporters write about the module and class that a node came from.
    """

    name: str
    op: str
    domain: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[AttributeRecord, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueRecord:
    """Name and type of a value.

    Attributes:
        data_type: None where it is no tensor.
        shape: None where not even the rank is stated.
    """

    name: str
    data_type: int | None = None
    shape: tuple[Dim, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphRecord:
    """A graph or the body of a control-flow operator, nodes in the order of the file."""

    name: str
    nodes: tuple[NodeRecord, ...]
    initializers: tuple[TensorRecord, ...]
    inputs: tuple[ValueRecord, ...]
    outputs: tuple[ValueRecord, ...]
    value_info: tuple[ValueRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FunctionRecord:
    """A function of the model's own.

    Attributes:
        attributes: Names of its attributes without a default.
        defaults: Its attributes with one.
        versions: Version of each operator set by domain.
    """

    name: str
    domain: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    defaults: tuple[AttributeRecord, ...]
    nodes: tuple[NodeRecord, ...]
    value_info: tuple[ValueRecord, ...]
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelRecord:
    """A whole file.

    Attributes:
        graph: None where the file has none.
        versions: Version of each operator set by domain; the default domain is ``""``.
        trains: It holds training graphs beside the graph for inference.
    """

    ir_version: int
    producer: str
    producer_version: str
    graph: GraphRecord | None
    versions: Mapping[str, int]
    functions: tuple[FunctionRecord, ...]
    trains: bool
