"""A copy of a file with single bytes replaced; in a zip archive with the checksums that belong to them.

Source of the layout: PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.12.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from bn_audit.containers.archive import Archive
from bn_audit.containers.archive_directory import directory_range
from bn_audit.containers.source import Source
from bn_audit.errors import MalformedFileError

_CHUNK = 1 << 20
_DESCRIPTOR_FLAG = 0x8
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")


def write_patched(source: Source, archive: Archive | None, patches: Mapping[int, bytes], path: Path) -> None:
    """Write a copy of `source` with the bytes at each offset replaced; it appears at `path` when it is whole.

    Raises:
        MalformedFileError: the archive's checksums are not where they belong.
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(source.path, partial)
        with partial.open("r+b") as stream:
            for offset, data in patches.items():
                stream.seek(offset)
                stream.write(data)
            if archive is not None:
                _correct_checksum(stream, source, archive, f"{archive.root}data.pkl")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _correct_checksum(stream: BinaryIO, source: Source, archive: Archive, name: str) -> None:
    """Put the checksum of a member's new bytes wherever the archive keeps that of the old ones."""
    member = archive.members[name]
    start, length = archive.stored_range(name)
    checksum = struct.pack("<I", _checksum(stream, start, length))
    stream.seek(member.header_offset)
    _signature, _version, flags, *_ = _LOCAL.unpack(stream.read(_LOCAL.size))
    if flags & _DESCRIPTOR_FLAG:
        stream.seek(start + length)
        has_signature = stream.read(4) == b"PK\x07\x08"
        stream.seek(start + length + (4 if has_signature else 0))
        stream.write(checksum)
    else:
        stream.seek(member.header_offset + 14)
        stream.write(checksum)
    stream.seek(_central_entry(source, name) + 16)
    stream.write(checksum)


def _checksum(stream: BinaryIO, start: int, length: int) -> int:
    stream.seek(start)
    checksum = 0
    while length:
        data = stream.read(min(_CHUNK, length))
        if not data:
            break
        checksum = zlib.crc32(data, checksum)
        length -= len(data)
    return checksum


def _central_entry(source: Source, name: str) -> int:
    """Return the position of a member's entry in the directory."""
    start, length = directory_range(source)
    data = source.read(start, length)
    place = 0
    while place + _CENTRAL.size <= len(data):
        fields = _CENTRAL.unpack_from(data, place)
        name_length, extra, comment = fields[10:13]
        begin = place + _CENTRAL.size
        if data[begin : begin + name_length].decode("utf-8", "backslashreplace") == name:
            return start + place
        place = begin + name_length + extra + comment
    raise MalformedFileError(f"{source.name}: the entry of {name} is not in the archive's directory: save it again")
