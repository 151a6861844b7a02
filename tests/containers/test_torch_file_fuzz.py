"""Damaged PyTorch files give a value or one of our own errors, whatever the encoding."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walk_values import open_torch_file, walk

from bn_audit.containers.source import Source
from bn_audit.errors import ArtifactError


def content() -> dict[str, object]:
    norm = torch.nn.BatchNorm1d(2)
    norm.weight.note = "an attribute"
    return {
        "model": norm,
        "state_dict": OrderedDict(norm.state_dict()),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "view": torch.arange(6.0).reshape(2, 3).t(),
        "array": np.arange(3),
        "epoch": 3,
    }


ENCODINGS = [("zip", 2), ("zip", 4), ("legacy", 2), ("pickle", 0), ("pickle", 2), ("pickle", 5)]


def write(path: Path, value: object, encoding: str, protocol: int) -> bytes:
    if encoding == "pickle":
        path.write_bytes(pickle.dumps(value, protocol=protocol))
    else:
        torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=encoding == "zip")
    return path.read_bytes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "x"
    return [write(path, content(), *encoding) for encoding in ENCODINGS]


def outcome(path: Path, data: bytes) -> tuple[int, int] | None:
    path.write_bytes(data)
    try:
        with Source(path) as source:
            return walk(open_torch_file(source))
    except ArtifactError as error:
        assert str(path) in str(error) or "a tensor" in str(error)
        return None


def test_the_whole_files_are_read(tmp_path: Path, originals: list[bytes]) -> None:
    for data in originals:
        assert outcome(tmp_path / "x", data) == (15, 0)  # a parameter holds a tensor of its own


@pytest.mark.parametrize(("encoding", "protocol"), ENCODINGS)
def test_truncation_at_every_byte(tmp_path: Path, encoding: str, protocol: int) -> None:
    path = tmp_path / "x"
    data = write(path, {"w": torch.nn.Parameter(torch.ones(2)), "n": np.ones(1), "e": 3}, encoding, protocol)
    assert outcome(path, data) == (3, 0)
    for length in range(len(data)):
        assert outcome(path, data[:length]) is None, length


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(choose=st.data())
def test_mutated_bytes(tmp_path: Path, originals: list[bytes], choose: st.DataObject) -> None:
    data = bytearray(choose.draw(st.sampled_from(originals)))
    for _ in range(choose.draw(st.integers(1, 6))):
        place = choose.draw(st.integers(0, len(data) - 1))
        data[place] = choose.draw(st.one_of(st.integers(0, 255), st.sampled_from(b".()}]RbtuQ\x81\x85\x94\xff\x00")))
    if choose.draw(st.booleans()):
        start = choose.draw(st.integers(0, len(data)))
        del data[start : start + choose.draw(st.integers(0, 40))]
    outcome(tmp_path / "x", bytes(data))
