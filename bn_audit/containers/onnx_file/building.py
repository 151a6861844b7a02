"""Records out of the fields of ONNX messages; the tables of fields stand in ``messages``.

Source: onnx/onnx.proto of ONNX 1.23.
"""

from __future__ import annotations

from typing import TypeVar

from bn_audit.containers.onnx_file.records import (
    AttributeRecord,
    AttributeType,
    Dim,
    FunctionRecord,
    GraphRecord,
    ModelRecord,
    NodeRecord,
    RawValue,
    TensorRecord,
    ValueRecord,
)
from bn_audit.containers.protobuf import OVERLONG, Fields, Span, number, numbers, text, texts

MAX_RANK = 64
"""No operator of any framework takes more dimensions."""

KEPT_METADATA = frozenset(("namespace", "pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.name_scopes"))
"""What the exporters of PyTorch write about the module and class behind a node."""

_DATA = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")

_Record = TypeVar("_Record")


def _all(fields: Fields, name: str, kind: type[_Record]) -> tuple[_Record, ...]:
    return tuple(value for value in fields.get(name, ()) if isinstance(value, kind))


def _last(fields: Fields, name: str, kind: type[_Record]) -> _Record | None:
    return next((value for value in reversed(fields.get(name, [])) if isinstance(value, kind)), None)


def build_pair(fields: Fields) -> tuple[str, str]:
    return text(fields, "key"), text(fields, "value")


_KEPT_STARTS = tuple(b"\n" + bytes((len(key),)) + key.encode() for key in sorted(KEPT_METADATA))


def is_needless_entry(data: bytes) -> bool:
    """Return whether a metadata entry is none of those that are kept: stack traces mostly, half of many a file."""
    return data.startswith(b"\n") and not data.startswith(_KEPT_STARTS)


def _mapping(fields: Fields, name: str) -> dict[str, str]:
    return {pair[0]: pair[1] for pair in fields.get(name, ()) if isinstance(pair, tuple)}


def _versions(fields: Fields) -> dict[str, int]:
    pairs = [pair for pair in fields.get("opset_import", ()) if isinstance(pair, tuple)]
    return {"" if domain == "ai.onnx" else domain: version for domain, version in pairs}


def build_operator_set(fields: Fields) -> tuple[str, int]:
    return text(fields, "domain"), number(fields, "version") or 0


def build_tensor(fields: Fields) -> TensorRecord:
    dims = numbers(fields, "dims")
    overlong = fields.get(OVERLONG, [])
    spans = [(name, value) for name in _DATA for value in fields.get(name, ()) if isinstance(value, Span)]
    return TensorRecord(
        name=text(fields, "name"),
        data_type=number(fields, "data_type") or 0,
        dims=None if len(dims) > MAX_RANK or "dims" in overlong else dims,
        data=tuple(spans),
        loose={name: values for name in _DATA if (values := numbers(fields, name))},
        external=_mapping(fields, "external_data"),
        is_external=number(fields, "data_location") == 1,
        is_cut=bool(overlong),
    )


def build_sparse_tensor(fields: Fields) -> TensorRecord:
    values = _last(fields, "values", TensorRecord)
    dims = numbers(fields, "dims")
    return TensorRecord(
        name=values.name if values is not None else "",
        data_type=values.data_type if values is not None else 0,
        dims=None if len(dims) > MAX_RANK else dims,
        loose={},
        external={},
        is_sparse=True,
    )


_VALUES: tuple[tuple[AttributeType, str], ...] = (
    (AttributeType.FLOAT, "f"),
    (AttributeType.INT, "i"),
    (AttributeType.STRING, "s"),
    (AttributeType.TENSOR, "t"),
    (AttributeType.GRAPH, "g"),
    (AttributeType.SPARSE_TENSOR, "sparse_tensor"),
    (AttributeType.FLOATS, "floats"),
    (AttributeType.INTS, "ints"),
    (AttributeType.STRINGS, "strings"),
    (AttributeType.TENSORS, "tensors"),
    (AttributeType.GRAPHS, "graphs"),
)
"""The field that holds the value of each type of attribute; those before FLOATS hold a single one."""

_SINGLE = frozenset(("f", "i", "s", "t", "g", "sparse_tensor"))


def build_attribute(fields: Fields) -> AttributeRecord:
    """Return an attribute by its stated type; without one, by the field that is filled, as the first IR version does.

    A number that is 0 and a text that is empty may be left out of the file.
    """
    stated = number(fields, "type")
    names = [name for kind, name in _VALUES if stated == kind] or [name for _, name in _VALUES if fields.get(name)]
    value: RawValue | tuple[RawValue, ...] = None
    if names and OVERLONG not in fields:
        found: list[RawValue] = [
            item
            for item in fields.get(names[0], ())
            if isinstance(item, int | float | bytes | TensorRecord | GraphRecord)
        ]
        if names[0] in _SINGLE:
            defaults: dict[str, RawValue] = {"f": 0.0, "i": 0}
            value = found[-1] if found else defaults.get(names[0])
        else:
            value = tuple(found)
    return AttributeRecord(name=text(fields, "name"), value=value, reference=text(fields, "ref_attr_name"))


def build_node(fields: Fields) -> NodeRecord:
    metadata = _mapping(fields, "metadata_props")
    domain = text(fields, "domain")
    return NodeRecord(
        name=text(fields, "name"),
        op=text(fields, "op_type"),
        domain="" if domain == "ai.onnx" else domain,
        overload=text(fields, "overload"),
        inputs=texts(fields, "input"),
        outputs=texts(fields, "output"),
        attributes=_all(fields, "attribute", AttributeRecord),
        metadata={key: value for key, value in metadata.items() if key in KEPT_METADATA},
    )


def build_dimension(fields: Fields) -> Dim:
    size = number(fields, "dim_value")
    if size is not None:
        return size if size >= 0 else None
    return text(fields, "dim_param") or None


def build_shape(fields: Fields) -> tuple[Dim, ...]:
    sizes = fields.get("dim", [])
    return tuple(size if isinstance(size, int | str) else None for size in sizes)


def build_tensor_type(fields: Fields) -> tuple[int, tuple[Dim, ...] | None]:
    return number(fields, "elem_type") or 0, _last(fields, "shape", tuple)


def build_value_type(fields: Fields) -> object:
    return _last(fields, "tensor_type", tuple)


def build_value(fields: Fields) -> ValueRecord:
    described = _last(fields, "type", tuple)
    name = text(fields, "name")
    if described is None:
        return ValueRecord(name=name)
    return ValueRecord(name=name, data_type=described[0] or None, shape=described[1])


def build_graph(fields: Fields) -> GraphRecord:
    return GraphRecord(
        name=text(fields, "name"),
        nodes=_all(fields, "node", NodeRecord),
        initializers=(
            *_all(fields, "initializer", TensorRecord),
            *_all(fields, "sparse_initializer", TensorRecord),
        ),
        inputs=_all(fields, "input", ValueRecord),
        outputs=_all(fields, "output", ValueRecord),
        value_info=_all(fields, "value_info", ValueRecord),
    )


def build_function(fields: Fields) -> FunctionRecord:
    domain = text(fields, "domain")
    return FunctionRecord(
        name=text(fields, "name"),
        domain="" if domain == "ai.onnx" else domain,
        overload=text(fields, "overload"),
        inputs=texts(fields, "input"),
        outputs=texts(fields, "output"),
        attributes=texts(fields, "attribute"),
        defaults=_all(fields, "attribute_proto", AttributeRecord),
        nodes=_all(fields, "node", NodeRecord),
        value_info=_all(fields, "value_info", ValueRecord),
        versions=_versions(fields),
    )


def build_model(fields: Fields) -> ModelRecord:
    return ModelRecord(
        ir_version=number(fields, "ir_version") or 0,
        producer=text(fields, "producer_name"),
        producer_version=text(fields, "producer_version"),
        graph=_last(fields, "graph", GraphRecord),
        versions=_versions(fields),
        functions=_all(fields, "functions", FunctionRecord),
        trains=bool(fields.get("training_info")),
    )
