"""A part of a file, or bytes in memory, that is read like a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bn_audit.containers.source import Readable
from bn_audit.errors import MalformedFileError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ByteRange:
    """Bytes that are read in ranges.

    Attributes:
        name: How messages call them.
        size: Number of bytes.
        fetch: Returns (offset, length) bytes; the range is checked by `read`.
    """

    name: str
    size: int
    fetch: Callable[[int, int], bytes]

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises:
            MalformedFileError: the range does not lie within these bytes.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise MalformedFileError(
                f"{self.name}: truncated or corrupt: bytes {offset} to {offset + length} are needed, "
                f"there are {self.size}: copy or download it again"
            )
        return self.fetch(offset, length)


def range_of_source(source: Readable, offset: int, length: int, *, name: str | None = None) -> ByteRange:
    """Return the `length` bytes from `offset` of a file as a file of their own."""
    if offset < 0 or length < 0 or offset + length > source.size:
        raise MalformedFileError(
            f"{source.name}: truncated or corrupt: bytes {offset} to {offset + length} are missing"
        )
    return ByteRange(
        name=name or source.name, size=length, fetch=lambda start, count: source.read(offset + start, count)
    )


def range_of_bytes(name: str, data: bytes) -> ByteRange:
    """Return bytes in memory as a file."""
    return ByteRange(name=name, size=len(data), fetch=lambda start, count: data[start : start + count])
