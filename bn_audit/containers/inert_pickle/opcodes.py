"""The rarer opcodes of pickles, one function each; the frequent ones are in the loop itself.

Every function takes the machine, the data and the position after the opcode, and returns the position after its
operand. It reads the whole operand before it changes the machine, so that an opcode whose operand is not at hand yet
(IndexError, struct.error, `Short`) can be run again.

Source of the opcodes: CPython 3.13, ``Lib/pickletools.py``; https://peps.python.org/pep-3154/ and pep-0574.
"""

from __future__ import annotations

import struct

from bn_audit.containers.inert_pickle.binary import BINARY_OPCODES
from bn_audit.containers.inert_pickle.calls import INSTANCE_COST, append, assign, call, create
from bn_audit.containers.inert_pickle.machine import Machine, Opcode
from bn_audit.containers.inert_pickle.text import TEXT_OPCODES

_u2 = struct.Struct("<H").unpack_from
_u4 = struct.Struct("<I").unpack_from
_u8 = struct.Struct("<Q").unpack_from


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


def _stack_global(machine: Machine, _data: bytes, pos: int) -> int:
    name = machine.stack.pop()
    machine.stack[-1] = machine.name_of(machine.stack[-1], name)
    return pos


def _obj(machine: Machine, _data: bytes, pos: int) -> int:
    values = machine.pop_mark()
    if not values:
        raise machine.malformed("an object has no class")
    machine.charge(INSTANCE_COST)
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


_STACK_OPCODES: dict[str, Opcode] = {
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
}
"""By the symbol of the opcode."""

OPCODES: dict[int, Opcode] = {
    ord(symbol): function for symbol, function in (TEXT_OPCODES | BINARY_OPCODES | _STACK_OPCODES).items()
}
"""The opcodes that the loop hands over, by their byte."""
