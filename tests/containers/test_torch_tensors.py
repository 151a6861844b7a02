"""Every tensor that torch can save comes back as torch's own bytes, whatever the encoding."""

import io
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from bn_audit.containers.archive import Archive
from bn_audit.containers.source import Source
from bn_audit.containers.torch_file.reading import StoredTensor, TorchFile, read_torch_file
from bn_audit.errors import LimitExceededError, MalformedFileError, TensorUnavailableError

ENCODINGS = [("zip", 2), ("zip", 3), ("zip", 4), ("zip", 5), ("legacy", 1), ("legacy", 2), ("legacy", 4), ("legacy", 5)]
ENCODINGS += [("pickle", protocol) for protocol in range(6)]

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
]


def write(path: Path, value: object, encoding: str, protocol: int) -> Path:
    if encoding == "pickle":
        path.write_bytes(pickle.dumps(value, protocol=protocol))
    else:
        torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=encoding == "zip")
    return path


def read(path: Path) -> TorchFile:
    source = Source(path)
    archive = Archive(source) if source.head(2) == b"PK" else None
    return read_torch_file(source, archive)


def only(path: Path, value: object, encoding: str = "zip", protocol: int = 2) -> StoredTensor:
    file = read(write(path, {"value": value}, encoding, protocol))
    assert file.encoding == encoding
    tensor = file.tensor(file.root["value"], "value")
    assert tensor is not None
    return tensor


def torch_bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).tolist())


def random_tensor(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    size = dtype.itemsize
    count = int(np.prod(shape, dtype=np.int64))
    raw = torch.randint(0, 256, (count * size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    raw = raw % 2 if dtype is torch.bool else raw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex32 is experimental
        return raw.view(dtype).reshape(shape)


@pytest.mark.parametrize(("encoding", "protocol"), ENCODINGS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype(tmp_path: Path, dtype: torch.dtype, encoding: str, protocol: int) -> None:
    value = random_tensor(dtype, 3, 4)
    tensor = only(tmp_path / "x", value, encoding, protocol)
    assert f"torch.{tensor.dtype}" == str(dtype)
    assert tensor.shape == (3, 4)
    assert tensor.layout == "strided"
    assert tensor.requires_grad is False
    assert tensor.load() == torch_bytes(value)


def views() -> dict[str, torch.Tensor]:
    whole = torch.arange(120, dtype=torch.float32).reshape(2, 3, 4, 5)
    return {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0),
        "empty-dimension": torch.empty(3, 0, 2),
        "transposed": whole.transpose(0, 3),
        "permuted": whole.permute(2, 0, 3, 1),
        "channels-last": whole.contiguous(memory_format=torch.channels_last),
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 5),
        "expanded-scalar": torch.tensor(7.0).expand(3, 2),
        "sliced": whole[1, :, 1:3, ::2],
        "row": whole[1, 2],
        "element": whole[1, 2, 3, 4],
        "windows": torch.arange(10.0).unfold(0, 4, 2),
        "one-sized-dimensions": whole[:1, :, :1].transpose(0, 1),
        "diagonal": torch.arange(16.0).reshape(4, 4).diagonal(),
        "large": torch.arange(100_000, dtype=torch.float32),
        "large-transposed": torch.arange(60_000, dtype=torch.int16).reshape(200, 300).t(),
    }


@pytest.mark.parametrize(("encoding", "protocol"), ENCODINGS)
def test_views(tmp_path: Path, encoding: str, protocol: int) -> None:
    expected = views()
    file = read(write(tmp_path / "x", expected, encoding, protocol))
    for name, value in expected.items():
        tensor = file.tensor(file.root[name], name)
        assert tensor is not None
        assert tensor.shape == tuple(value.shape), name
        assert tensor.load() == torch_bytes(value), name


@pytest.mark.parametrize(("encoding", "protocol"), ENCODINGS)
def test_shared_storages_are_recognised(tmp_path: Path, encoding: str, protocol: int) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    values = {"a": weight, "same": weight, "view": weight.data.view(16), "row": weight.data[1], "other": torch.ones(4)}
    file = read(write(tmp_path / "x", values, encoding, protocol))
    found = {name: file.tensor(value, name) for name, value in file.root.items()}
    storages = {name: tensor.storage for name, tensor in found.items() if tensor}
    assert storages["a"] == storages["same"]
    assert storages["row"] != storages["a"] != storages["other"]
    assert found["same"].is_parameter and not found["view"].is_parameter
    assert found["row"].load() == torch_bytes(weight[1])
    if encoding != "pickle":  # pickle.dump copies the storage of each tensor object
        assert storages["a"] == storages["view"]


@pytest.mark.parametrize(("encoding", "protocol"), ENCODINGS)
def test_parameters_and_subclasses(tmp_path: Path, encoding: str, protocol: int) -> None:
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    marked = torch.nn.Parameter(torch.ones(3))
    marked.note = "kept"
    attributed = torch.ones(4)
    attributed.tag = 1
    buffer = torch.nn.Buffer(torch.ones(5))
    values = {"frozen": frozen, "marked": marked, "attributed": attributed, "buffer": buffer, "text": "no tensor"}
    file = read(write(tmp_path / "x", values, encoding, protocol))
    found = {name: file.tensor(value, name) for name, value in file.root.items()}
    assert found["text"] is None
    flags = {name: (tensor.is_parameter, tensor.requires_grad) for name, tensor in found.items() if tensor}
    assert flags == {
        "frozen": (True, False),
        "marked": (True, True),
        "attributed": (False, False),
        "buffer": (False, False),
    }
    for name, tensor in found.items():
        if tensor:
            assert tensor.load() == torch_bytes(values[name])
            assert tensor.ref("n").values().tolist() == [1.0] * tensor.shape[0]


def test_negated_and_conjugated_views(tmp_path: Path) -> None:
    value = torch.view_as_complex(torch.randn(5, 2, generator=torch.Generator().manual_seed(1)))
    conjugated, negated, wide = value.conj(), value.conj().imag, value.to(torch.complex128).conj()
    assert conjugated.is_conj() and negated.is_neg() and wide.is_conj()
    for index, view in enumerate((conjugated, negated, wide)):
        assert only(tmp_path / str(index), view).load() == torch_bytes(view)


def test_tensors_without_values(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_tensor(torch.ones(4), 0.1, 2, torch.qint8)
        channels = torch.quantize_per_channel(
            torch.ones(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, torch.quint8
        )
        values = {
            "meta": torch.empty(2, 3, device="meta", dtype=torch.float16),
            "sparse": torch.eye(3).to_sparse(),
            "rows": torch.eye(3, dtype=torch.float64).to_sparse_csr(),
            "quantised": quantised,
            "channels": channels,
            "parameter": torch.nn.UninitializedParameter(),
            "buffer": torch.nn.UninitializedBuffer(),
            "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        }
        file = read(write(tmp_path / "x", values, "zip", 2))
    found = {name: file.tensor(value, name) for name, value in file.root.items()}
    described = {name: (tensor.layout, tensor.dtype, tensor.shape) for name, tensor in found.items() if tensor}
    assert described == {
        "meta": ("meta", "float16", (2, 3)),
        "sparse": ("sparse", "float32", (3, 3)),
        "rows": ("sparse", "float64", (3, 3)),
        "quantised": ("quantised", "qint8", (4,)),
        "channels": ("quantised", "quint8", (2, 3)),
        "parameter": ("uninitialised", "unknown", ()),
        "buffer": ("uninitialised", "unknown", ()),
        "nested": ("nested", "float32", ()),
    }
    assert found["parameter"].is_parameter and not found["buffer"].is_parameter
    for name, tensor in found.items():
        with pytest.raises(TensorUnavailableError, match=name):
            tensor.load()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "code", ["f2", "f4", ">f4", "f8", "i1", "<i2", ">i4", "i8", "u1", "u2", ">u8", "b1", "c8", ">c16"]
)
def test_numpy_arrays(tmp_path: Path, code: str, protocol: int) -> None:
    raw = np.random.default_rng(1).integers(0, 2 if code == "b1" else 256, 24 * np.dtype(code).itemsize, dtype="u1")
    flat = raw.view(code)
    values = {
        "plain": flat.reshape(2, 3, 4),
        "fortran": np.asfortranarray(flat.reshape(2, 3, 4)),
        "sliced": flat[::2],
        "zero-d": np.array(flat[3]),
        "scalar": flat[5],
        "empty": flat[:0].reshape(0, 4),
    }
    file = read(write(tmp_path / "x", values, "pickle", protocol))
    for name, value in values.items():
        tensor = file.tensor(file.root[name], name)
        assert tensor is not None, name
        assert tensor.shape == np.shape(value)
        assert tensor.load() == np.asarray(value).astype(np.dtype(code).newbyteorder("<")).tobytes("C"), name


def test_numpy_arrays_without_numbers_are_no_tensors(tmp_path: Path) -> None:
    values = [np.array(["text"]), np.array([None]), np.zeros(2, "f4,i4"), np.datetime64("2020-01-01")]
    file = read(write(tmp_path / "x", values, "pickle", 2))
    assert [file.tensor(value, "x") for value in file.root] == [None] * 4


def test_other_values_are_no_tensors(tmp_path: Path) -> None:
    values = [1, 1.5, "text", None, (1, 2), torch.float32, torch.device("cpu"), torch.Size([2]), OrderedDict(a=1), len]
    file = read(write(tmp_path / "x", values, "zip", 2))
    assert [file.tensor(value, "x") for value in file.root] == [None] * len(values)


def test_storages_are_no_tensors_and_tensors_over_untyped_storages_load(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = torch.arange(6.0)
        file = read(write(tmp_path / "x", [value, value.untyped_storage(), value.storage()], "pickle", 2))
    assert file.tensor(file.root[0], "x").load() == torch_bytes(value)
    assert file.tensor(file.root[1], "x") is None


def test_only_the_bytes_of_a_loaded_tensor_are_read(tmp_path: Path) -> None:
    values = {f"conv{index}": torch.zeros(300_000) for index in range(4)} | {"mean": torch.ones(8)}
    for encoding in ("zip", "legacy", "pickle"):
        path = write(tmp_path / encoding, values, encoding, 2 if encoding != "pickle" else 4)
        with Source(path) as source:
            file = read_torch_file(source, Archive(source) if encoding == "zip" else None)
            assert file.tensor(file.root["mean"], "mean").load() == torch_bytes(values["mean"])
            assert source.bytes_read < 2_000_000 < path.stat().st_size


def test_a_tensor_beyond_the_cap_is_described_but_not_loaded(tmp_path: Path) -> None:
    tensor = only(tmp_path / "x", torch.tensor(1.0).expand(1 << 14, 1 << 12))
    assert tensor.shape == (1 << 14, 1 << 12)
    with pytest.raises(LimitExceededError, match="value: the tensor has 268435456 bytes"):
        tensor.load()


def test_protocol_0_loses_the_tensors_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "x", torch.ones(2), "zip", 0)
    file = read(path)
    with pytest.raises(MalformedFileError, match="protocol 0"):
        file.tensor(file.root, "x")


def test_a_module_pickled_alone(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    for protocol in range(6):
        file = read(write(tmp_path / f"x{protocol}", model, "pickle", protocol))
        norm = file.root.state["_modules"]["1"]
        assert norm.type_name == "torch.nn.modules.batchnorm.BatchNorm2d"
        assert norm.state["eps"] == 1e-5
        assert norm.state["training"] is True
        mean = file.tensor(norm.state["_buffers"]["running_var"], "running_var")
        assert mean.load() == torch_bytes(model[1].running_var)
        assert file.tensor(norm.state["_parameters"]["weight"], "weight").is_parameter


def test_a_module_saved_with_its_source_code(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(torch.nn.BatchNorm1d(3).eval(), stream, _use_new_zipfile_serialization=False)
    (tmp_path / "x").write_bytes(stream.getvalue())
    file = read(tmp_path / "x")
    assert b"class BatchNorm1d" in stream.getvalue()
    assert file.root.type_name == "torch.nn.modules.batchnorm.BatchNorm1d"
    assert file.root.state["training"] is False
