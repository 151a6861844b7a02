"""The central directory of a zip archive, read once and checked as a whole.

The standard library's reader is not used here: it takes five times as long for the thousand members of a large model,
and it reads a directory of any size into memory.

Source of the layout: PKWARE APPNOTE 6.3.10, sections 4.3.12 to 4.3.16 and 4.5.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bn_audit.containers.source import Readable
from bn_audit.errors import LimitExceededError, MalformedFileError

MAX_DIRECTORY_BYTES = 64 << 20
"""Cap on the central directory: 64 MiB hold about half a million members, ten times the largest checkpoint seen."""

STORED = 0
DEFLATED = 8

_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL_HEADER_BYTES = 30
_LONGEST_COMMENT = 0xFFFF
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of an archive; sizes in bytes."""

    name: str
    header_offset: int
    stored_size: int
    size: int
    compression: int


def read_directory(source: Readable) -> dict[str, Member]:
    """Return every member by its whole name, in the archive's order.

    Offsets count from the start of the file, also where something else stands in front of the archive.

    Raises:
        MalformedFileError: truncated or inconsistent; two members of one name, or overlapping ones; an encrypted one.
        LimitExceededError: the directory is larger than `MAX_DIRECTORY_BYTES`.
    """
    try:
        count, start, length, shift = _find_directory(source)
        if length > MAX_DIRECTORY_BYTES:
            raise LimitExceededError(
                f"{source.name}: zip directory of {length} bytes, more than the {MAX_DIRECTORY_BYTES} this tool reads"
            )
        members = _read_entries(source, source.read(start, length), shift)
    except struct.error as error:
        raise _corrupt(source, "its directory breaks off") from error
    if (len(members) - count) % 0x10000:  # writers without zip64 count in 16 bits
        raise _corrupt(source, f"its directory holds {len(members)} members instead of {count}")
    _check_places(source, members, start)
    return members


def directory_range(source: Readable) -> tuple[int, int]:
    """Return (offset, length) of the directory within the file.

    Raises:
        MalformedFileError: truncated or inconsistent.
    """
    try:
        _count, start, length, _shift = _find_directory(source)
    except struct.error as error:
        raise _corrupt(source, "its directory breaks off") from error
    return start, length


def _corrupt(source: Readable, what: str) -> MalformedFileError:
    return MalformedFileError(f"{source.name}: truncated or corrupt zip archive: {what}: copy or download it again")


def _find_directory(source: Readable) -> tuple[int, int, int, int]:
    """Return (members, offset, length) of the directory, and what to add to the offsets in it."""
    tail = source.read(max(source.size - _END.size, 0), min(_END.size, source.size))
    if not (tail.startswith(b"PK\x05\x06") and tail.endswith(b"\x00\x00")):
        tail = source.read(max(source.size - _END.size - _LONGEST_COMMENT, 0), min(0x10015, source.size))
    place = tail.rfind(b"PK\x05\x06")
    if place < 0:
        raise _corrupt(source, "its end is missing")
    _, _, _, _, count, length, offset, _ = _END.unpack_from(tail, place)
    end = source.size - len(tail) + place
    found = _find_directory_64(source, end)
    if found is not None:
        count, length, offset, end = found
    start = end - length
    if start < offset:
        raise _corrupt(source, f"its directory of {length} bytes at {offset} does not fit in {end} bytes")
    return count, start, length, start - offset


def _find_directory_64(source: Readable, end: int) -> tuple[int, int, int, int] | None:
    """Return (members, length, offset) of the directory of a large archive, and where it ends; None without one."""
    place = end - _LOCATOR_64.size - _END_64.size
    if place < 0:
        return None
    raw = source.read(place, _END_64.size + _LOCATOR_64.size)
    if raw[_END_64.size : _END_64.size + 4] != b"PK\x06\x07":
        return None
    signature, _, _, _, _, _, _, count, length, offset = _END_64.unpack_from(raw)
    if signature != b"PK\x06\x06":
        raise _corrupt(source, "its zip64 record is missing")
    return count, length, offset, place


def _read_entries(source: Readable, data: bytes, shift: int) -> dict[str, Member]:
    members: dict[str, Member] = {}
    place = 0
    while place < len(data):
        entry = _ENTRY.unpack_from(data, place)
        signature, _, _, flags, compression, _, _, _, stored, size, name_length, extra_length, comment, *_, offset = (
            entry
        )
        place += _ENTRY.size
        if signature != b"PK\x01\x02" or place + name_length + extra_length + comment > len(data):
            raise _corrupt(source, f"its directory is broken at byte {place - _ENTRY.size}")
        name = data[place : place + name_length].decode("utf-8", "backslashreplace")
        if 0xFFFFFFFF in (stored, size, offset):
            extra = data[place + name_length : place + name_length + extra_length]
            stored, size, offset = _large_sizes(source, extra, stored, size, offset)
        if name in members:
            raise MalformedFileError(f"{source.name}: the archive holds member {name!r} twice: not read")
        if flags & _ENCRYPTED:
            raise MalformedFileError(f"{source.name}: member {name!r} is encrypted: decrypt it first")
        if compression == STORED and stored != size:
            raise _corrupt(source, f"member {name!r} has two sizes")
        members[name] = Member(
            name=name, header_offset=offset + shift, stored_size=stored, size=size, compression=compression
        )
        place += name_length + extra_length + comment
    return members


def _large_sizes(source: Readable, extra: bytes, stored: int, size: int, offset: int) -> tuple[int, int, int]:
    """Return (stored size, size, offset) of a member, those beyond 32 bits from its zip64 extra field."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1 and place + 4 + length <= len(extra):
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, place + 4))
            # The field holds, in this order, only the values that do not fit in the entry itself.
            size, stored, offset = (
                next(values, -1) if value == 0xFFFFFFFF else value for value in (size, stored, offset)
            )
            if min(stored, size, offset) >= 0:
                return stored, size, offset
        place += 4 + length
    raise _corrupt(source, "a large member lacks its size")


def _check_places(source: Readable, members: dict[str, Member], end: int) -> None:
    """Raise an error unless the members lie one after the other in front of the directory."""
    before = 0
    for member in sorted(members.values(), key=lambda member: member.header_offset):
        if member.header_offset < before:
            raise MalformedFileError(f"{source.name}: member {member.name!r} overlaps another one: not read")
        before = member.header_offset + _LOCAL_HEADER_BYTES + member.stored_size
    if before > end:
        raise _corrupt(source, f"its members end at byte {before}, beyond its directory at {end}")
