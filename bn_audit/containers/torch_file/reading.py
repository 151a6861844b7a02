"""Files written by ``torch.save``: three encodings, one set of plain values and tensors.

- ``zip``: since torch 1.6, ``data.pkl`` beside one member for each storage.
- ``legacy``: before, see `torch_file.legacy`.
- ``pickle``: ``pickle.dump`` of a module or of tensors; each storage is a legacy file within the pickle.

Sources: torch 2.13 ``serialization.py`` and ``storage.py`` (``_load_from_bytes``).
"""

from __future__ import annotations

from collections.abc import Callable

from bn_audit.containers.archive import Archive
from bn_audit.containers.inert import Instance
from bn_audit.containers.inert_pickle.reading import read_pickle_at
from bn_audit.containers.source import Readable, Source
from bn_audit.containers.torch_file.arrays import find_array, stored_range
from bn_audit.containers.torch_file.legacy import read_legacy
from bn_audit.containers.torch_file.rebuild import TensorReader
from bn_audit.containers.torch_file.sniff import is_legacy, looks_like_torch_file
from bn_audit.containers.torch_file.storage import Storage, item_size, storage_id
from bn_audit.containers.torch_file.tensor import StoredTensor
from bn_audit.errors import MalformedFileError

__all__ = ["StoredTensor", "TorchFile", "looks_like_torch_file", "read_torch_archive", "read_torch_file"]

MAX_PICKLE_BYTES = 256 << 20
"""Cap on ``data.pkl``; that of a model with ten thousand layers has 10 MiB."""


class TorchFile:
    """What a PyTorch file holds.

    Attributes:
        encoding: ``"zip"``, ``"legacy"`` or ``"pickle"``.
        root: The unpickled value.
        big_endian: Its tensors are stored in big-endian order.
    """

    def __init__(
        self,
        *,
        encoding: str,
        root: object,
        pickle: Readable,
        find_storage: Callable[[object, str], Storage | None],
        big_endian: bool,
    ) -> None:
        self.encoding = encoding
        self.root = root
        self.big_endian = big_endian
        self._reader = TensorReader(
            find_storage=find_storage, find_array=lambda value, name: find_array(pickle, value, name)
        )

    def tensor(self, value: object, name: str) -> StoredTensor | None:
        """Return the tensor that `value` stands for; None where it is no tensor.

        Args:
            value: Any value reached from `root`.
            name: How messages call it.

        Raises:
            MalformedFileError: it is a tensor, but does not lie within the file.
        """
        return self._reader.tensor(value, name)

    def is_tensor(self, value: object) -> bool:
        """Return whether `value` stands for a tensor; `tensor` may still find it impossible."""
        return self._reader.recognises(value)


def read_torch_file(source: Source, archive: Archive | None) -> TorchFile:
    """Return the content of a file written by ``torch.save`` or ``pickle.dump``; nothing in it is run.

    Raises:
        MalformedFileError: truncated, corrupt or no such file.
        LimitExceededError: larger or deeper than this tool reads.
    """
    if archive is not None:
        return read_torch_archive(source, archive)
    if is_legacy(source.head(64)):
        root, storages = read_legacy(source)
        return TorchFile(encoding="legacy", root=root, pickle=source, find_storage=storages.find, big_endian=False)
    root, _end = read_pickle_at(source, 0)
    nested = _NestedStorages(source)
    return TorchFile(encoding="pickle", root=root, pickle=source, find_storage=nested.find, big_endian=False)


def read_torch_archive(
    source: Readable, archive: Archive, *, pickle: str = "data.pkl", tensors: str = "data/"
) -> TorchFile:
    """Return the content of one pickle of a zip archive, with its tensors.

    Args:
        pickle: Member below the archive's root, such as ``constants.pkl`` of TorchScript.
        tensors: Directory below the root that holds the storages, with its slash.

    Raises:
        MalformedFileError, LimitExceededError: as for `read_torch_file`.
    """
    content = archive.range_of(archive.root + pickle, limit=MAX_PICKLE_BYTES)
    root, _end = read_pickle_at(content, 0)
    big_endian = _is_big_endian(archive)

    def find_storage(value: object, name: str) -> Storage | None:
        identity = storage_id(value, name)
        if identity is None:
            return None
        member = f"{archive.root}{tensors}{identity.key}"
        size = identity.numel * item_size(identity.dtype)
        if member not in archive or archive.members[member].size < size:
            raise MalformedFileError(
                f"{name}: truncated or corrupt: the archive has no member {member} of {size} bytes: "
                "copy or download the file again"
            )

        def read(position: int, length: int) -> bytes:
            start, stored = archive.stored_range(member)
            if position + length > stored:
                raise MalformedFileError(f"{name}: member {member} has {stored} bytes, {position + length} are needed")
            return source.read(start + position, length)

        return Storage(key=member, dtype=identity.dtype, size=size, big_endian=big_endian, read=read)

    return TorchFile(encoding="zip", root=root, pickle=content, find_storage=find_storage, big_endian=big_endian)


def _is_big_endian(archive: Archive) -> bool:
    member = archive.root + "byteorder"
    if member not in archive:
        return False
    order = archive.read(member, limit=64)
    if order not in (b"little", b"big"):
        raise MalformedFileError(f"{archive.source.name}: its byte order is {order!r}, neither little nor big")
    return order == b"big"


class _NestedStorages:
    """The storages of a plain pickle: each is a call of ``_load_from_bytes`` on a legacy file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[int, tuple[Instance, Storage]] = {}

    def find(self, value: object, name: str) -> Storage | None:
        """Return the storage that `value` stands for; None where it is none."""
        if not isinstance(value, Instance) or value.type_name != "torch.storage._load_from_bytes":
            return None
        known = self._found.get(id(value))
        if known is None:
            known = self._found[id(value)] = (value, self._read(value, name))
        return known[1]

    def _read(self, value: Instance, name: str) -> Storage:
        content = stored_range(self._source, value.args[0], None, name) if len(value.args) == 1 else None
        if content is None:
            raise MalformedFileError(f"{name}: corrupt: a storage without bytes")
        if content.read(0, min(4, content.size)) == b"PK\x03\x04":
            raise MalformedFileError(f"{name}: a storage is a zip archive within a pickle: save with torch.save")
        root, storages = read_legacy(content)
        storage = storages.find(root, name)
        if storage is None:
            raise MalformedFileError(f"{name}: corrupt: the bytes of a storage hold something else")
        return Storage(
            key=f"nested {len(self._found)}",
            dtype=storage.dtype,
            size=storage.size,
            big_endian=False,
            read=storage.read,
        )
