"""Whether the start of a file is that of a PyTorch file."""

from __future__ import annotations

import re

from bn_audit.containers.inert_pickle.reading import is_opcode
from bn_audit.containers.target import FileTarget
from bn_audit.containers.torch_file.legacy import MAGIC_NUMBER

FOREIGN_PICKLES = (b"torch.distributed.checkpoint", b"joblib.numpy_pickle")
"""Modules that the start of a pickle names which is not of the kind that holds a PyTorch model."""

_FOREIGN_SUFFIXES = (".distcp", ".pdparams", ".pdopt")

_TEXT_PICKLE = (
    rb"\(([dl]p\d+\n|i[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n)"  # a dictionary, list or old-style object
    rb"|c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n[p(q]"  # a name that is called
    rb"|[}\]]q\x00"  # protocol 1: an empty container that is remembered
)


def looks_like_torch_file(target: FileTarget) -> bool:
    """Return whether a file is of the kind that `read_torch_file` reads.

    TorchScript and ``.pt2`` archives are not, nor are shards of distributed checkpoints, which are many files in one.

    Raises:
        MalformedFileError: a zip archive that is truncated or corrupt.
    """
    if target.source.path.suffix in _FOREIGN_SUFFIXES:
        return False
    if target.head[:2] == b"PK":
        return _is_torch_archive(target)
    return is_legacy(target.head) or _is_pickle(target.head)


def is_legacy(head: bytes) -> bool:
    """Return whether a file begins with the magic number of the encoding before PyTorch 1.6, in any protocol."""
    return MAGIC_NUMBER.to_bytes(10, "little") in head[:24] or head.startswith(b"L%dL" % MAGIC_NUMBER)


def _is_torch_archive(target: FileTarget) -> bool:
    archive = target.archive
    if archive is None or archive.root + "data.pkl" not in archive:
        return False
    if any(archive.root + name in archive for name in ("constants.pkl", ".data/extern_modules")):
        return False
    # The first file of a distributed checkpoint's shard lies in front of the one that the directory describes.
    if min(member.header_offset for member in archive.members.values()) > 0:
        return False
    return not any(name.startswith(archive.root + "code/") for name in archive.members)


def _is_pickle(head: bytes) -> bool:
    if any(module in head[:512] for module in FOREIGN_PICKLES):
        return False
    if head[:1] == b"\x80":
        return len(head) > 2 and 2 <= head[1] <= 5 and is_opcode(head[2])
    return head[:1] in (b"(", b"c", b"}", b"]") and re.match(_TEXT_PICKLE, head) is not None
