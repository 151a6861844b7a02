"""Zip archives read in ranges: the directory once, then only the members that are asked for.

Source of the layout: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local file header) and 4.4.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from bn_audit.containers.byte_range import ByteRange, range_of_bytes, range_of_source
from bn_audit.containers.source import Readable, SourceStream
from bn_audit.errors import LimitExceededError, MalformedFileError

MAX_DIRECTORY_BYTES = 64 << 20
"""Cap on the central directory: 64 MiB hold about half a million members, ten times the largest checkpoint seen."""

MAX_INFLATED_BYTES = 64 << 20
"""Cap on a compressed member: it has to be inflated in memory; PyTorch itself compresses nothing."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of an archive; sizes in bytes."""

    name: str
    header_offset: int
    stored_size: int
    size: int
    compression: int


class Archive:
    """A zip archive: a file, or stored within another one.

    Attributes:
        members: Every member by its whole name, in the archive's order.
        root: The directory that all members share, with its slash; ``""`` where they share none.
    """

    def __init__(self, source: Readable) -> None:
        self.source = source
        self.members: Mapping[str, Member] = _read_directory(source)
        self.root = _shared_root(self.members)

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str, *, limit: int) -> bytes:
        """Return the content of a member.

        Raises:
            MalformedFileError: there is no such member, or it is damaged or encrypted.
            LimitExceededError: it is larger than `limit` bytes, as declared or when inflated.
        """
        member = self._member(name)
        self._check_size(member, limit)
        data = self.source.read(self._data_offset(member), member.stored_size)
        if member.compression == zipfile.ZIP_STORED:
            return data
        if member.compression != zipfile.ZIP_DEFLATED:
            raise MalformedFileError(
                f"{self.source.name}: member {name} uses zip compression method {member.compression}, which is not read"
            )
        return _inflate(data, member, self.source.name)

    def range_of(self, name: str, *, limit: int) -> ByteRange:
        """Return the content of a member as a file of its own: read on demand where it is stored uncompressed.

        Raises:
            MalformedFileError, LimitExceededError: as for `read`.
        """
        member = self._member(name)
        self._check_size(member, limit)
        called = f"{self.source.name}: {name}"
        if member.compression == zipfile.ZIP_STORED:
            return range_of_source(self.source, *self.stored_range(name), name=called)
        return range_of_bytes(called, self.read(name, limit=min(limit, MAX_INFLATED_BYTES)))

    def stored_range(self, name: str) -> tuple[int, int]:
        """Return (offset, length) of the bytes of an uncompressed member within the file.

        Raises:
            MalformedFileError: there is no such member, or it is compressed.
        """
        member = self._member(name)
        if member.compression != zipfile.ZIP_STORED:
            raise MalformedFileError(
                f"{self.source.name}: member {name} is compressed, but tensors are stored: pack the file anew"
            )
        return self._data_offset(member), member.size

    def _member(self, name: str) -> Member:
        try:
            return self.members[name]
        except KeyError:
            raise MalformedFileError(
                f"{self.source.name}: truncated or corrupt: the archive has no member {name}"
            ) from None

    def _check_size(self, member: Member, limit: int) -> None:
        if max(member.size, member.stored_size) > limit:
            raise LimitExceededError(
                f"{self.source.name}: member {member.name} has {max(member.size, member.stored_size)} bytes, "
                f"more than the {limit} this tool reads"
            )

    def _data_offset(self, member: Member) -> int:
        raw = self.source.read(member.header_offset, _LOCAL_HEADER.size)
        signature, _version, _flags, _method, _time, _date, _crc, _stored, _size, name_length, extra_length = (
            _LOCAL_HEADER.unpack(raw)
        )
        if signature != b"PK\x03\x04":
            raise MalformedFileError(f"{self.source.name}: corrupt zip archive: no header for member {member.name}")
        return int(member.header_offset + _LOCAL_HEADER.size + name_length + extra_length)


def _read_directory(source: Readable) -> dict[str, Member]:
    try:
        # zipfile reads the whole directory at once: refuse one that is absurdly large before it does.
        tail = source.read(max(source.size - 22, 0), min(22, source.size))
        if tail[:4] == b"PK\x05\x06" and MAX_DIRECTORY_BYTES < int.from_bytes(tail[12:16], "little") < 0xFFFFFFFF:
            raise LimitExceededError(f"{source.name}: zip directory of more than {MAX_DIRECTORY_BYTES} bytes")
        with zipfile.ZipFile(SourceStream(source)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, struct.error) as error:
        raise MalformedFileError(
            f"{source.name}: truncated or corrupt zip archive ({error}): copy or download it again"
        ) from error
    members: dict[str, Member] = {}
    for info in infos:
        if info.orig_filename in members:
            raise MalformedFileError(f"{source.name}: the archive holds member {info.orig_filename!r} twice: not read")
        if info.flag_bits & _ENCRYPTED:
            raise MalformedFileError(f"{source.name}: member {info.orig_filename!r} is encrypted: not read")
        members[info.orig_filename] = Member(
            name=info.orig_filename,
            header_offset=info.header_offset,
            stored_size=info.compress_size,
            size=info.file_size,
            compression=info.compress_type,
        )
    return members


def _shared_root(members: Mapping[str, Member]) -> str:
    roots = {name.partition("/")[0] if "/" in name else "" for name in members}
    only = roots.pop() if len(roots) == 1 else ""
    return f"{only}/" if only else ""


def _inflate(data: bytes, member: Member, source_name: str) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data, member.size + 1)
    except zlib.error as error:
        raise MalformedFileError(f"{source_name}: member {member.name} is damaged ({error})") from error
    if len(content) != member.size:
        raise MalformedFileError(
            f"{source_name}: member {member.name} inflates to another size than the {member.size} bytes it declares"
        )
    return content
