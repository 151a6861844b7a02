"""ONNX models taken apart for running: the graph as a message, its large weights as arrays that sessions share.

A variant of the graph (other outputs, other modes) is then a small message, and weights in other files are mapped and
never copied, so that a model of any size can be rewritten in memory.

Source: onnx/docs/ExternalData.md of ONNX 1.23; onnxruntime 1.31 ``SessionOptions.add_external_initializers``.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bn_audit.containers.onnx_file.tensors import DTYPES
from bn_audit.containers.source import Source
from bn_audit.errors import MalformedFileError, NoModelError, RunError, UnsupportedRunError
from bn_audit.runners._onnx.batch_norms import STATISTICS, batch_norm_nodes, makers_of, stored_origin
from bn_audit.runners._onnx.dependence import in_order
from bn_audit.subject.run import Array
from bn_audit.subject.tensor import ITEM_SIZES

Proto: TypeAlias = Any
"""A message of the onnx package."""

SHARED_BYTES = 1 << 14
"""Smaller tensors stay in the message: they are shapes and settings, which the backend wants to see."""

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""The largest message that protobuf reads; larger models keep their weights in other files."""

NUMPY_TYPES = {
    "float32": "<f4",
    "float64": "<f8",
    "float16": "<f2",
    "int8": "i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "bool": "?",
    "bfloat16": "<u2",
    "float8_e4m3fn": "u1",
    "float8_e4m3fnuz": "u1",
    "float8_e5m2": "u1",
    "float8_e5m2fnuz": "u1",
}
"""How elements lie in memory, by PyTorch's name of their type; types that numpy lacks as their bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model ready to be given to a backend.

    Attributes:
        name: Of its file.
        proto: The message, without the elements of `weights`.
        weights: Elements by initialiser name, of those that are marked as external data; read-only.
        folder: Where other files lie that the message still names; None where it names none.
    """

    name: str
    proto: Proto
    weights: Mapping[str, Array]
    folder: Path | None = None

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return opset_of(self.proto)

    def edited(self) -> Model:
        """Return a model with a message of its own, which may be changed; the weights are the same ones."""
        return replace(self, proto=copied(self.proto))


def copied(message: Proto) -> Proto:
    """Return a message of its own with the same content."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def opset_of(proto: Proto) -> int:
    """Return the version of ONNX's own operators that a model states."""
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def load(path: str) -> Model:
    """Return the model of a file.

    Raises:
        RunError: it is too large for one message, or the onnx package cannot parse it.
        MalformedFileError: its external data lies outside its folder or behind a file's end.
    """
    import onnx
    import onnx.inliner
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    with Source(Path(path), Path(path).name) as source:
        if source.size > MAX_MESSAGE_BYTES:
            raise RunError(f"{source.name}: {source.size} bytes in one message, more than protobuf reads: not run")
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(source.read(0, source.size))
        except DecodeError as error:
            raise MalformedFileError(f"{source.name}: is no ONNX message ({error}): export the model again") from error
        if not proto.HasField("graph"):
            raise NoModelError(f"{source.name}: holds no graph")
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        in_order(proto)
        weights, rest = _take_weights(source, proto)
    return Model(name=source.name, proto=proto, weights=weights, folder=Path(path).absolute().parent if rest else None)


def _take_weights(source: Source, proto: Proto) -> tuple[dict[str, Array], bool]:
    """Move large weights out of the message; return them, and whether other tensors name files beside the model."""
    makers, stored = makers_of(proto), {tensor.name for tensor in proto.graph.initializer}
    used = [name for node in batch_norm_nodes(proto) for name in node.input[STATISTICS]]
    overwritten = {stored_origin(makers, stored, name) for name in used}
    weights: dict[str, Array] = {}
    named_files = False
    for tensor in proto.graph.initializer:
        array = None if tensor.name in overwritten else _shareable(source, tensor)
        if array is not None:
            weights[tensor.name] = array
            _mark(tensor)
        elif is_external(tensor):
            _pull_in(source, tensor)
    for tensor in _other_tensors(proto.graph):
        if is_external(tensor):
            _location(source, tensor)
            named_files = True
    return weights, named_files


def is_external(tensor: Proto) -> bool:
    """Return whether a tensor's elements lie in another file."""
    return bool(tensor.data_location == 1)


def _mark(tensor: Proto) -> None:
    """Make a tensor one whose elements the session is given beside the message."""
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    del tensor.external_data[:]
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "given"


def _wanted_bytes(tensor: Proto) -> int:
    return int(math.prod(tensor.dims)) * ITEM_SIZES.get(DTYPES.get(tensor.data_type, ""), 0)


def _shareable(source: Source, tensor: Proto) -> Array | None:
    """Return a large tensor's elements as they lie in the file; None for those that stay in the message."""
    kind = NUMPY_TYPES.get(DTYPES.get(tensor.data_type, ""))
    wanted = _wanted_bytes(tensor)
    if kind is None or wanted < SHARED_BYTES:
        return None
    if is_external(tensor):
        sibling, offset = _location(source, tensor)
        with sibling.path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, kind, math.prod(tensor.dims), offset).reshape(tuple(tensor.dims))
    data = tensor.raw_data
    if len(data) != wanted:
        return None
    return np.frombuffer(data, kind).reshape(tuple(tensor.dims))


def _location(source: Source, tensor: Proto) -> tuple[Source, int]:
    """Return the file and the offset of a tensor's elements.

    Raises:
        MalformedFileError: they lie outside the model's folder or behind the file's end.
    """
    stated = {entry.key: entry.value for entry in tensor.external_data}
    what = f"{source.name}: tensor {tensor.name!r}"
    digits = {key: stated.get(key) or "0" for key in ("offset", "length")}
    if any(not (value.isascii() and value.isdigit() and len(value) < 20) for value in digits.values()):
        raise MalformedFileError(f"{what}: its external data states no position: export the model again")
    sibling = source.sibling(stated.get("location", ""))
    offset, length = int(digits["offset"]), int(digits["length"]) or _wanted_bytes(tensor)
    if offset + max(length, _wanted_bytes(tensor)) > sibling.size:
        raise MalformedFileError(
            f"{what}: its bytes {offset} to {offset + length} lie outside {sibling.name}, which has {sibling.size}: "
            "copy both files again"
        )
    return sibling, offset


def _pull_in(source: Source, tensor: Proto) -> None:
    """Put the elements of a small external tensor, or one of a rare type, into the message."""
    sibling, offset = _location(source, tensor)
    stated = {entry.key: entry.value for entry in tensor.external_data}
    length = int(stated.get("length") or 0) or _wanted_bytes(tensor)
    if not length or length > MAX_MESSAGE_BYTES // 2:
        kind = DTYPES.get(tensor.data_type, str(tensor.data_type))
        raise UnsupportedRunError(f"{source.name}: tensor {tensor.name!r}: external data of type {kind} is not run")
    tensor.raw_data = sibling.read(offset, length)
    tensor.data_location = 0
    del tensor.external_data[:]


def _other_tensors(graph: Proto) -> Iterator[Proto]:
    """Yield the tensors in attributes and in bodies of a graph, and its sparse ones."""
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            bodies = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for body in bodies:
                yield from body.initializer
                yield from _other_tensors(body)
