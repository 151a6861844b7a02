"""Elements compared piece by piece, beside numpy on the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bn_audit.alignment import values
from bn_audit.alignment.values import TensorPair, compare_values
from bn_audit.audit import read_subject
from bn_audit.subject.comparison import NotCompared, ValueMismatch
from bn_audit.subject.tensor import TensorRef


def ref(array: np.ndarray, dtype: str = "float32") -> TensorRef:
    data = array.tobytes()
    return TensorRef(
        name="t",
        dtype=dtype,
        shape=array.shape,
        load=lambda: data,
        read=lambda start, count: data[start : start + count],
    )


def compared(one: TensorRef, other: TensorRef, **how: bool) -> ValueMismatch | NotCompared | None:
    return compare_values(TensorPair(reference=one, target=other, reference_name="r", target_name="t", **how))


@pytest.fixture(params=[3, 7, 1000])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(values, "_PIECE", request.param)
    return int(request.param)


def test_the_largest_difference_is_found_in_any_piece(piece: int) -> None:
    one = np.random.default_rng(0).normal(size=(10, 4, 5)).astype(np.float32)
    for place in (0, 1, piece % one.size, 57, one.size - 1):
        other = one.copy()
        other.flat[place] += 1
        other.flat[(place + 9) % one.size] += 0.5
        found = compared(ref(one), ref(other))
        assert isinstance(found, ValueMismatch)
        assert (found.index, found.channel, found.beyond) == (place, place // 20, 2)
        assert found.size == pytest.approx(1 / np.abs(one).max(), rel=1e-6)
        assert (found.reference_value, found.target_value) == (one.flat[place], other.flat[place])


def test_rounding_is_no_difference(piece: int) -> None:
    one = np.random.default_rng(1).normal(size=(40,)).astype(np.float32)
    assert compared(ref(one), ref(one.copy())) is None
    assert compared(ref(one), ref(one.astype(np.float16), "float16")) is None
    assert compared(ref(one), ref((one * (1 + 1e-7)).astype(np.float32))) is None
    assert isinstance(compared(ref(one), ref((one * (1 + 1e-5)).astype(np.float32))), ValueMismatch)


def test_not_a_number_equals_itself_and_nothing_else() -> None:
    one = np.array([1.0, np.nan, np.inf], np.float32)
    assert compared(ref(one), ref(one.astype(np.float64), "float64")) is None
    found = compared(ref(one), ref(np.array([1.0, 2.0, np.inf], np.float32)))
    assert isinstance(found, ValueMismatch)
    assert (found.index, found.beyond) == (1, 1)


def test_a_matrix_that_lies_the_other_way_round() -> None:
    one = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    turned = np.ascontiguousarray(one.T)
    assert compared(ref(one), ref(turned), is_transposed=True) is None
    turned[4, 1] += 1
    found = compared(ref(one), ref(turned), is_transposed=True)
    assert isinstance(found, ValueMismatch)
    assert found.channel == 1


def test_what_has_no_values_is_said() -> None:
    odd = TensorRef(name="q", dtype="qint8", shape=(4,), load=lambda: bytes(4))
    found = compared(ref(np.zeros(4, np.float32)), odd)
    assert isinstance(found, NotCompared)
    assert "qint8" in found.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.float64])
def test_pieces_of_a_file_are_the_tensor(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {"a": torch.arange(1000).to(dtype).reshape(10, 100), "b": torch.ones(7, dtype=dtype)}
    tensors["part"] = tensors["a"][3:7].clone()
    torch.save({**tensors, "view": tensors["a"][2:5], "turned": tensors["a"].T}, tmp_path / "a.pt")
    save_file(tensors, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        with read_subject(tmp_path / name) as subject:
            for ref_ in subject.models[0].tensors:
                assert b"".join(ref_.chunks(33)) == ref_.load()
                assert all(len(data) <= 33 for data in ref_.chunks(33))
                assert (ref_.read is None) == (ref_.name == "turned")
