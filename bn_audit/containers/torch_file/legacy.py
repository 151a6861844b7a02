"""PyTorch files before version 1.6: five pickles in a row, then the raw storages.

Layout: magic number, protocol, ``sys_info``, the value, the list of storage keys; then for each key the number of
elements (int64) and the elements. All of it is little-endian, on big-endian machines too.

Sources: torch 2.13 ``serialization.py`` (``_legacy_save``, ``_legacy_load``); ``csrc/serialization.cpp``
(``THPStorage_writeFileRaw``).
"""

from __future__ import annotations

from collections.abc import Callable

from bn_audit.containers.inert import PersistentId
from bn_audit.containers.inert_pickle.reading import read_pickle_at
from bn_audit.containers.source import Readable
from bn_audit.containers.torch_file.storage import Storage, StorageId, item_size, storage_id
from bn_audit.errors import MalformedFileError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


class LegacyStorages:
    """The storages of a legacy file, which its persistent ids describe and its end holds."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._ids: dict[str, StorageId] = {}
        self._offsets: dict[str, int] = {}

    def note(self, value: object) -> object:
        """Return what a persistent id stands for: the class itself for one that carries its source code."""
        if isinstance(value, tuple) and len(value) == 4 and value[0] == "module":
            return value[1]
        found = PersistentId(value)
        identity = storage_id(found, self._source.name)
        if identity is not None:
            # The first mention of a key fixes the element type in which its size is written.
            self._ids.setdefault(identity.key, identity)
        return found

    def locate(self, keys: object, offset: int) -> None:
        """Work out where each storage lies; `offset` is the end of the last pickle."""
        name = self._source.name
        if not isinstance(keys, list):
            raise MalformedFileError(f"{name}: corrupt legacy PyTorch file: the storage keys are no list")
        for key in keys:
            identity = self._ids.get(str(key)) if type(key) in (str, int) else None
            if identity is None:
                raise MalformedFileError(f"{name}: corrupt legacy PyTorch file: a storage key that nothing refers to")
            self._offsets[identity.key] = offset + 8
            offset += 8 + identity.numel * item_size(identity.dtype)
        if offset > self._source.size:
            raise MalformedFileError(
                f"{name}: truncated: its storages end at byte {offset}, the file has {self._source.size} bytes: "
                "copy or download it again"
            )

    def find(self, value: object, name: str) -> Storage | None:
        """Return the storage of a persistent id; None where it is none."""
        identity = storage_id(value, name)
        if identity is None:
            return None
        root = self._ids.get(identity.key)
        offset = self._offsets.get(identity.key)
        if root is None or offset is None:
            raise MalformedFileError(f"{name}: truncated or corrupt: storage {identity.key} is not in the file")
        size = item_size(identity.dtype)
        start, length = 0, root.numel * item_size(root.dtype)
        if identity.view is not None:
            start, length = identity.view[1] * size, identity.view[2] * size
            if start + length > root.numel * item_size(root.dtype):
                raise MalformedFileError(f"{name}: corrupt: a storage lies outside the one that it is a part of")
        return Storage(
            key=f"storage {identity.key}" if not start else f"storage {identity.key} from {start}",
            dtype=identity.dtype,
            size=length,
            big_endian=False,
            read=self._reader(root, offset, start),
        )

    def _reader(self, root: StorageId, offset: int, start: int) -> Callable[[int, int], bytes]:
        def read(position: int, length: int) -> bytes:
            header = self._source.read(offset - 8, 8)
            # Big-endian machines wrote this number, and nothing else, in their own order before torch 1.12.
            if root.numel not in (int.from_bytes(header, "little"), int.from_bytes(header, "big")):
                raise MalformedFileError(
                    f"{self._source.name}: corrupt: storage {root.key} has {int.from_bytes(header, 'little')} elements "
                    f"in one place and {root.numel} in another: copy or download the file again"
                )
            return self._source.read(offset + start + position, length)

        return read


def read_legacy(source: Readable, place: Callable[[int, bool], object] | None = None) -> tuple[object, LegacyStorages]:
    """Return the value of a legacy file and its storages.

    Args:
        place: As for `read_pickle_at`.

    Raises:
        MalformedFileError: it is none, or it is truncated or corrupt.
    """
    magic, position = read_pickle_at(source, 0)
    if magic != MAGIC_NUMBER:
        raise MalformedFileError(f"{source.name}: not a legacy PyTorch file: the magic number is missing")
    protocol, position = read_pickle_at(source, position)
    if protocol != PROTOCOL:
        raise MalformedFileError(f"{source.name}: corrupt legacy PyTorch file: its protocol is not {PROTOCOL}")
    _system, position = read_pickle_at(source, position)
    storages = LegacyStorages(source)
    root, position = read_pickle_at(source, position, persistent=storages.note, place=place)
    keys, position = read_pickle_at(source, position)
    storages.locate(keys, position)
    return root, storages
