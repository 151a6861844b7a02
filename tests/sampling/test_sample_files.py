"""Real samples from files: what is read, and that hostile ones are refused before memory is taken for them."""

import io
import json
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from bn_audit.errors import ArtifactError, LimitExceededError, MalformedFileError, MissingTargetError
from bn_audit.sampling import files
from bn_audit.sampling.files import read_samples

X = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def npy(array, **header):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def forged(shape, descr="<f4", data=b"\0" * 16):
    """An .npy whose header claims what it likes."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def test_an_array_alone_has_no_name(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert list(read_samples(str(tmp_path / "x.npy"))) == [""]
    assert np.array_equal(read_samples(str(tmp_path / "x.npy"))[""], X)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives(tmp_path, save):
    save(tmp_path / "s.npz", x=X, ids=np.arange(4))
    found = read_samples(str(tmp_path / "s.npz"))
    assert list(found) == ["x", "ids"]
    assert np.array_equal(found["x"], X)
    assert found["ids"].dtype == np.int64


def test_safetensors_with_types_that_numpy_lacks(tmp_path):
    small = X.astype(ml_dtypes.bfloat16)
    save_file({"x": X, "half": X.astype(np.float16), "flags": X > 3, "small": small}, tmp_path / "s.safetensors")
    found = read_samples(str(tmp_path / "s.safetensors"))
    assert np.array_equal(found["x"], X)
    assert found["half"].dtype == np.float16
    assert found["flags"].dtype == bool
    assert found["small"].dtype == ml_dtypes.bfloat16
    assert found["small"].tobytes() == small.tobytes()


def test_the_content_decides_and_not_the_suffix(tmp_path):
    np.savez(tmp_path / "s.npz", x=X)
    (tmp_path / "s.npz").rename(tmp_path / "s.npy")
    assert list(read_samples(str(tmp_path / "s.npy"))) == ["x"]


@pytest.mark.parametrize("array", [X.T, np.asfortranarray(X), X.astype(">f4"), X[:, ::2], np.float64(3.0)])
def test_order_and_layout_of_the_bytes_do_not_matter(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    (found,) = read_samples(str(tmp_path / "x.npy")).values()
    assert np.array_equal(found, array)
    assert found.dtype.isnative
    assert found.flags.c_contiguous


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + b"\0" * 20,
        npy(X)[:-1],
        forged((1 << 60,)),
        forged((-1, 4)),
        forged((4,), descr="|O"),
        forged((4,), descr="|S4"),
        forged((4,), descr="<M8[s]"),
        forged((1,), descr=[("a", "<f4")]),
        forged((4,), descr="<q9"),
        forged("(" * 5000),
        forged((True, 2)),
        pickle.dumps(Bomb()),
        npy(np.array([Bomb()], dtype=object)),
        b"PK\x03\x04" + b"\0" * 30,
        struct.pack("<Q", 10) + b"{}",
        struct.pack("<Q", 2) + b"{}",
    ],
)
def test_what_is_no_file_of_samples_is_refused(tmp_path, data, capfd):
    path = tmp_path / "s.npz"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        read_samples(str(path))
    assert str(path) in str(caught.value)
    assert "executed" not in capfd.readouterr().out


def test_objects_in_an_archive_are_not_executed(tmp_path, capfd):
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("x.npy", npy(np.array([Bomb()], dtype=object)))
    with pytest.raises(MalformedFileError, match="not numbers"):
        read_samples(str(tmp_path / "s.npz"))
    assert "executed" not in capfd.readouterr().out


def test_a_member_that_unpacks_to_more_than_its_header_needs_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", forged((1 << 40,), data=b""))
    with pytest.raises(MalformedFileError, match="promises"):
        read_samples(str(tmp_path / "s.npz"))


def test_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    np.save(tmp_path / "x.npy", np.zeros(100))
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(100))
    save_file({"x": np.zeros(100)}, tmp_path / "x.safetensors")
    for name in ("x.npy", "x.npz", "x.safetensors"):
        with pytest.raises(LimitExceededError, match="save fewer samples"):
            read_samples(str(tmp_path / name))


def test_a_type_that_no_input_takes(tmp_path):
    header = json.dumps({"x": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "s.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(MalformedFileError, match="convert it"):
        read_samples(str(tmp_path / "s.safetensors"))


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingTargetError):
        read_samples(str(tmp_path / "none.npz"))
