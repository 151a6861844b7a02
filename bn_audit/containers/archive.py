"""Zip archives read in ranges: the directory once, then only the members that are asked for.

Source of the layout: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local file header) and 4.4.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from bn_audit.containers.archive_directory import DEFLATED, STORED, Member, read_directory
from bn_audit.containers.byte_range import ByteRange, range_of_bytes, range_of_source
from bn_audit.containers.source import Readable
from bn_audit.errors import LimitExceededError, MalformedFileError

__all__ = ["Archive", "Member"]

MAX_INFLATED_BYTES = 64 << 20
"""Cap on a compressed member: it has to be inflated in memory; PyTorch itself compresses nothing."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


class Archive:
    """A zip archive: a file, or stored within another one.

    Attributes:
        members: Every member by its whole name, in the archive's order.
        root: The directory of the first member, with its slash; ``""`` where it is in none. PyTorch finds the root of
            its archives like this, and they may hold something else beside it.
    """

    def __init__(self, source: Readable) -> None:
        self.source = source
        self.members: Mapping[str, Member] = read_directory(source)
        first = next(iter(self.members), "")
        self.root = first[: first.find("/") + 1]

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str, *, limit: int) -> bytes:
        """Return the content of a member.

        Raises:
            MalformedFileError: there is no such member, or it is damaged.
            LimitExceededError: it is larger than `limit` bytes, or inflates to more than `MAX_INFLATED_BYTES`.
        """
        member = self._member(name)
        self._check_size(member, limit if member.compression == STORED else min(limit, MAX_INFLATED_BYTES))
        data = self.source.read(self._data_offset(member), member.stored_size)
        if member.compression == STORED:
            return data
        if member.compression != DEFLATED:
            raise MalformedFileError(
                f"{self.source.name}: member {name!r} is compressed with zip method {member.compression}: "
                "pack the file anew"
            )
        return _inflate(data, member, self.source.name)

    def range_of(self, name: str, *, limit: int) -> ByteRange:
        """Return the content of a member as a file of its own: read on demand where it is not compressed.

        Raises:
            MalformedFileError, LimitExceededError: as for `read`.
        """
        member = self._member(name)
        called = f"{self.source.name}: {name}"
        if member.compression != STORED:
            return range_of_bytes(called, self.read(name, limit=limit))
        self._check_size(member, limit)
        return range_of_source(self.source, *self.stored_range(name), name=called)

    def stored_range(self, name: str) -> tuple[int, int]:
        """Return (offset, length) of the bytes of an uncompressed member within the file.

        Raises:
            MalformedFileError: there is no such member, or it is compressed.
        """
        member = self._member(name)
        if member.compression != STORED:
            raise MalformedFileError(
                f"{self.source.name}: member {name!r} is compressed, but tensors are stored: pack the file anew"
            )
        return self._data_offset(member), member.size

    def _member(self, name: str) -> Member:
        try:
            return self.members[name]
        except KeyError:
            raise MalformedFileError(
                f"{self.source.name}: truncated or corrupt: the archive has no member {name!r}: "
                "copy or download it again"
            ) from None

    def _check_size(self, member: Member, limit: int) -> None:
        size = max(member.size, member.stored_size)
        if size > limit:
            raise LimitExceededError(
                f"{self.source.name}: member {member.name!r} has {size} bytes, more than the {limit} this tool reads"
            )

    def _data_offset(self, member: Member) -> int:
        raw = self.source.read(member.header_offset, _LOCAL_HEADER.size)
        signature, *_, name_length, extra_length = _LOCAL_HEADER.unpack(raw)
        if signature != b"PK\x03\x04":
            raise MalformedFileError(
                f"{self.source.name}: corrupt zip archive: member {member.name!r} has no header: "
                "copy or download it again"
            )
        return int(member.header_offset + _LOCAL_HEADER.size + name_length + extra_length)


def _inflate(data: bytes, member: Member, source_name: str) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data, member.size + 1)
    except zlib.error as error:
        raise MalformedFileError(
            f"{source_name}: member {member.name!r} is damaged ({error}): copy or download the file again"
        ) from error
    if len(content) != member.size:
        raise MalformedFileError(
            f"{source_name}: member {member.name!r} inflates to another size than the {member.size} bytes it declares: "
            "not read"
        )
    return content
