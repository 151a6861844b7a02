"""The messages of an ONNX file by field number.

Source: onnx/onnx.proto of ONNX 1.23; field numbers never change between IR versions. Fields that are not listed are
skipped: documentation, annotations, device configurations, training graphs.
"""

from __future__ import annotations

from bn_audit.containers.onnx_file.building import (
    build_attribute,
    build_dimension,
    build_function,
    build_graph,
    build_model,
    build_node,
    build_operator_set,
    build_pair,
    build_shape,
    build_sparse_tensor,
    build_tensor,
    build_tensor_type,
    build_value,
    build_value_type,
    is_needless_entry,
)
from bn_audit.containers.onnx_file.records import ModelRecord
from bn_audit.containers.protobuf import Kind, MessageType, ProtobufReader
from bn_audit.containers.source import Source
from bn_audit.errors import MalformedFileError

_ENTRY = MessageType(name="entry", build=build_pair, fields={1: ("key", Kind.TEXT), 2: ("value", Kind.NOTE)})
_METADATA = MessageType(
    name="metadata entry",
    build=build_pair,
    skips=is_needless_entry,
    fields={1: ("key", Kind.TEXT), 2: ("value", Kind.NOTE)},
)
_DIMENSION = MessageType(
    name="dimension", build=build_dimension, fields={1: ("dim_value", Kind.INTEGER), 2: ("dim_param", Kind.TEXT)}
)
_SHAPE = MessageType(name="shape", build=build_shape, fields={1: ("dim", _DIMENSION)})
_TENSOR_TYPE = MessageType(
    name="tensor type", build=build_tensor_type, fields={1: ("elem_type", Kind.INTEGER), 2: ("shape", _SHAPE)}
)
_TYPE = MessageType(name="type", build=build_value_type, fields={1: ("tensor_type", _TENSOR_TYPE)})
_VALUE = MessageType(name="value", build=build_value, fields={1: ("name", Kind.TEXT), 2: ("type", _TYPE)})
_OPERATOR_SET = MessageType(
    name="operator set", build=build_operator_set, fields={1: ("domain", Kind.TEXT), 2: ("version", Kind.INTEGER)}
)
_TENSOR = MessageType(
    name="tensor",
    build=build_tensor,
    fields={
        1: ("dims", Kind.INTEGER),
        2: ("data_type", Kind.INTEGER),
        4: ("float_data", Kind.SPAN),
        5: ("int32_data", Kind.SPAN),
        7: ("int64_data", Kind.SPAN),
        8: ("name", Kind.TEXT),
        9: ("raw_data", Kind.SPAN),
        10: ("double_data", Kind.SPAN),
        11: ("uint64_data", Kind.SPAN),
        13: ("external_data", _ENTRY),
        14: ("data_location", Kind.INTEGER),
    },
)
_SPARSE_TENSOR = MessageType(
    name="sparse tensor", build=build_sparse_tensor, fields={1: ("values", _TENSOR), 3: ("dims", Kind.INTEGER)}
)
_ATTRIBUTE = MessageType(
    name="attribute",
    build=build_attribute,
    fields={
        1: ("name", Kind.TEXT),
        2: ("f", Kind.FLOAT),
        3: ("i", Kind.INTEGER),
        4: ("s", Kind.BYTES),
        5: ("t", _TENSOR),
        7: ("floats", Kind.FLOAT),
        8: ("ints", Kind.INTEGER),
        9: ("strings", Kind.BYTES),
        10: ("tensors", _TENSOR),
        20: ("type", Kind.INTEGER),
        21: ("ref_attr_name", Kind.TEXT),
        22: ("sparse_tensor", _SPARSE_TENSOR),
    },
)
_NODE = MessageType(
    name="node",
    build=build_node,
    fields={
        1: ("input", Kind.TEXT),
        2: ("output", Kind.TEXT),
        3: ("name", Kind.TEXT),
        4: ("op_type", Kind.TEXT),
        5: ("attribute", _ATTRIBUTE),
        7: ("domain", Kind.TEXT),
        8: ("overload", Kind.TEXT),
        9: ("metadata_props", _METADATA),
    },
)
_GRAPH = MessageType(
    name="graph",
    build=build_graph,
    fields={
        1: ("node", _NODE),
        2: ("name", Kind.TEXT),
        5: ("initializer", _TENSOR),
        11: ("input", _VALUE),
        12: ("output", _VALUE),
        13: ("value_info", _VALUE),
        15: ("sparse_initializer", _SPARSE_TENSOR),
    },
)
_ATTRIBUTE.fields |= {6: ("g", _GRAPH), 11: ("graphs", _GRAPH)}
_FUNCTION = MessageType(
    name="function",
    build=build_function,
    fields={
        1: ("name", Kind.TEXT),
        4: ("input", Kind.TEXT),
        5: ("output", Kind.TEXT),
        6: ("attribute", Kind.TEXT),
        7: ("node", _NODE),
        9: ("opset_import", _OPERATOR_SET),
        10: ("domain", Kind.TEXT),
        11: ("attribute_proto", _ATTRIBUTE),
        12: ("value_info", _VALUE),
        13: ("overload", Kind.TEXT),
    },
)
MODEL = MessageType(
    name="model",
    build=build_model,
    fields={
        1: ("ir_version", Kind.INTEGER),
        2: ("producer_name", Kind.NOTE),
        3: ("producer_version", Kind.NOTE),
        7: ("graph", _GRAPH),
        8: ("opset_import", _OPERATOR_SET),
        20: ("training_info", Kind.SPAN),
        25: ("functions", _FUNCTION),
    },
)


def read_model(source: Source) -> ModelRecord:
    """Return what an ONNX file holds; no tensor's elements are read.

    Raises:
        MalformedFileError: the bytes are no such messages.
        LimitExceededError: it holds more than what is read here.
    """
    model = ProtobufReader(source).message(MODEL, 0, source.size)
    if not isinstance(model, ModelRecord):
        raise MalformedFileError(f"{source.name}: holds no ONNX model")
    return model
