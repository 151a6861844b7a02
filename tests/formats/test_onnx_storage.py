"""Where the elements of ONNX tensors lie: raw, in lists of numbers, in other files; and how little of them is read."""

from __future__ import annotations

import time
from pathlib import Path

import ml_dtypes
import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_bytes import varint

from bn_audit.audit import read_subject
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import (
    ArtifactError,
    LimitExceededError,
    MalformedFileError,
    MissingTargetError,
    TensorUnavailableError,
)
from bn_audit.formats.onnx import read
from bn_audit.subject.tensor import TensorRef

C = 4
ROLES = ("weight", "bias", "running_mean", "running_var")


def batch_norm_model(tensors: dict[str, onnx.TensorProto]) -> onnx.ModelProto:
    """Return a model with a batch norm over the four tensors, and further initialisers that nothing reads."""
    node = helper.make_node("BatchNormalization", ["x", *(f"bn.{role}" for role in ROLES)], ["y"], name="bn")
    for role in ROLES:
        tensors.setdefault(
            f"bn.{role}", numpy_helper.from_array(numpy.arange(1, C + 1, dtype=numpy.float32), f"bn.{role}")
        )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", C])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        list(tensors.values()),
    )
    return helper.make_model(graph)


def tensor_of(tensor: onnx.TensorProto, directory: Path) -> TensorRef:
    tensor.name = "t"
    path = directory / "model.onnx"
    path.write_bytes(batch_norm_model({"t": tensor}).SerializeToString())
    with read_subject(path) as subject:
        found = {item.name: item for item in subject.models[0].tensors}["t"]
        return found.held()


NUMPY = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "uint16": TensorProto.UINT16,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "complex64": TensorProto.COMPLEX64,
    "complex128": TensorProto.COMPLEX128,
    "bfloat16": TensorProto.BFLOAT16,
    "float8_e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8_e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "float8_e5m2": TensorProto.FLOAT8E5M2,
    "float8_e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
}
"""Every dtype whose elements are read, by ONNX's number."""


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", NUMPY)
def test_every_dtype_in_both_encodings(dtype: str, raw: bool, tmp_path: Path) -> None:
    values = numpy.array([[0, 1, 3], [2, 100, 7]])
    signed = "uint" not in dtype and dtype != "bool"
    array = (values * (-1 if signed else 1)).astype(getattr(ml_dtypes, dtype, dtype))
    tensor = helper.make_tensor("t", NUMPY[dtype], array.shape, array.tobytes() if raw else array.flatten(), raw=raw)
    assert tensor.HasField("raw_data") is raw
    ref = tensor_of(tensor, tmp_path)
    assert (ref.dtype, ref.shape) == (dtype, (2, 3))
    assert ref.load() == array.tobytes()


@pytest.mark.parametrize("data_type", [TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1])
def test_elements_of_half_bytes_are_named_and_not_read(data_type: int, tmp_path: Path) -> None:
    ref = tensor_of(helper.make_tensor("t", data_type, (4,), [1, 2, 3, 4]), tmp_path)
    assert ref.shape == (4,)
    assert ref.dtype in ("int4", "uint4", "float4_e2m1fn")
    with pytest.raises(TensorUnavailableError):
        ref.load()


def test_strings_are_named_and_not_read(tmp_path: Path) -> None:
    ref = tensor_of(helper.make_tensor("t", TensorProto.STRING, (2,), [b"a", b"b"]), tmp_path)
    assert (ref.dtype, ref.shape) == ("string", (2,))
    with pytest.raises(TensorUnavailableError):
        ref.load()


def test_initialiser_without_elements_is_unavailable(tmp_path: Path) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[3])
    ref = tensor_of(tensor, tmp_path)
    with pytest.raises(TensorUnavailableError):
        ref.load()


@pytest.mark.parametrize("dims", [[-1], [1 << 60], [2], [1 << 40, 1 << 40], [1] * 65])
def test_shape_that_the_bytes_do_not_fill_is_an_error(dims: list[int], tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(numpy.zeros(3, numpy.float32), "t")
    del tensor.dims[:]
    tensor.dims.extend(dims)
    with pytest.raises(MalformedFileError):
        tensor_of(tensor, tmp_path)


def externally_stored(directory: Path) -> Path:
    path = directory / "model.onnx"
    tensors = {"big": numpy_helper.from_array(numpy.ones((64, 64), numpy.float32), "big")}
    onnx.save_model(
        batch_norm_model(tensors),
        path,
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    return path


def test_external_data_is_read_where_it_lies(tmp_path: Path) -> None:
    path = externally_stored(tmp_path)
    with read_subject(path) as subject:
        (norm,) = subject.norms
        assert [list(tensor.values()) for tensor in norm.tensors.values()] == [[1.0, 2.0, 3.0, 4.0]] * 4
        big = subject.models[0].tensors[0]
        assert list(big.values()) == [1.0] * 4096


def test_external_data_that_is_missing_leaves_the_graph_readable(tmp_path: Path) -> None:
    path = externally_stored(tmp_path)
    (tmp_path / "model.data").unlink()
    with read_subject(path) as subject:
        (norm,) = subject.norms
        assert norm.uses_batch_statistics is False
        assert norm.running_mean is not None
        with pytest.raises(MissingTargetError):
            norm.running_mean.load()


def with_location(path: Path, name: str, **entries: str) -> Path:
    """Change where the elements of one tensor are said to lie."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            for entry in tensor.external_data:
                entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    return path


ESCAPES = ["../secret", "/etc/passwd", "a/../../secret", "..\\secret"]


@pytest.mark.parametrize("location", ESCAPES)
def test_external_data_outside_the_directory_is_never_opened(location: str, tmp_path: Path) -> None:
    directory = tmp_path / "inside"
    directory.mkdir()
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    path = with_location(externally_stored(directory), "bn.running_mean", location=location)
    with pytest.raises(MalformedFileError, match="outside its own directory"), read_subject(path):
        pass


def test_links_of_a_download_cache_are_followed(tmp_path: Path) -> None:
    path = externally_stored(tmp_path)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for name in ("model.onnx", "model.data"):
        blob = (tmp_path / name).rename(tmp_path / "blobs" / f"{name}.blob")
        (tmp_path / "snapshot" / name).symlink_to(blob)
    with read_subject(tmp_path / "snapshot" / path.name) as subject:
        assert subject.norms[0].running_mean is not None
        assert list(subject.norms[0].running_mean.values()) == [1.0, 2.0, 3.0, 4.0]


def test_external_data_outside_the_directory_is_an_error_when_it_is_needed(tmp_path: Path) -> None:
    path = with_location(externally_stored(tmp_path), "big", location="../secret")
    with read_subject(path) as subject:
        assert subject.norms[0].uses_batch_statistics is False
        with pytest.raises(MalformedFileError, match="outside its own directory"):
            subject.models[0].tensors[0].load()


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "99999999"},
        {"length": "99999999"},
        {"offset": "-4"},
        {"offset": "9" * 5000},
        {"offset": "\u0663"},
        {"location": ""},
        {"location": "a\0b"},
        {"location": "x" * 5000},
    ],
)
def test_external_data_that_cannot_be_is_a_clear_error(entries: dict[str, str], tmp_path: Path) -> None:
    path = with_location(externally_stored(tmp_path), "bn.running_mean", **entries)
    with pytest.raises(MalformedFileError), read_subject(path):
        pass


def test_external_length_that_is_not_the_shapes(tmp_path: Path) -> None:
    path = with_location(externally_stored(tmp_path), "bn.running_mean", length="8")
    with read_subject(path) as subject, pytest.raises(MalformedFileError, match="needs 16 bytes"):
        assert subject.norms[0].running_mean is not None
        subject.norms[0].running_mean.load()


GIB = 1 << 30


def test_three_gibibytes_of_external_data(tmp_path: Path) -> None:
    """The file has holes in it, so that the test needs no such disk."""
    path = externally_stored(tmp_path)
    model = onnx.load(path, load_external_data=False)
    with (tmp_path / "model.data").open("r+b") as stream:
        stream.truncate(3 * GIB)
        stream.seek(3 * GIB - 16)
        stream.write(numpy.array([5, 6, 7, 8], numpy.float32).tobytes())
    for tensor in model.graph.initializer:
        if tensor.name == "big":
            tensor.dims[:] = [2 * GIB // 4]
    path.write_bytes(model.SerializeToString())
    with_location(path, "bn.running_var", offset=str(3 * GIB - 16))
    with_location(path, "big", offset="0", length=str(2 * GIB))
    source = Source(path)
    subject = read(FileTarget(source))
    assert subject.norms[0].running_var is not None
    assert list(subject.norms[0].running_var.values()) == [5.0, 6.0, 7.0, 8.0]
    assert source.bytes_read < path.stat().st_size + 32
    with pytest.raises(LimitExceededError):
        subject.models[0].tensors[0].load()


def with_embedded_weight(path: Path, size: int) -> None:
    """Write a model whose first initialiser has so many bytes, none of which takes room on the disk."""
    rest = batch_norm_model({}).graph.SerializeToString()
    head = TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[size // 4]).SerializeToString() + b"\x4a"
    tensor = head + varint(size)
    graph = b"\x2a" + varint(len(tensor) + size) + tensor
    opset = helper.make_opsetid("", 20).SerializeToString()
    start = b"\x08\x0a" + b"\x42" + varint(len(opset)) + opset
    start += b"\x3a" + varint(len(graph) + size + len(rest)) + graph
    with path.open("wb") as stream:
        stream.write(start)
        stream.seek(len(start) + size)
        stream.write(rest)


@pytest.mark.parametrize("size", [GIB, 3 * GIB])
def test_embedded_weights_are_skipped_not_read(size: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with_embedded_weight(path, size)
    source = Source(path)
    started = time.perf_counter()
    subject = read(FileTarget(source))
    assert time.perf_counter() - started < 1
    assert source.size > size
    assert source.bytes_read < 1 << 16
    (norm,) = subject.norms
    assert norm.running_mean is not None
    assert list(norm.running_mean.values()) == [1.0, 2.0, 3.0, 4.0]


def test_file_cut_off_anywhere_is_a_clear_error(tmp_path: Path) -> None:
    whole = batch_norm_model({}).SerializeToString()
    path = tmp_path / "model.onnx"
    accepted = 0
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            with read_subject(path) as subject:
                accepted += len(subject.norms)
        except ArtifactError as error:
            assert str(path) in str(error)
    # What is cut off behind the graph is the operator sets alone, without which nothing can be judged.
    assert accepted == 0
