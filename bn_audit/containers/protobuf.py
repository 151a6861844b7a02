"""Protocol-buffer messages read from a file by tables of field numbers; large fields are skipped, not read.

Source: the encoding guide of Protocol Buffers (protobuf.dev/programming-guides/encoding), wire types 0, 1, 2 and 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from bn_audit.containers.source import Readable
from bn_audit.errors import LimitExceededError, MalformedFileError

MAX_DEPTH = 100
"""As deep as the readers of Google's libraries follow messages within messages."""

MAX_FIELDS = 10_000_000
"""Cap on the fields looked at in one file, some ten seconds; a graph of 5 000 nodes with all its notes has 150 000."""

MAX_KEPT = 4_000_000
"""Cap on the fields kept from one file, about a gigabyte of memory; the same graph keeps 90 000."""

MAX_MESSAGES = 1_500_000
"""Cap on the messages of one file, some ten seconds; the same graph has 50 000."""

MAX_TEXT_BYTES = 1 << 16
"""Longest text that is kept; the longest names seen have some hundred bytes."""

MAX_NUMBERS = 1 << 16
"""Longest list of numbers that is kept; a list of strides or axes has some ten."""

_WINDOW_BYTES = 1 << 12
_MAX_WINDOW_BYTES = 1 << 20
_MAX_HEADER_BYTES = 20
"""A tag and a varint have at most ten bytes each."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the file that were not read."""

    offset: int
    length: int


class Kind(Enum):
    """How a field's bytes are understood."""

    INTEGER = "integer"
    """A varint, of two's complement where negative."""
    FLOAT = "float"
    """Four bytes."""
    DOUBLE = "double"
    """Eight bytes."""
    TEXT = "text"
    """UTF-8; longer than `MAX_TEXT_BYTES` is an error."""
    NOTE = "note"
    """UTF-8; longer than `MAX_TEXT_BYTES` is left out."""
    BYTES = "bytes"
    """As they are; longer than `MAX_TEXT_BYTES` is left out."""
    SPAN = "span"
    """Bytes that stay in the file, or the packed form of a list of numbers."""


@dataclass(slots=True, kw_only=True, eq=False)
class MessageType:
    """A kind of message.

    Attributes:
        name: For messages to the user.
        fields: Name and kind of each field to keep, by number; every other field is skipped. Filled later where types
            contain each other.
        build: Makes a plain value out of the fields that were found.
        skips: Returns whether a short message is of no use, told from its bytes; None: none is. For messages that are
            many and mostly of no use.
    """

    name: str
    build: Callable[[Fields], object]
    skips: Callable[[bytes], bool] | None = None
    fields: dict[int, tuple[str, Kind | MessageType]] = field(default_factory=dict)


Fields: TypeAlias = Mapping[str, list[object]]
"""The values of each field in the order of the file; a field that does not occur has no entry."""


class ProtobufReader:
    """Reads messages of one file, in growing windows that skip what is not kept."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._buffer = b""
        self._start = 0
        self._window = _WINDOW_BYTES
        self._seen = 0
        self._kept = 0
        self._messages = 0

    def message(self, kind: MessageType, offset: int, length: int, depth: int = 0) -> object:
        """Return what `kind` builds out of the message in these bytes of the file.

        Raises:
            MalformedFileError: the bytes are no such message.
            LimitExceededError: it is deeper or larger than what is read here.
        """
        self._messages += 1
        if depth > MAX_DEPTH:
            raise LimitExceededError(f"{self._source.name}: messages nested deeper than {MAX_DEPTH} are not read")
        if self._messages > MAX_MESSAGES:
            raise LimitExceededError(f"{self._source.name}: more than {MAX_MESSAGES} messages are not read")
        found: dict[str, list[object]] = {}
        position, end = offset, offset + length
        while position < end:
            number, wire, value, position = self.field(position, end)
            entry = kind.fields.get(number)
            if entry is None:
                continue
            name, expected = entry
            skips = expected.skips if type(expected) is MessageType and wire == 2 else None
            if skips is not None and value <= MAX_TEXT_BYTES and skips(self._bytes(position - value, value)):
                continue
            values = found.setdefault(name, [])
            self._kept += 1
            if self._kept > MAX_KEPT:
                raise LimitExceededError(f"{self._source.name}: more than {MAX_KEPT} fields are not read")
            if type(expected) is MessageType and wire == 2:
                values.append(self.message(expected, position - value, value, depth + 1))
            else:
                self._append(values, expected, wire, value, position, f"{name} of a {kind.name}")
            if len(values) > MAX_NUMBERS and type(values[-1]) in (int, float):
                # A list of numbers this long belongs to an operator that is not followed.
                return kind.build({**found, name: values[:1], OVERLONG: [name]})
        return kind.build(found)

    def field(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Return (field number, wire type, value, position after it) of the field at a position.

        The value is a varint's, a fixed field's bits, or the length of a field of bytes, which lie before the position
        after it.
        """
        self._seen += 1
        if self._seen > MAX_FIELDS:
            raise LimitExceededError(f"{self._source.name}: more than {MAX_FIELDS} fields are not read")
        index = position - self._start
        if index < 0 or index + _MAX_HEADER_BYTES > len(self._buffer):
            index = self._fill(position, _MAX_HEADER_BYTES)
        buffer = self._buffer
        try:
            tag = buffer[index]
            index += 1
            if tag >= 0x80:
                tag, index = self._varint(index - 1)
            wire = tag & 7
            if wire == 0 or wire == 2:
                value = buffer[index]
                index += 1
                if value >= 0x80:
                    value, index = self._varint(index - 1)
                after = self._start + index + (value if wire == 2 else 0)
            elif wire == 5 or wire == 1:
                size = 4 if wire == 5 else 8
                value = int.from_bytes(buffer[index : index + size], "little")
                after = self._start + index + size
            else:
                raise self._error(position, f"wire type {wire}")
        except IndexError:
            raise self._error(position, "a field that is cut off") from None
        if after > end or tag < 8:
            raise self._error(position, f"field {tag >> 3} of {after - position} bytes where {end - position} are left")
        return tag >> 3, wire, value, after

    def text(self, offset: int, length: int) -> str:
        """Return UTF-8 text; bytes that are none are shown as escapes, so that different texts stay different."""
        return self._bytes(offset, length).decode("utf-8", "backslashreplace")

    def _bytes(self, offset: int, length: int) -> bytes:
        index = offset - self._start
        if index < 0 or index + length > len(self._buffer):
            index = self._fill(offset, length)
        return self._buffer[index : index + length]

    def _append(
        self, values: list[object], expected: Kind | MessageType, wire: int, value: int, after: int, what: str
    ) -> None:
        if wire == 2 and expected in (Kind.TEXT, Kind.NOTE):
            if value <= MAX_TEXT_BYTES:
                values.append(self.text(after - value, value))
            elif expected is Kind.TEXT:
                raise LimitExceededError(f"{self._source.name}: {what} of {value} bytes is not read")
        elif wire == 2 and expected is Kind.BYTES:
            if value <= MAX_TEXT_BYTES:
                values.append(self._bytes(after - value, value))
        elif wire == 2 and expected is Kind.SPAN:
            values.append(Span(after - value, value))
        elif wire == 2 and type(expected) is Kind:
            self._unpack(values, expected, after - value, value)
        elif wire == 0 and expected is Kind.INTEGER:
            values.append(value if value < 1 << 63 else value - (1 << 64))
        elif wire == 5 and expected is Kind.FLOAT:
            values.append(struct.unpack("<f", value.to_bytes(4, "little"))[0])
        elif wire == 1 and expected is Kind.DOUBLE:
            values.append(struct.unpack("<d", value.to_bytes(8, "little"))[0])
        elif expected is Kind.SPAN:
            # A number of a list that is not packed: kept as bits, for its reader to make sense of.
            values.append(value)
        else:
            raise self._error(after, f"wire type {wire} for {what}")

    def _unpack(self, values: list[object], expected: Kind, offset: int, length: int) -> None:
        """Append the numbers of a packed list."""
        if length > 10 * MAX_NUMBERS:
            values.extend([0] * (MAX_NUMBERS + 1))
            return
        data = self._source.read(offset, length)
        self._kept += length // 4
        if expected is Kind.INTEGER:
            values.extend(varints(data, self._source.name))
            return
        code, size = ("f", 4) if expected is Kind.FLOAT else ("d", 8)
        if length % size:
            raise self._error(offset, f"a list of {length} bytes")
        values.extend(struct.unpack(f"<{length // size}{code}", data))

    def _varint(self, index: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._buffer[index]
            index += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, index
            shift += 7
            if shift > 63:
                raise self._error(self._start + index, "a number of more than ten bytes")

    def _fill(self, position: int, needed: int) -> int:
        """Read the window that begins at a position and return the position's index in it."""
        follows = self._start <= position <= self._start + len(self._buffer)
        self._window = min(2 * self._window, _MAX_WINDOW_BYTES) if follows else _WINDOW_BYTES
        left = max(self._source.size - position, 0)
        self._buffer = self._source.read(position, min(max(self._window, needed), left))
        self._start = position
        return 0

    def _error(self, position: int, what: str) -> MalformedFileError:
        return MalformedFileError(
            f"{self._source.name}: truncated or corrupt: {what} at byte {position}: copy or download it again"
        )


OVERLONG = "overlong"
"""Entry of `Fields` that names a list of which not everything was kept."""


def varints(data: bytes, name: str) -> list[int]:
    """Return the numbers of a packed list, of two's complement where negative.

    Raises:
        MalformedFileError: the last one is cut off, or one is too long.
    """
    values = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= 0xFFFF_FFFF_FFFF_FFFF
            values.append(value if value < 1 << 63 else value - (1 << 64))
            value = shift = 0
        else:
            shift += 7
            if shift > 63:
                raise MalformedFileError(f"{name}: truncated or corrupt: a number of more than ten bytes")
    if shift:
        raise MalformedFileError(f"{name}: truncated or corrupt: a list of numbers is cut off")
    return values


def numbers(fields: Fields, name: str) -> tuple[int, ...]:
    """Return the integers of a field."""
    return tuple(value for value in fields.get(name, ()) if isinstance(value, int))


def number(fields: Fields, name: str) -> int | None:
    """Return the last integer of a field, which is the one that counts; None where there is none."""
    return next((value for value in reversed(fields.get(name, [])) if isinstance(value, int)), None)


def texts(fields: Fields, name: str) -> tuple[str, ...]:
    """Return the texts of a field."""
    return tuple(value for value in fields.get(name, ()) if isinstance(value, str))


def text(fields: Fields, name: str) -> str:
    """Return the last text of a field; ``""`` where there is none."""
    return next((value for value in reversed(fields.get(name, [])) if isinstance(value, str)), "")
