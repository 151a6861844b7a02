"""The operands of pickle opcodes: lines, numbers, strings, which may end beyond the data at hand."""

from __future__ import annotations

from bn_audit.containers.inert_pickle.machine import LONG_TEXT, LONG_VALUE, MAX_LINE, Machine, StoredBytes
from bn_audit.errors import LimitExceededError


class Short(Exception):  # noqa: N818 - a signal between the loop and its caller, never an error of the user's
    """The opcode at `at` ends at `end` or later, beyond the data at hand."""

    def __init__(self, end: int, at: int = 0) -> None:
        super().__init__(end)
        self.end = end
        self.at = at


def bytes_at(machine: Machine, data: bytes, start: int, length: int, encoding: str | None) -> bytes | StoredBytes:
    if length >= LONG_VALUE:
        if machine.base is not None and (encoding is None or length >= LONG_TEXT):
            return StoredBytes(machine.base + start, length, encoding)
        if start + length <= len(data):
            machine.charge(length if encoding is None else 5 * length)
    if start + length > len(data):
        raise Short(start + length)
    return data[start : start + length]


def decode_text(machine: Machine, raw: bytes) -> str:
    """Return UTF-8 text as Python 3 writes it, lone surrogates included."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise machine.malformed(f"text is not UTF-8 ({error.reason})") from error


def long_text(machine: Machine, data: bytes, start: int, length: int) -> int:
    """Push the text of `length` bytes at `start`, or where it lies; return the position after it."""
    raw = bytes_at(machine, data, start, length, "utf-8")
    machine.stack.append(decode_text(machine, raw) if type(raw) is bytes else raw)
    return start + length


def decode_python2(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_line(machine: Machine, data: bytes, pos: int, limit: int = MAX_LINE) -> tuple[bytes, int]:
    end = data.find(b"\n", pos, pos + limit)
    if end < 0:
        if len(data) - pos >= limit:
            raise LimitExceededError(f"{machine.name}: the pickle has a line longer than {limit} bytes: not read")
        raise Short(len(data) + 1)
    return data[pos:end], end + 1


def read_number(machine: Machine, raw: bytes) -> int:
    if len(raw) > machine.limits.integer_bytes:
        raise LimitExceededError(f"{machine.name}: the pickle has an integer of {len(raw)} digits: not read")
    try:
        return int(raw, 0)
    except ValueError:
        raise machine.malformed("a line holds no integer") from None
