"""Whether a file is a protocol-buffer message as ONNX models are, told by its fields.

Source: onnx/onnx.proto of ONNX 1.23, ``ModelProto`` and ``GraphProto``.
"""

from __future__ import annotations

from bn_audit.containers.protobuf import ProtobufReader
from bn_audit.containers.source import Source
from bn_audit.errors import ArtifactError

_VARINT, _BYTES = 0, 2

_MODEL_FIELDS = {
    1: _VARINT,
    2: _BYTES,
    3: _BYTES,
    4: _BYTES,
    5: _VARINT,
    6: _BYTES,
    7: _BYTES,
    8: _BYTES,
    14: _BYTES,
    20: _BYTES,
    25: _BYTES,
    26: _BYTES,
}
_GRAPH, _IR_VERSION = 7, 1
_GRAPH_FIELDS = frozenset((1, 2, 5, 10, 11, 12, 13, 14, 15, 16))

_MAX_IR_VERSION = 1000
"""Above what ONNX will ever count to; the first bytes of other files, read as a number, are mostly larger."""

_MAX_FIELDS = 65536


def is_model(source: Source) -> bool:
    """Return whether every field of the file is one of an ONNX model, with a version and a graph among them.

    A file that ends within its graph counts: it is a damaged model, and no other format begins like one.
    """
    reader = ProtobufReader(source)
    seen: set[int] = set()
    position = 0
    try:
        for _ in range(_MAX_FIELDS):
            if position >= source.size:
                break
            # Up to any end: a field that is cut off is looked at too.
            number, wire, value, after = reader.field(position, 1 << 64)
            if _MODEL_FIELDS.get(number) != wire or (number == _IR_VERSION and not 0 < value < _MAX_IR_VERSION):
                return False
            if number == _GRAPH and not _is_graph(reader, after - value, min(after, source.size)):
                return False
            seen.add(number)
            position = after
    except ArtifactError:
        return {_IR_VERSION, _GRAPH} <= seen
    return {_IR_VERSION, _GRAPH} <= seen


def _is_graph(reader: ProtobufReader, start: int, end: int) -> bool:
    if start >= end:
        return True
    number, wire, _, _ = reader.field(start, 1 << 64)
    return number in _GRAPH_FIELDS and wire == _BYTES
