"""The text opcodes of pickles, those of protocol 0.

Every function takes the machine, the data and the position after the opcode, and returns the position after its
operand. It reads the whole operand before it changes the machine, so that an opcode whose operand is not at hand yet
(IndexError, struct.error, `Short`) can be run again.

Source of the opcodes: CPython 3.13, ``Lib/pickletools.py``; https://peps.python.org/pep-3154/ and pep-0574.
"""

from __future__ import annotations

import codecs

from bn_audit.containers.inert import Global
from bn_audit.containers.inert_pickle.calls import INSTANCE_COST, call
from bn_audit.containers.inert_pickle.machine import Machine, Opcode
from bn_audit.containers.inert_pickle.operands import decode_python2, decode_text, read_line, read_number


def _int(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos)
    machine.stack.append({b"00": False, b"01": True}[raw] if raw in (b"00", b"01") else read_number(machine, raw))
    return pos


def _long(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos)
    machine.stack.append(read_number(machine, raw.removesuffix(b"L")))
    return pos


def _float(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos, 1024)
    try:
        machine.stack.append(float(raw))
    except ValueError:
        raise machine.malformed("a line holds no number") from None
    return pos


_LONGEST_TEXT_LINE = 16 << 20


def _string(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos, _LONGEST_TEXT_LINE)
    raw = raw.strip()
    if len(raw) < 2 or raw[0] != raw[-1] or raw[0] not in b"\"'":
        raise machine.malformed("a string is not quoted")
    machine.charge(6 * len(raw))
    try:
        machine.stack.append(decode_python2(codecs.escape_decode(raw[1:-1])[0]))
    except ValueError:
        raise machine.malformed("a string has an impossible escape sequence") from None
    return pos


def _unicode(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos, _LONGEST_TEXT_LINE)
    machine.charge(5 * len(raw))
    try:
        machine.stack.append(raw.decode("raw-unicode-escape"))
    except UnicodeDecodeError:
        raise machine.malformed("a string has an impossible escape sequence") from None
    return pos


def _global_name(machine: Machine, data: bytes, pos: int) -> tuple[Global, int]:
    module, pos = read_line(machine, data, pos)
    name, pos = read_line(machine, data, pos)
    return machine.name_of(decode_text(machine, module), decode_text(machine, name)), pos


def _global(machine: Machine, data: bytes, pos: int) -> int:
    name, pos = _global_name(machine, data, pos)
    machine.stack.append(name)
    return pos


def _inst(machine: Machine, data: bytes, pos: int) -> int:
    name, pos = _global_name(machine, data, pos)
    machine.charge(INSTANCE_COST)
    machine.stack.append(call(machine, name, tuple(machine.pop_mark())))
    return pos


def _persid(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos)
    machine.stack.append(machine.persistent(decode_python2(raw)))
    return pos


def _get(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos)
    machine.stack.append(machine.recall(read_number(machine, raw)))
    return pos


def _put(machine: Machine, data: bytes, pos: int) -> int:
    raw, pos = read_line(machine, data, pos)
    machine.remember(read_number(machine, raw), machine.stack[-1])
    return pos


TEXT_OPCODES: dict[str, Opcode] = {
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
}
"""By the symbol of the opcode."""
