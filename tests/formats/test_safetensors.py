"""Safetensors files, single and sharded, well-formed and hostile."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import ArtifactError, LimitExceededError, MalformedFileError, NoModelError
from bn_audit.formats.safetensors import FORMAT
from bn_audit.subject.subject import Facts, Subject


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net(torch.randn(2, 3, 5, 5))
    return net


def read(path: Path) -> Subject:
    with Source(path) as source:
        target = FileTarget(source)
        assert FORMAT.sniff(target)
        return FORMAT.read(target)


def test_tensors_are_those_of_the_module(tmp_path: Path) -> None:
    net = network()
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path, metadata={"format": "pt"})
    subject = read(path)
    assert subject.facts is Facts.VALUES
    (norm,) = subject.norms
    assert (norm.path, norm.preceding, norm.num_features) == ("1", None, 4)
    for role, ref in norm.tensors.items():
        expected = net.state_dict()[f"1.{role}"]
        assert ref.load() == expected.numpy().tobytes()
        assert ref.shape == tuple(expected.shape)


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_named_as_torch_names_it(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.ones(3).to(dtype)}, path)
    (ref,) = read(path).models[0].tensors
    assert ref.dtype == str(dtype).removeprefix("torch.")
    assert list(ref.values()) == [1.0, 1.0, 1.0]


def test_shards_make_one_model(tmp_path: Path) -> None:
    state = network().state_dict()
    weight_map = {}
    for number, prefix in enumerate(("0.", "1.")):
        part = {name: value for name, value in state.items() if name.startswith(prefix)}
        save_file(part, tmp_path / f"model-{number}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{number}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    subject = read(index)
    assert [norm.path for norm in subject.norms] == ["1"]
    assert len(subject.models[0].tensors) == len(state)


def test_a_file_without_tensors_holds_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header({"__metadata__": {"a": "b"}}))
    with pytest.raises(NoModelError):
        read(path)


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_header({"a": entry()}), "truncated"),
        (with_header({"a": entry(shape=[2])}, b"1234"), "does not fill"),
        (with_header({"a": entry(data_offsets=[4, 0])}, b"1234"), "does not fill"),
        (with_header({"a": entry(data_offsets=[4, 8])}, b"12345678"), "leaves a gap"),
        (with_header({"a": entry(), "b": entry()}, b"1234"), "overlaps"),
        (with_header({"a": entry(shape=[-1])}, b"1234"), "impossible"),
        (with_header({"a": entry(shape="x")}, b"1234"), "impossible"),
        (with_header({"a": entry(dtype=3)}, b"1234"), "impossible"),
        (with_header({"a": entry(shape=[True])}, b"1234"), "impossible"),
        (with_header({"a": entry(data_offsets=[0, 2**70])}, b"1234"), "impossible"),
        (with_header({"a": 3}), "no description"),
        (with_header(b'{"a": 1, "a": 2}'), "occurs twice"),
        (with_header(b"{" * 100_000), "no valid JSON"),
        (with_header(b"{}")[:-1] + b"x", "no valid JSON"),
        (struct.pack("<Q", 1 << 20) + b"{}", "truncated"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(MalformedFileError, match=message):
        read(path)


def test_an_absurd_header_length_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(LimitExceededError):
        read(path)


@pytest.mark.parametrize("content", [b"", b"{}", b'        {"a": 1}', b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_other_content_is_not_taken_for_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with Source(path) as source:
        assert not FORMAT.sniff(FileTarget(source))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_give_a_subject_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(save(network().state_dict()))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with Source(path) as source:
        target = FileTarget(source)
        try:
            if FORMAT.sniff(target):
                for norm in FORMAT.read(target).norms:
                    for ref in norm.tensors.values():
                        ref.values()
        except ArtifactError:
            pass
