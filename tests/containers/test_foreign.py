"""Files that no format reads are named by their content, with something to do about them."""

import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from bz2 import compress
from pathlib import Path

import numpy as np
import pytest
import torch

from bn_audit.containers.foreign.naming import ForeignFile, identify, shard_by_name
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.containers.torch_file.reading import looks_like_torch_file
from bn_audit.errors import ArtifactError


def named(path: Path, content: bytes) -> ForeignFile:
    path.write_bytes(content)
    target = FileTarget(Source(path))
    assert not looks_like_torch_file(target)
    found = identify(target)
    assert found is not None
    assert found.advice
    return found


def packed(*names: str, content: bytes = b"x") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(*names: str, mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(bytes(700)))
    return stream.getvalue()


def torch_saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def numpy_saved() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(2))
    return stream.getvalue()


def numpy_zipped() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(2), b=np.ones(1))
    return stream.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 102530333\n"

CASES: dict[str, tuple[str, bytes, str, str, bool]] = {
    "empty": ("a.pt", b"", "an empty file", "again", False),
    "zeros": ("a.pt", bytes(10_000), "a file of zeros", "download it again", False),
    "lfs": ("a.pt", LFS, "a Git LFS pointer to a file of 102530333 bytes", "run git lfs pull", True),
    "annex": ("a.pt", b"/annex/objects/SHA256E-s3--abc.pt\n", "a git-annex pointer", "git annex get", True),
    "annex link": ("a.pt", b"../.git/annex/objects/x/y", "a git-annex pointer", "git annex get", True),
    "text": ("a.pt", b"Hello there,\nthis is text.\n", "a text file", "check the path", False),
    "accents": ("a.pt", "déjà vu ".encode() * 700, "a text file", "check the path", False),
    "html": ("a.pt", b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page", "logged in", False),
    "html upper": ("a.pt", b"\n <HTML><head>", "an HTML page", "logged in", False),
    "xml": ("a.pt", b"<?xml version='1.0'?><thing/>", "an XML document", "check the path", False),
    "s3 error": (
        "a.pt",
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "an error message of a storage service",
        "with access",
        False,
    ),
    "openvino": (
        "a.xml", b'<?xml version="1.0"?>\n<net name="x" version="11">', "a network of OpenVINO", "ONNX", True
    ),
    "json": ("a.pt", b'{"a": 1}', "a JSON document", "model file", False),
    "keras json": (
        "a.json", b'{"class_name": "Sequential", "config": {}}', "a model description of Keras", "ONNX", True
    ),
    "tfjs": ("model.json", b'{"format": "x", "modelTopology": {}}', "a TensorFlow.js model", "ONNX", True),
    "mxnet json": ("a.json", b'{"nodes": [], "arg_nodes": []}', "a network description of MXNet", "ONNX", True),
    "coreml manifest": (
        "Manifest.json", b'{"rootModelIdentifier": "x"}', "the manifest of a Core ML package", "ONNX", True
    ),
    "python": ("model.py", b"import torch\n\nclass Net:\n    pass\n", "Python source code", "module:factory", False),
    "onnx text": ("a.onnxtxt", b"<\n  ir_version: 9,\n", "an ONNX model as text", "library", True),
    "onnx textproto": ("a.textproto", b"ir_version: 9\ngraph {\n", "an ONNX model as text", "library", True),
    "onnx json": ("a.json", b'{\n  "irVersion": "9",\n  "graph": {}}', "an ONNX model as JSON", "library", True),
    "onnx runtime": (
        "a.ort", b"\x1c\x00\x00\x00ORTM" + bytes(64), "a model in ONNX Runtime's own format", "ONNX", True
    ),
    "ncnn": ("a.param", b"7767517\n1 1\n", "a parameter file of ncnn", "ONNX", True),
    "caffe": ("a.prototxt", b'name: "x"\nlayer {\n  name: "a"\n}\n', "a network description of Caffe", "ONNX", True),
    "tf list": (
        "checkpoint", b'model_checkpoint_path: "m-1"\n', "the list of TensorFlow checkpoints", "ONNX", True
    ),
    "png": ("a.pt", b"\x89PNG\r\n\x1a\n\x00", "a PNG image", "check the path", False),
    "jpeg": ("a.pt", b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image", "check the path", False),
    "gif": ("a.pt", b"GIF89a\x01\x00", "a GIF image", "check the path", False),
    "webp": ("a.pt", b"RIFF\x10\x00\x00\x00WEBPVP8 ", "a WebP image", "check the path", False),
    "pdf": ("a.pt", b"%PDF-1.7\n%\xe2\xe3", "a PDF document", "check the path", False),
    "gzip": ("a.pt.gz", gzip.compress(b"x"), "a gzip archive", "unpack", False),
    "xz": ("a.pt", lzma.compress(b"x"), "an xz archive", "unpack", False),
    "zlib": ("a.joblib", zlib.compress(b"x", 3), "data compressed with zlib, as joblib writes it", "torch.save", False),
    "bzip2": ("a.pt", compress(b"x"), "a bzip2 archive", "unpack", False),
    "zstd": ("a.pt", b"\x28\xb5\x2f\xfd\x00\x00", "a Zstandard archive", "unpack", False),
    "7z": ("a.pt", b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7-Zip archive", "unpack", False),
    "rar": ("a.pt", b"Rar!\x1a\x07\x01\x00", "a RAR archive", "unpack", False),
    "elf": ("a.so", b"\x7fELF\x02\x01", "a compiled program or library", "check the path", False),
    "tar": ("a.tar", tarred("a.txt"), "a tar archive", "tar -xf", False),
    "torch tar": (
        "a.pt", tarred("sys_info", "storages", "tensors", "pickle"),
        "a checkpoint in the tar format of PyTorch 0.1", "torch.load", True,
    ),
    "nemo": ("a.nemo", tarred("./model_config.yaml", "./model_weights.ckpt"), "a NeMo archive", "tar -xf", True),
    "distcp": (
        "__0_0.distcp", torch_saved(torch.ones(3)) + torch_saved(torch.ones(4)),
        "several zip archives in a row, as in a shard of a distributed checkpoint (.distcp)", "dcp_to_torch", True,
    ),
    "distcp, renamed": (
        "a.pt", torch_saved(torch.ones(3)) + torch_saved(torch.ones(4)),
        "several zip archives in a row, as in a shard of a distributed checkpoint (.distcp)", "dcp_to_torch", True,
    ),
    "joblib": (
        "a.pkl", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x13joblib.numpy_pickle\x94.", "a joblib file",
        "torch.save", True,
    ),
    "aotinductor": (
        "a.pt2", packed("m/data/aotinductor/model/x.so", "m/archive_format"), "a compiled AOTInductor package",
        "exported program", True,
    ),
    "torch.package": (
        "a.pt", packed("m/.data/extern_modules", "m/model/model.pkl", "m/code.py"),
        "a torch.package archive, whose model is Python code", "module:factory", True,
    ),
    "keras": (
        "a.keras", packed("metadata.json", "config.json", "model.weights.h5"), "a Keras model", "ONNX", True
    ),
    "old torchscript": (
        "a.pt", packed("m/version", "m/model.json", "m/code/m.py"), "a TorchScript file of PyTorch 1.0 to 1.3",
        "torch.jit.save", True,
    ),
    "torchserve": ("a.mar", packed("MAR-INF/MANIFEST.json", "m.pt"), "a TorchServe archive (.mar)", "unpack", True),
    "coreml package": (
        "a.mlpackage.zip", packed("x.mlpackage/Manifest.json", "x.mlpackage/Data/com.apple.CoreML/model.mlmodel"),
        "a Core ML package", "ONNX", True,
    ),
    "packed saved model": (
        "a.zip", packed("m/saved_model.pb", "m/variables/x"), "a packed TensorFlow SavedModel", "ONNX", True
    ),
    "office": ("a.docx", packed("[Content_Types].xml"), "an office document", "check the path", False),
    "zip of models": ("a.zip", packed("a/model.pt"), "a zip archive of model files", "unpack", False),
    "zip": ("a.zip", packed("a/readme.txt"), "a zip archive without a model that is known here", "unpack", False),
    "npy": ("a.npy", numpy_saved(), "a NumPy array", "state dict", False),
    "npz": ("a.npz", numpy_zipped(), "a NumPy archive (.npz)", "state dict", True),
    "hdf5": ("a.h5", b"\x89HDF\r\n\x1a\n\x00", "an HDF5 file, as Keras and PyTables write it", "ONNX", True),
    "tflite": ("a.tflite", b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model", "ONNX", True),
    "executorch": ("a.pte", b"\x1c\x00\x00\x00ET12", "an ExecuTorch program", ".pt2", True),
    "tensorrt": ("a.engine", b"ftrt" + bytes(30), "a TensorRT engine", "ONNX file", True),
    "old tensorrt": ("a.trt", b"ptrt" + bytes(30), "a TensorRT engine", "ONNX file", True),
    "gguf": ("a.gguf", b"GGUF\x03\x00\x00\x00", "a GGUF file of llama.cpp", "converted from", True),
    "ggml": ("a.bin", b"lmgg\x03\x00\x00\x00", "a GGML file", "converted from", True),
    "burn": ("a.mpk", b"\x82\xa8metadata\x86\xa5float", "a record of Burn", "safetensors", True),
    "burnpack": ("a.bpk", b"NRUB\x01\x00", "a burnpack file of Burn", "safetensors", True),
    "mxnet": ("a.params", struct.pack("<2Q", 0x112, 0), "a parameter file of MXNet", "ONNX", True),
    "coreml": ("a.mlmodel", b"\x08\x04\x12\x20\x0a\x05\x0a\x03abc", "a Core ML model", "ONNX", True),
    "saved model": (
        "saved_model.pb", b"\x08\x01\x12\xf0\x20\x0a\x10\x12\x05serve", "a TensorFlow SavedModel", "ONNX", True
    ),
    "frozen graph": (
        "a.pb", b"\x0a\x20\x0a\x01x\x12\x0bPlaceholder", "a frozen TensorFlow graph", "ONNX", True
    ),
    "tf index": (
        "m.ckpt-1.index", bytes(range(1, 60)) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb",
        "the index of a TensorFlow checkpoint", "ONNX", True,
    ),
    "tf data": (
        "m.ckpt-1.data-00000-of-00001", bytes(range(1, 60)), "the data of a TensorFlow checkpoint", "ONNX", True
    ),
    "paddle program": ("a.pdmodel", b"\x0a\x80\x01\x08\x00\x10\xff", "a program of Paddle", "ONNX", True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_files_are_named(tmp_path: Path, case: str) -> None:
    file_name, content, name, advice, is_artifact = CASES[case]
    found = named(tmp_path / file_name, content)
    assert (found.name, found.is_artifact) == (name, is_artifact)
    assert advice in found.advice


def test_the_index_of_a_distributed_checkpoint(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.metadata import Metadata

    found = named(tmp_path / ".metadata", pickle.dumps(Metadata({})))
    assert found.name == "the index of a distributed checkpoint"
    assert "dcp_to_torch" in found.advice


SHARDS = {
    "mp_rank_00_model_states.pt": "DeepSpeed",
    "zero_pp_rank_0_mp_rank_00_model_states.pt": "DeepSpeed",
    "zero_pp_rank_3_mp_rank_00_optim_states.pt": "DeepSpeed",
    "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt": "DeepSpeed",
    "layer_03-model_00-model_states.pt": "DeepSpeed",
    "__0_0.distcp": "distributed checkpoint",
    "model_optim_rng.pt": "Megatron",
    "model.pdparams": "Paddle",
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_are_told_by_name(name: str) -> None:
    found = shard_by_name(name)
    assert found is not None
    assert SHARDS[name] in found.name
    assert found.is_artifact


def test_other_names_are_no_shards() -> None:
    for name in ("model.pt", "optimizer.pt", "rank_0.pt", "model_states.pt.zip", ""):
        assert shard_by_name(name) is None


def test_paddle_parameters_are_pickles_told_by_their_suffix(tmp_path: Path) -> None:
    found = named(tmp_path / "x.pdparams", pickle.dumps({"bn._mean": np.ones(1)}, protocol=4))
    assert found.name == "a parameter file of Paddle"


@pytest.mark.parametrize(
    "content", [bytes(range(1, 256)) * 4, b"\x01", b"\xff\xfe" * 20, b"text\x00binary", b"\x08\x07"]
)
def test_unknown_bytes_have_no_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    assert identify(FileTarget(Source(tmp_path / "x.bin"))) is None


def test_every_start_of_every_case_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for _name, content, *_rest in CASES.values():
        for length in (1, 2, 3, 4, 5, 8, 12, 20, 40, len(content) - 1):
            path.write_bytes(content[:length] if length > 0 else b"")
            try:
                identify(FileTarget(Source(path)))
            except ArtifactError as error:
                assert "x.pt" in str(error)
