"""The binary opcodes of pickles that hold a number, a string or bytes.

Every function takes the machine, the data and the position after the opcode, and returns the position after its
operand. It reads the whole operand before it changes the machine, so that an opcode whose operand is not at hand yet
(IndexError, struct.error, `Short`) can be run again.

Source of the opcodes: CPython 3.13, ``Lib/pickletools.py``; https://peps.python.org/pep-3154/ and pep-0574.
"""

from __future__ import annotations

import struct

from bn_audit.containers.inert_pickle.machine import LONG_VALUE, Machine, Opcode
from bn_audit.containers.inert_pickle.operands import Short, bytes_at, decode_python2, long_text
from bn_audit.errors import LimitExceededError

MAX_LENGTH = 1 << 62

_u4 = struct.Struct("<I").unpack_from
_s4 = struct.Struct("<i").unpack_from
_u8 = struct.Struct("<Q").unpack_from


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
    raw = bytes_at(machine, data, start, length, None)
    machine.charge(4 * length if type(raw) is bytes else 0)
    machine.stack.append(decode_python2(raw) if type(raw) is bytes else raw)
    return start + length


def _binstring(machine: Machine, data: bytes, pos: int) -> int:
    return _python2_string(machine, data, pos + 4, _s4(data, pos)[0])


def _short_binstring(machine: Machine, data: bytes, pos: int) -> int:
    return _python2_string(machine, data, pos + 1, data[pos])


def _binbytes_of(machine: Machine, data: bytes, start: int, length: int) -> int:
    raw = bytes_at(machine, data, start, length, None)
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


BINARY_OPCODES: dict[str, Opcode] = {
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
}
"""By the symbol of the opcode."""
