"""What a file is that no format reads, told by its content, and what to do about it.

Sources of the signatures: the formats' own specifications, and for TensorRT, GGML and MXNet the readers of
lutzroeder/netron (``source/tensorrt.js``, ``gguf.js``, ``mxnet.js``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bn_audit.containers.foreign.archives import name_tar, name_zip
from bn_audit.containers.foreign.text import name_pointer, name_text
from bn_audit.containers.target import FileTarget

_EXPORT = "export the model to ONNX from the framework that wrote it and check that"
_UNPACK = "unpack it and check what is inside"
_SAVE_WITH_TORCH = "save the model with torch.save and check that"
_NO_MODEL = "no model file: check the path"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFile:
    """What a file is instead of something that can be audited.

    Attributes:
        name: The kind of file, with its article: ``a PNG image``.
        advice: What to do, as a clause without a final stop.
        is_artifact: It holds a model, or part of one, in a format that is not read here.
        is_pointer: It stands in for a file that is not here.
    """

    name: str
    advice: str
    is_artifact: bool
    is_pointer: bool = False


_MAGIC: tuple[tuple[int, bytes, str, str, bool], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image", _NO_MODEL, False),
    (0, b"\xff\xd8\xff", "a JPEG image", _NO_MODEL, False),
    (0, b"GIF87a", "a GIF image", _NO_MODEL, False),
    (0, b"GIF89a", "a GIF image", _NO_MODEL, False),
    (8, b"WEBP", "a WebP image", _NO_MODEL, False),
    (0, b"%PDF-", "a PDF document", _NO_MODEL, False),
    (0, b"\x1f\x8b\x08", "a gzip archive", _UNPACK, False),
    *(
        (0, b"x" + level, "data compressed with zlib, as joblib writes it", _SAVE_WITH_TORCH, False)
        for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")
    ),
    (0, b"\xfd7zXZ\x00", "an xz archive", _UNPACK, False),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK, False),
    (0, b"BZh", "a bzip2 archive", _UNPACK, False),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK, False),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK, False),
    (0, b"\x7fELF", "a compiled program or library", _NO_MODEL, False),
    (0, b"MZ", "a Windows program or library", _NO_MODEL, False),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and PyTables write it", _EXPORT, True),
    (0, b"\x93NUMPY", "a NumPy array", "save the whole state dict with torch.save or safetensors", False),
    (4, b"TFL3", "a TensorFlow Lite model", _EXPORT, True),
    (4, b"ORTM", "a model in ONNX Runtime's own format", "check the ONNX file that it was converted from", True),
    (4, b"ET12", "an ExecuTorch program", "check the exported program (.pt2) that it was made from", True),
    (0, b"ptrt", "a TensorRT engine", "check the ONNX file that it was built from", True),
    (0, b"ftrt", "a TensorRT engine", "check the ONNX file that it was built from", True),
    (24, b"ptrt", "a TensorRT engine", "check the ONNX file that it was built from", True),
    (24, b"ftrt", "a TensorRT engine", "check the ONNX file that it was built from", True),
    (0, b"GGUF", "a GGUF file of llama.cpp", "check the checkpoint that it was converted from", True),
    (0, b"lmgg", "a GGML file", "check the checkpoint that it was converted from", True),
    (0, b"tjgg", "a GGML file", "check the checkpoint that it was converted from", True),
    (0, b"NRUB", "a burnpack file of Burn", "save the record as safetensors and check that", True),
    (0, b"\x82\xa8metadata", "a record of Burn", "save the record as safetensors and check that", True),
    (0, b"\x12\x01\x00\x00\x00\x00\x00\x00", "a parameter file of MXNet", _EXPORT, True),
    (0, b"\x00asm", "a WebAssembly module", _NO_MODEL, False),
    (0, b"SQLite format 3\x00", "an SQLite database", _NO_MODEL, False),
)
"""(offset, signature, name, advice, is_artifact), in no order that matters."""

_PICKLED: tuple[tuple[bytes, str, str], ...] = (
    (
        b"torch.distributed.checkpoint",
        "the index of a distributed checkpoint",
        "merge it with python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY FILE and check that",
    ),
    (b"joblib.numpy_pickle", "a joblib file", _SAVE_WITH_TORCH),
)
"""(name that the start of a pickle holds, what it is, advice)."""

_SHARDS: tuple[tuple[str, str, str], ...] = (
    (
        r".*_optim_states\.pt",
        "a shard of DeepSpeed's optimizer state",
        "merge the shards with DeepSpeed's zero_to_fp32.py and check the result",
    ),
    (
        r"(zero_pp_rank_\d+_)?mp_rank_\d+(_\d+)?_model_states\.pt|layer_\d+-model_\d+-model_states\.pt",
        "a shard of a DeepSpeed checkpoint",
        "merge the shards with DeepSpeed's zero_to_fp32.py and check the result",
    ),
    (
        r".*\.distcp",
        "a shard of a distributed checkpoint",
        "merge the shards with python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY FILE "
        "and check the result",
    ),
    (
        r"(distrib_optim|model_optim_rng)\.pt",
        "a shard of a Megatron checkpoint",
        "convert the checkpoint to one file with Megatron's tools and check the result",
    ),
    (r".*\.(pdparams|pdopt)", "a parameter file of Paddle", _EXPORT),
)
"""(pattern of the whole file name, what it is, advice)."""


def shard_by_name(file_name: str) -> ForeignFile | None:
    """Return what a file is by a name that only one framework gives to its shards; None for any other name."""
    for pattern, name, advice in _SHARDS:
        if re.fullmatch(pattern, file_name):
            return ForeignFile(name=name, advice=advice, is_artifact=True)
    return None


def identify(target: FileTarget) -> ForeignFile | None:
    """Return what a file is that no format accepted; None where it cannot be told.

    Raises:
        MalformedFileError: a zip archive that is truncated or corrupt.
    """
    found = _identify_bytes(target) or shard_by_name(target.source.path.name)
    if found is None:
        pointer = name_pointer(target)
        if pointer is not None:
            return ForeignFile(name=pointer[0], advice=pointer[1], is_artifact=True, is_pointer=True)
        named = name_text(target)
        found = named and ForeignFile(name=named[0], advice=named[1], is_artifact=named[2])
    return found or _identify_protobuf(target)


def _identify_bytes(target: FileTarget) -> ForeignFile | None:
    head = target.head
    if not head:
        return ForeignFile(name="an empty file", advice="copy or download it again", is_artifact=False)
    if not head.strip(b"\x00") and _ends_in_zeros(target):
        return ForeignFile(
            name="a file of zeros", advice="the download never finished: download it again", is_artifact=False
        )
    for offset, signature, name, advice, is_artifact in _MAGIC:
        if head.startswith(signature, offset) and (signature != b"WEBP" or head.startswith(b"RIFF")):
            return ForeignFile(name=name, advice=advice, is_artifact=is_artifact)
    if head[:1] == b"\x80":
        for signature, name, advice in _PICKLED:
            if signature in head[:512]:
                return ForeignFile(name=name, advice=advice, is_artifact=True)
    named = name_tar(target) if head[257:262] == b"ustar" else None
    if head[:2] == b"PK" and target.archive is not None:
        named = name_zip(target.archive)
    return named and ForeignFile(name=named[0], advice=named[1], is_artifact=named[2])


def _ends_in_zeros(target: FileTarget) -> bool:
    length = min(4096, target.source.size)
    return not target.source.read(target.source.size - length, length).strip(b"\x00")


_SSTABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def _identify_protobuf(target: FileTarget) -> ForeignFile | None:
    """Return the kind of a protocol buffer or another file without a signature, for which the suffix helps."""
    head, path = target.head, target.source.path
    if target.source.size >= 48 and target.source.read(target.source.size - 8, 8) == _SSTABLE_MAGIC:
        return ForeignFile(name="the index of a TensorFlow checkpoint", advice=_EXPORT, is_artifact=True)
    if re.fullmatch(r".*\.data-\d{5}-of-\d{5}", path.name):
        return ForeignFile(name="the data of a TensorFlow checkpoint", advice=_EXPORT, is_artifact=True)
    if head[:1] == b"\x08" and len(head) > 4 and head[1] < 0x20:
        if path.suffix == ".mlmodel":
            return ForeignFile(name="a Core ML model", advice=_EXPORT, is_artifact=True)
        if head[2:3] == b"\x12" and (path.name == "saved_model.pb" or b"serve" in head):
            return ForeignFile(name="a TensorFlow SavedModel", advice=_EXPORT, is_artifact=True)
    if head[:1] == b"\x0a" and path.suffix == ".pb" and re.search(rb"Placeholder|Const|Identity|NoOp", head):
        return ForeignFile(name="a frozen TensorFlow graph", advice=_EXPORT, is_artifact=True)
    if head[:1] == b"\x0a" and path.suffix == ".pdmodel":
        return ForeignFile(name="a program of Paddle", advice=_EXPORT, is_artifact=True)
    return None
