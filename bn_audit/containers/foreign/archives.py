"""What a zip or tar archive holds that no format reads: (name, advice, is it a model)."""

from __future__ import annotations

import re

from bn_audit.containers.archive import Archive
from bn_audit.containers.target import FileTarget

Named = tuple[str, str, bool]

_EXPORT = "export the model to ONNX from the framework that wrote it and check that"
_MOST_TAR_MEMBERS = 64
_BLOCK = 512


def name_zip(archive: Archive) -> Named:
    """Return what kind of zip archive this is."""
    members = set(archive.members)
    inner = {name.removeprefix(archive.root) for name in members}

    def holds(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in members)

    if min((member.header_offset for member in archive.members.values()), default=0) > 0:
        return (
            "several zip archives in a row, as in a shard of a distributed checkpoint (.distcp)",
            "merge the shards with python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY FILE",
            True,
        )
    if holds(r"(^|/)data/aotinductor/"):
        return "a compiled AOTInductor package", "check the exported program (.pt2) that it was compiled from", True
    if ".data/extern_modules" in inner:
        return (
            "a torch.package archive, whose model is Python code",
            "check a factory that loads it (package.module:factory), or save model.state_dict() with torch.save",
            True,
        )
    if "config.json" in inner and any(name.endswith(".weights.h5") for name in inner):
        return "a Keras model", _EXPORT, True
    if members and all(name.endswith(".npy") for name in members):
        return "a NumPy archive (.npz)", "save the whole state dict with torch.save or safetensors", True
    if "model.json" in inner and holds(r"(^|/)(code|tensors)/"):
        return (
            "a TorchScript file of PyTorch 1.0 to 1.3",
            "load it and save it again with torch.jit.save of a newer PyTorch",
            True,
        )
    if "MAR-INF/MANIFEST.json" in members:
        return "a TorchServe archive (.mar)", "unpack it and check the model inside", True
    if holds(r"\.mlmodel$|(^|/)Manifest\.json$") and holds(r"com\.apple\.CoreML|\.mlmodel$"):
        return "a Core ML package", _EXPORT, True
    if holds(r"(^|/)saved_model\.pb$"):
        return "a packed TensorFlow SavedModel", _EXPORT, True
    if "[Content_Types].xml" in members:
        return "an office document", "no model file: check the path", False
    if holds(r"\.(pt|pth|ckpt|bin|onnx|safetensors|pt2)$"):
        return "a zip archive of model files", "unpack it and check what is inside", False
    return "a zip archive without a model that is known here", "unpack it and check what is inside", False


def name_tar(target: FileTarget) -> Named:
    """Return what kind of tar archive this is."""
    names = _tar_members(target)
    if {"sys_info", "pickle", "storages", "tensors"} <= names:
        return (
            "a checkpoint in the tar format of PyTorch 0.1",
            "load it with torch.load and save it again with torch.save",
            True,
        )
    if any(name.endswith("model_config.yaml") for name in names):
        return "a NeMo archive", "unpack it with tar -xf and check the checkpoint inside", True
    return "a tar archive", "unpack it with tar -xf and check what is inside", False


def _tar_members(target: FileTarget) -> set[str]:
    """Return the names of the first members of a tar archive.

    Source: POSIX.1-2017, ``pax``, "ustar Interchange Format": name at 0, size in octal at 124.
    """
    names: set[str] = set()
    offset = 0
    for _ in range(_MOST_TAR_MEMBERS):
        if offset + _BLOCK > target.source.size:
            break
        header = target.source.read(offset, _BLOCK)
        name = header[:100].rstrip(b"\x00").decode("utf-8", "replace")
        size = re.match(rb"[0-7]{1,11}", header[124:136].strip(b" \x00"))
        if not name or size is None:
            break
        names.add(name.removeprefix("./"))
        offset += _BLOCK + -(-int(size[0], 8) // _BLOCK) * _BLOCK
    return names
