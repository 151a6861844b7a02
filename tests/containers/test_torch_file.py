"""Encodings, byte orders, old layouts and the recognition of PyTorch files."""

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from walk_values import open_torch_file, walk

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.containers.torch_file.legacy import MAGIC_NUMBER
from bn_audit.containers.torch_file.reading import TorchFile, looks_like_torch_file, read_torch_archive
from bn_audit.errors import LimitExceededError, MalformedFileError

FLOATS = np.arange(6, dtype="<f4")


def opened(path: Path) -> TorchFile:
    return open_torch_file(Source(path))


def saved(path: Path, value: object, **options: object) -> Path:
    torch.save(value, path, **options)
    return path


def rewritten(path: Path, changes: dict[str, bytes | None], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Pack an archive anew with some members changed or left out, named by their ends."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(members)).partition("/")[0]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in (members | {f"{root}/{end}": data for end, data in changes.items()}).items():
            if content is not None:
                archive.writestr(name, content)
    return path


@pytest.mark.parametrize("root", ["archive", "a name", "ü"])
def test_the_root_of_an_archive_has_any_name(tmp_path: Path, root: str) -> None:
    path = saved(tmp_path / f"{root}.pt", {"w": torch.ones(2)})
    assert opened(path).root["w"]
    assert looks_like_torch_file(FileTarget(Source(path)))


def test_members_beside_the_root_do_not_matter(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(2)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/x", b"")
    assert walk(opened(path)) == (1, 0)


def test_big_endian_archives(tmp_path: Path) -> None:
    values = {
        "f": torch.tensor([1.5, -2.0]),
        "i": torch.tensor([1, 2]),
        "b": torch.tensor([True]),
        "c": torch.tensor([1 + 2j]),
    }
    path = saved(tmp_path / "x.pt", values)
    with zipfile.ZipFile(path) as archive:
        raw = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name}
    sizes = {"0": 4, "1": 8, "2": 1, "3": 4}
    swapped = {
        f"data/{key}": b"".join(data[at : at + sizes[key]][::-1] for at in range(0, len(data), sizes[key]))
        for key, data in raw.items()
    }
    file = opened(rewritten(path, {**swapped, "byteorder": b"big"}))
    assert file.big_endian
    for name, value in values.items():
        assert file.tensor(file.root[name], name).load() == value.numpy().tobytes()
    with pytest.raises(MalformedFileError, match="neither little nor big"):
        opened(rewritten(path, {"byteorder": b"middle"}))
    assert not opened(rewritten(path, {"byteorder": None})).big_endian


def test_compressed_pickles_are_read_and_compressed_tensors_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(200)})
    file = opened(rewritten(path, {}, compression=zipfile.ZIP_DEFLATED))
    tensor = file.tensor(file.root["w"], "w")
    assert tensor.shape == (200,)
    with pytest.raises(MalformedFileError, match="is compressed"):
        tensor.load()


def test_a_pickle_that_inflates_hugely(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(2)})
    bomb = pickle.dumps({"a": b"\0" * (100 << 20)})
    with pytest.raises(LimitExceededError, match=r"data\.pkl' has 104857\d+ bytes"):
        opened(rewritten(path, {"data.pkl": bomb}, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("content", [None, b"\0" * 7])
def test_missing_and_short_storages(tmp_path: Path, content: bytes | None) -> None:
    file = opened(rewritten(saved(tmp_path / "x.pt", {"w": torch.ones(2)}), {"data/0": content}))
    with pytest.raises(MalformedFileError, match=r"w: .* no member x/data/0 of 8 bytes"):
        file.tensor(file.root["w"], "w")


def test_other_pickles_of_an_archive(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.trace(torch.nn.Conv2d(1, 2, 1), torch.ones(1, 1, 2, 2))
        torch.jit.save(model, tmp_path / "x.pt")
    target = FileTarget(Source(tmp_path / "x.pt"))
    assert not looks_like_torch_file(target)
    file = read_torch_archive(target.source, target.archive)
    assert file.tensor(file.root.state["weight"], "w").load() == model.weight.detach().numpy().tobytes()
    constants = read_torch_archive(target.source, target.archive, pickle="constants.pkl", tensors="constants/")
    assert constants.root == ()


def test_storages_of_a_gpu_and_of_old_names(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(2)})
    with zipfile.ZipFile(path) as archive:
        data = archive.read("x/data.pkl")
    data = data.replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n")
    data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert b"cuda:0" in data
    file = opened(rewritten(path, {"data.pkl": data}))
    assert file.tensor(file.root["w"], "w").load() == torch.ones(2).numpy().tobytes()
    unknown = data.replace(b"FloatStorage", b"ThornStorage")
    file = opened(rewritten(path, {"data.pkl": unknown}))
    with pytest.raises(MalformedFileError, match=r"unknown type torch\.cuda\.ThornStorage"):
        file.tensor(file.root["w"], "w")


class Storage:
    """Stands for a storage in a pickle that is written here."""

    def __init__(self, *identity: object) -> None:
        self.identity = identity


class Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return value.identity if isinstance(value, Storage) else None


def tensor_of(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> object:
    class Tensor:
        def __reduce__(self) -> tuple[object, ...]:
            return torch._utils._rebuild_tensor, (storage, offset, shape, strides)

    return Tensor()


def legacy(path: Path, value: object, keys: list[object], storages: list[bytes], *, little: bool = True) -> Path:
    """Write the encoding before torch 1.6, as those versions did."""
    stream = io.BytesIO()
    for head in (MAGIC_NUMBER, 1001, {"little_endian": little, "protocol_version": 1001, "type_sizes": {}}):
        pickle.dump(head, stream, protocol=2)
    Pickler(stream, protocol=2).dump(value)
    pickle.dump(keys, stream, protocol=2)
    path.write_bytes(stream.getvalue() + b"".join(storages))
    return path


def raw_storage(count: int, data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}q", count) + data


def test_legacy_storages_that_are_parts_of_others(tmp_path: Path) -> None:
    part = Storage("storage", torch.FloatStorage, "9", "cpu", 6, ("10", 2, 3))
    value = {"part": tensor_of(part, 1, (2,), (1,))}
    file = opened(legacy(tmp_path / "x.pt", value, ["9"], [raw_storage(6, FLOATS.tobytes())]))
    assert file.encoding == "legacy"
    assert file.tensor(file.root["part"], "part").load() == FLOATS[3:5].tobytes()
    outside = Storage("storage", torch.FloatStorage, "9", "cpu", 6, ("10", 4, 3))
    file = opened(legacy(tmp_path / "y.pt", [tensor_of(outside, 0, (1,), (1,))], ["9"], [raw_storage(6, bytes(24))]))
    with pytest.raises(MalformedFileError, match="outside the one"):
        file.tensor(file.root[0], "x")


@pytest.mark.parametrize("order", ["<", ">"])
def test_legacy_files_of_big_endian_machines_hold_little_endian_data(tmp_path: Path, order: str) -> None:
    storage = Storage("storage", torch.FloatStorage, "1", "cpu", 6, None)
    value = tensor_of(storage, 0, (6,), (1,))
    path = legacy(tmp_path / "x.pt", value, ["1"], [raw_storage(6, FLOATS.tobytes(), order)], little=False)
    file = opened(path)
    assert file.tensor(file.root, "x").load() == FLOATS.tobytes()


def test_legacy_offsets_depend_on_the_element_sizes(tmp_path: Path) -> None:
    kinds = [torch.ByteStorage, torch.DoubleStorage, torch.HalfStorage, torch.FloatStorage]
    value, keys, raw = [], [], []
    for index, (kind, dtype) in enumerate(zip(kinds, ["u1", "f8", "f2", "f4"], strict=True)):
        data = (np.arange(5) + index).astype(dtype)
        value.append(tensor_of(Storage("storage", kind, f"{index}", "cpu", 5, None), 0, (5,), (1,)))
        keys.append(f"{index}")
        raw.append(raw_storage(5, data.tobytes()))
    file = opened(legacy(tmp_path / "x.pt", value, keys, raw))
    for index, dtype in enumerate(["u1", "f8", "f2", "f4"]):
        assert file.tensor(file.root[index], "x").load() == (np.arange(5) + index).astype(dtype).tobytes()


def test_legacy_files_beyond_four_gibibytes(tmp_path: Path) -> None:
    huge = Storage("storage", torch.ByteStorage, "1", "cpu", 5 << 30, None)
    small = Storage("storage", torch.FloatStorage, "2", "cpu", 6, None)
    value = [tensor_of(small, 0, (6,), (1,)), tensor_of(huge, (5 << 30) - 2, (2,), (1,))]
    path = legacy(tmp_path / "x.pt", value, ["1", "2"], [raw_storage(5 << 30, b"")])
    try:
        with path.open("r+b") as stream:
            stream.seek(5 << 30, io.SEEK_END)
            stream.seek(-2, io.SEEK_CUR)
            stream.write(b"\x07\x08" + raw_storage(6, FLOATS.tobytes()))
    except OSError as error:
        pytest.skip(f"no sparse files here: {error}")
    with Source(path) as source:
        file = open_torch_file(source)
        assert file.tensor(file.root[0], "x").load() == FLOATS.tobytes()
        assert file.tensor(file.root[1], "x").load() == b"\x07\x08"
        assert source.bytes_read < 1 << 20
    path.unlink()


def test_legacy_files_that_contradict_themselves(tmp_path: Path) -> None:
    storage = Storage("storage", torch.FloatStorage, "1", "cpu", 6, None)
    value = tensor_of(storage, 0, (6,), (1,))
    raw = raw_storage(6, FLOATS.tobytes())
    file = opened(legacy(tmp_path / "a", value, ["1"], [raw_storage(5, FLOATS.tobytes())]))
    with pytest.raises(MalformedFileError, match="has 5 elements in one place and 6 in another"):
        file.tensor(file.root, "x").load()
    with pytest.raises(MalformedFileError, match="nothing refers to"):
        opened(legacy(tmp_path / "b", value, ["1", "2"], [raw]))
    with pytest.raises(MalformedFileError, match="no list"):
        opened(legacy(tmp_path / "c", value, {"1": 1}, [raw]))
    with pytest.raises(MalformedFileError, match="truncated: its storages end at byte"):
        opened(legacy(tmp_path / "d", value, ["1"], [raw[:-1]]))
    file = opened(legacy(tmp_path / "e", value, [], []))
    with pytest.raises(MalformedFileError, match="storage 1 is not in the file"):
        file.tensor(file.root, "x")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (-1, (1,), (1,)),
        (0, (2, 2), (5, 2)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (1 << 62, (1,), (1,)),
        (0, (1 << 61, 1 << 61), (1, 1)),
        (0, (1,) * 65, (1,) * 65),
        (0, (True,), (1,)),
        (0, ("2",), (1,)),
        (0.0, (2,), (1,)),
        (0, [[]], [1]),
        (0, None, (1,)),
        (0, (1 << 63,), (0,)),
    ],
)
def test_tensors_outside_their_storage_are_refused(
    tmp_path: Path, offset: object, shape: object, strides: object
) -> None:
    storage = Storage("storage", torch.FloatStorage, "1", "cpu", 6, None)
    path = legacy(tmp_path / "x", tensor_of(storage, offset, shape, strides), ["1"], [raw_storage(6, bytes(24))])
    file = opened(path)
    with pytest.raises(MalformedFileError, match=r"^a tensor: "):
        file.tensor(file.root, "a tensor")


def test_a_small_storage_seen_as_a_huge_tensor_is_not_loaded(tmp_path: Path) -> None:
    storage = Storage("storage", torch.FloatStorage, "1", "cpu", 6, None)
    for shape in ((1 << 40,), (1 << 30, 1 << 30, 4), (0, 1 << 61)):
        value = tensor_of(storage, 0, shape, (0,) * len(shape))
        file = opened(legacy(tmp_path / "x", value, ["1"], [raw_storage(6, bytes(24))]))
        tensor = file.tensor(file.root, "x")
        if 0 in shape:
            assert tensor.load() == b""
        else:
            with pytest.raises(LimitExceededError):
                tensor.load()


def test_parameters_of_torch_0_3(tmp_path: Path) -> None:
    storage = Storage("storage", torch.FloatStorage, "1", "cpu", 6, None)
    tensor = tensor_of(storage, 0, (6,), (1,))

    class Old:
        def __reduce__(self) -> tuple[object, ...]:
            return torch.nn.Parameter, (tensor,), (False, False, OrderedDict())

    file = opened(legacy(tmp_path / "x", Old(), ["1"], [raw_storage(6, FLOATS.tobytes())]))
    found = file.tensor(file.root, "x")
    assert (found.is_parameter, found.requires_grad, found.load()) == (True, False, FLOATS.tobytes())


def test_wrapped_for_ever(tmp_path: Path) -> None:
    data = b"ctorch._utils\n_rebuild_parameter\nq\x000N" + b"q\x010h\x00h\x01\x88N\x87R" * 1000 + b"."
    path = tmp_path / "x"
    path.write_bytes(b"\x80\x02" + data)
    file = opened(path)
    with pytest.raises(MalformedFileError, match="wrapped more than 8 times"):
        file.tensor(file.root, "x")


def test_storages_nested_in_a_pickle(tmp_path: Path) -> None:
    def nested(content: object) -> bytes:
        class Load:
            def __reduce__(self) -> tuple[object, ...]:
                return torch.storage._load_from_bytes, (content,)

        return pickle.dumps(tensor_of(Load(), 0, (6,), (1,)), protocol=4)

    storage = Storage("storage", torch.FloatStorage, "1", "cpu", 6, None)
    inner = legacy(tmp_path / "inner", storage, ["1"], [raw_storage(6, FLOATS.tobytes())]).read_bytes()
    (tmp_path / "x").write_bytes(nested(inner))
    file = opened(tmp_path / "x")
    assert (file.encoding, file.tensor(file.root, "x").load()) == ("pickle", FLOATS.tobytes())
    archive = saved(tmp_path / "z", torch.ones(1)).read_bytes()
    for content in (b"", b"text", inner[:50], inner[:-1], archive, "text", 7, None, [inner]):
        (tmp_path / "x").write_bytes(nested(content))
        file = opened(tmp_path / "x")
        with pytest.raises(MalformedFileError):
            file.tensor(file.root, "x")


TEXTS = [
    b"", b"c", b"(", b"(dp", b"class Foo:\n    pass\n", b"collections of things\n", b"common\nwords\nhere\n",
    b"(lp solver)", b"(draft)\n", b"{}", b"[]", b"}", b"]q", b"cos", b"config\nfile = 1\n", b"\x80", b"\x80\x01x",
    b"\x80\x06c", b"\x80\x02\xff", b"\x00" * 100, b"PK", b"%PDF", b"ID3", b"I\n", b"L12L\n.", b"N.",
]  # fmt: skip


@pytest.mark.parametrize("content", TEXTS)
def test_other_files_do_not_look_like_torch_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    assert not looks_like_torch_file(FileTarget(Source(tmp_path / "x.pt")))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_and_legacy_files_look_like_torch_files(tmp_path: Path, protocol: int) -> None:
    values = [{"w": torch.ones(1)}, OrderedDict(w=torch.ones(1)), [1, 2], torch.nn.Linear(1, 1), torch.ones(2)]
    for value in values:
        (tmp_path / "x.bin").write_bytes(pickle.dumps(value, protocol=protocol))
        assert looks_like_torch_file(FileTarget(Source(tmp_path / "x.bin"))), (value, protocol)
        if protocol:
            saved(tmp_path / "y.txt", value, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
            assert looks_like_torch_file(FileTarget(Source(tmp_path / "y.txt")))
            assert opened(tmp_path / "y.txt").encoding == "legacy"
