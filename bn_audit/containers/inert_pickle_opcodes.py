"""The rarer pickle opcodes, one function each; the frequent ones are in the loop itself.

Every function takes the machine, the data and the position after the opcode, and returns the position after its
operand. It reads the whole operand before it changes the machine, so that an opcode whose operand is not at hand yet
(IndexError, struct.error, `Short`) can be run again.

Source of the opcodes: CPython 3.13, ``Lib/pickletools.py``; https://peps.python.org/pep-3154/ and pep-0574.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable

from bn_audit.containers.inert import Global
from bn_audit.containers.inert_pickle_calls import append, assign, call, create
from bn_audit.containers.inert_pickle_machine import LONG_VALUE, MAX_LINE, Machine, StoredBytes
from bn_audit.errors import LimitExceededError

Opcode = Callable[[Machine, bytes, int], int]

MAX_LENGTH = 1 << 62


class Short(Exception):  # noqa: N818 - a signal between the loop and its caller, never an error of the user's
    """The opcode at `at` ends at `end` or later, beyond the data at hand."""

    def __init__(self, end: int, at: int = 0) -> None:
        super().__init__(end)
        self.end = end
        self.at = at


_u2 = struct.Struct("<H").unpack_from
_u4 = struct.Struct("<I").unpack_from
_s4 = struct.Struct("<i").unpack_from
_u8 = struct.Struct("<Q").unpack_from


def _bytes_at(machine: Machine, data: bytes, start: int, length: int, encoding: str | None) -> bytes | StoredBytes:
    if length >= LONG_VALUE:
        if machine.base is not None:
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
    raw = _bytes_at(machine, data, start, length, "utf-8")
    machine.stack.append(decode_text(machine, raw) if type(raw) is bytes else raw)
    return start + length


def _decode_python2(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _line(machine: Machine, data: bytes, pos: int, limit: int = MAX_LINE) -> tuple[bytes, int]:
    end = data.find(b"\n", pos, pos + limit)
    if end < 0:
        if len(data) - pos >= limit:
            raise LimitExceededError(f"{machine.name}: the pickle has a line longer than {limit} bytes: not read")
        raise Short(len(data) + 1)
    return data[pos:end], end + 1


def _number(machine: Machine, raw: bytes) -> int:
    if len(raw) > machine.limits.integer_bytes:
        raise LimitExceededError(f"{machine.name}: the pickle has an integer of {len(raw)} digits: not read")
    try:
        return int(raw, 0)
    except ValueError:
        raise machine.malformed("a line holds no integer") from None


# Text opcodes (protocol 0) -------------------------------------------------------------------------------------------


def _int(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos)
    machine.stack.append({b"00": False, b"01": True}[raw] if raw in (b"00", b"01") else _number(machine, raw))
    return pos


def _long(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos)
    machine.stack.append(_number(machine, raw.removesuffix(b"L")))
    return pos


def _float(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos, 1024)
    try:
        machine.stack.append(float(raw))
    except ValueError:
        raise machine.malformed("a line holds no number") from None
    return pos


_LONGEST_TEXT_LINE = 16 << 20


def _string(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos, _LONGEST_TEXT_LINE)
    raw = raw.strip()
    if len(raw) < 2 or raw[0] != raw[-1] or raw[0] not in b"\"'":
        raise machine.malformed("a string is not quoted")
    machine.charge(6 * len(raw))
    try:
        machine.stack.append(_decode_python2(codecs.escape_decode(raw[1:-1])[0]))
    except ValueError:
        raise machine.malformed("a string has an impossible escape sequence") from None
    return pos


def _unicode(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos, _LONGEST_TEXT_LINE)
    machine.charge(5 * len(raw))
    try:
        machine.stack.append(raw.decode("raw-unicode-escape"))
    except UnicodeDecodeError:
        raise machine.malformed("a string has an impossible escape sequence") from None
    return pos


def _global_name(machine: Machine, data: bytes, pos: int) -> tuple[Global, int]:
    module, pos = _line(machine, data, pos)
    name, pos = _line(machine, data, pos)
    return machine.name_of(decode_text(machine, module), decode_text(machine, name)), pos


def _global(machine: Machine, data: bytes, pos: int) -> int:
    name, pos = _global_name(machine, data, pos)
    machine.stack.append(name)
    return pos


def _inst(machine: Machine, data: bytes, pos: int) -> int:
    name, pos = _global_name(machine, data, pos)
    machine.stack.append(call(machine, name, tuple(machine.pop_mark())))
    return pos


def _persid(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos)
    machine.stack.append(machine.persistent(_decode_python2(raw)))
    return pos


def _get(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos)
    machine.stack.append(machine.recall(_number(machine, raw)))
    return pos


def _put(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = _line(machine, data, pos)
    machine.remember(_number(machine, raw), machine.stack[-1])
    return pos


# Binary values -------------------------------------------------------------------------------------------------------


def _long_of(machine: Machine, data: bytes, start: int, length: int) -> int:
    if not 0 <= length <= machine.limits.integer_bytes:
        raise LimitExceededError(f"{machine.name}: the pickle has an integer of {length} bytes: not read")
    if start + length > len(data):
        raise Short(start + length)
    machine.charge(2 * length)
    machine.stack.append(int.from_bytes(data[start : start + length], "little", signed=True))
    return start + length


def _long1(machine: Machine, data: bytes, pos: int) -> int:
    return _long_of(machine, data, pos + 1, data[pos])


def _long4(machine: Machine, data: bytes, pos: int) -> int:
    return _long_of(machine, data, pos + 4, _s4(data, pos)[0])


def _python2_string(machine: Machine, data: bytes, start: int, length: int) -> int:
    if length < 0:
        raise machine.malformed("a string has a negative length")
    raw = _bytes_at(machine, data, start, length, None)
    machine.charge(4 * length if type(raw) is bytes else 0)
    machine.stack.append(_decode_python2(raw) if type(raw) is bytes else raw)
    return start + length


def _binstring(machine: Machine, data: bytes, pos: int) -> int:
    return _python2_string(machine, data, pos + 4, _s4(data, pos)[0])


def _short_binstring(machine: Machine, data: bytes, pos: int) -> int:
    return _python2_string(machine, data, pos + 1, data[pos])


def _binbytes_of(machine: Machine, data: bytes, start: int, length: int) -> int:
    raw = _bytes_at(machine, data, start, length, None)
    machine.charge(length if length < LONG_VALUE else 0)
    machine.stack.append(raw)
    return start + length


def _short_binbytes(machine: Machine, data: bytes, pos: int) -> int:
    return _binbytes_of(machine, data, pos + 1, data[pos])


def _binbytes(machine: Machine, data: bytes, pos: int) -> int:
    return _binbytes_of(machine, data, pos + 4, _u4(data, pos)[0])


def _length8(machine: Machine, data: bytes, pos: int) -> int:
    length = int(_u8(data, pos)[0])
    if length > MAX_LENGTH:
        raise machine.malformed(f"a value claims {length} bytes")
    return length


def _binbytes8(machine: Machine, data: bytes, pos: int) -> int:
    return _binbytes_of(machine, data, pos + 8, _length8(machine, data, pos))


def _bytearray8(machine: Machine, data: bytes, pos: int) -> int:
    pos = _binbytes_of(machine, data, pos + 8, _length8(machine, data, pos))
    raw = machine.stack[-1]
    if type(raw) is bytes:
        machine.charge(len(raw))
        machine.stack[-1] = bytearray(raw)
    return pos


def _binunicode8(machine: Machine, data: bytes, pos: int) -> int:
    length = _length8(machine, data, pos)
    if length < LONG_VALUE:
        machine.charge(4 * length)
    return long_text(machine, data, pos + 8, length)


def _buffer(machine: Machine, _data: bytes, _pos: int) -> int:
    raise machine.malformed("it needs out-of-band buffers, which no file holds")


# Containers and the stack --------------------------------------------------------------------------------------------


def _pop(machine: Machine, _data: bytes, pos: int) -> int:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()
    return pos


def _pop_mark(machine: Machine, _data: bytes, pos: int) -> int:
    machine.pop_mark()
    return pos


def _dup(machine: Machine, _data: bytes, pos: int) -> int:
    machine.stack.append(machine.stack[-1])
    return pos


def _list(machine: Machine, _data: bytes, pos: int) -> int:
    machine.stack.append(machine.pop_mark())
    return pos


def _dict(machine: Machine, _data: bytes, pos: int) -> int:
    made: dict[object, object] = {}
    machine.charge(200)
    machine.fill(made, machine.pop_mark())
    machine.stack.append(made)
    return pos


def _setitem(machine: Machine, _data: bytes, pos: int) -> int:
    value = machine.stack.pop()
    key = machine.stack.pop()
    assign(machine, machine.stack[-1], [key, value])
    return pos


def _empty_set(machine: Machine, _data: bytes, pos: int) -> int:
    machine.charge(300)
    machine.stack.append(set())
    return pos


def _additems(machine: Machine, _data: bytes, pos: int) -> int:
    values = machine.pop_mark()
    append(machine, machine.stack[-1], values)
    return pos


def _frozenset(machine: Machine, _data: bytes, pos: int) -> int:
    values = machine.pop_mark()
    machine.charge(300 + 100 * len(values))
    machine.stack.append(frozenset(map(machine.key, values)))
    return pos


# Names, calls, persistent ids ----------------------------------------------------------------------------------------


def _stack_global(machine: Machine, _data: bytes, pos: int) -> int:
    name = machine.stack.pop()
    machine.stack[-1] = machine.name_of(machine.stack[-1], name)
    return pos


def _obj(machine: Machine, _data: bytes, pos: int) -> int:
    values = machine.pop_mark()
    if not values:
        raise machine.malformed("an object has no class")
    machine.stack.append(call(machine, values[0], tuple(values[1:])))
    return pos


def _newobj_ex(machine: Machine, _data: bytes, pos: int) -> int:
    kwargs = machine.stack.pop()
    args = machine.stack.pop()
    machine.stack[-1] = create(machine, machine.stack[-1], args, kwargs)
    return pos


def _extension(machine: Machine, code: int) -> None:
    machine.stack.append(machine.name_of("copyreg", f"extension 0x{code:x}"))


def _ext1(machine: Machine, data: bytes, pos: int) -> int:
    _extension(machine, data[pos])
    return pos + 1


def _ext2(machine: Machine, data: bytes, pos: int) -> int:
    _extension(machine, _u2(data, pos)[0])
    return pos + 2


def _ext4(machine: Machine, data: bytes, pos: int) -> int:
    _extension(machine, _u4(data, pos)[0])
    return pos + 4


def _proto(machine: Machine, data: bytes, pos: int) -> int:
    if data[pos] > 5:
        raise machine.malformed(f"protocol {data[pos]} is unknown, the highest is 5")
    return pos + 1


def _frame(_machine: Machine, data: bytes, pos: int) -> int:
    _u8(data, pos)
    return pos + 8


OPCODES: dict[int, Opcode] = {
    ord(symbol): function
    for symbol, function in {
        "I": _int,
        "L": _long,
        "F": _float,
        "S": _string,
        "V": _unicode,
        "c": _global,
        "i": _inst,
        "P": _persid,
        "g": _get,
        "p": _put,
        "\x8a": _long1,
        "\x8b": _long4,
        "T": _binstring,
        "U": _short_binstring,
        "C": _short_binbytes,
        "B": _binbytes,
        "\x8e": _binbytes8,
        "\x96": _bytearray8,
        "\x8d": _binunicode8,
        "\x97": _buffer,
        "\x98": _buffer,
        "0": _pop,
        "1": _pop_mark,
        "2": _dup,
        "l": _list,
        "d": _dict,
        "s": _setitem,
        "\x8f": _empty_set,
        "\x90": _additems,
        "\x91": _frozenset,
        "\x93": _stack_global,
        "o": _obj,
        "\x92": _newobj_ex,
        "\x82": _ext1,
        "\x83": _ext2,
        "\x84": _ext4,
        "\x80": _proto,
        "\x95": _frame,
    }.items()
}
"""The opcodes that the loop hands over, by their byte."""
