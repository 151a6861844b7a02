"""The loop that runs a pickle's opcodes; written for speed, since a large model has some 100,000 of them."""

from __future__ import annotations

import struct
from itertools import repeat

from bn_audit.containers.inert_pickle.calls import INSTANCE_COST, append, assign, build, call, create
from bn_audit.containers.inert_pickle.machine import LONG_VALUE, Machine
from bn_audit.containers.inert_pickle.opcodes import OPCODES
from bn_audit.containers.inert_pickle.operands import Short, decode_text, long_text

_CHUNK = 1024
"""Opcodes between two looks at the limits: few enough that they cannot do harm in between."""

_OPCODE_COST = 48
"""Estimated bytes of a value without length and its place on the stack, in the memo or in a container."""

_DICT_COST = 200
_OPERAND = 16
"""More bytes than the fixed operand of any opcode has."""

_u2 = struct.Struct("<H").unpack_from
_u4 = struct.Struct("<I").unpack_from
_s4 = struct.Struct("<i").unpack_from
_f8 = struct.Struct(">d").unpack_from

_INLINE = frozenset(b"h\x94rR)K(\x8ctM}\x85\x88\x89XuQ\x86N\x87\x81]bqjJGae.")
"""The opcodes that the loop runs itself."""


def is_opcode(code: int) -> bool:
    """Return whether a byte is an opcode of any protocol."""
    return code in _INLINE or code in OPCODES


def run(machine: Machine, data: bytes, pos: int) -> tuple[object, int]:
    """Run the opcodes from `pos` to STOP and return (value, position after STOP).

    The frequent opcodes stand in the order of their frequency in saved models: local variables and no call make this
    loop five times as fast as a function for each opcode.

    Raises:
        Short: an opcode is not wholly in `data`. It says where that opcode begins; the machine is as it was before it.
        MalformedFileError, LimitExceededError: the pickle is impossible or too costly.
    """
    stack, memo, marks = machine.stack, machine.memo, machine.marks
    push, pop, remember = stack.append, stack.pop, memo.append
    opcodes = OPCODES
    place = machine.place
    at = pos
    cost = 0
    try:
        while True:
            for _ in repeat(None, _CHUNK):
                at = pos
                code = data[at]
                pos = at + 1
                if code == 0x68:  # BINGET
                    index = data[pos]
                    pos += 1
                    push(memo[index] if index < len(memo) else machine.recall(index))
                elif code == 0x94:  # MEMOIZE
                    remember(stack[-1])
                elif code == 0x72:  # LONG_BINPUT
                    (index,) = _u4(data, pos)
                    pos += 4
                    if index == len(memo):
                        remember(stack[-1])
                    else:
                        machine.remember(index, stack[-1])
                elif code == 0x52:  # REDUCE
                    cost += INSTANCE_COST
                    args = pop()
                    stack[-1] = call(machine, stack[-1], args)
                elif code == 0x29:  # EMPTY_TUPLE
                    push(())
                elif code == 0x4B:  # BININT1
                    push(data[pos])
                    pos += 1
                elif code == 0x28:  # MARK
                    marks.append(len(stack))
                elif code == 0x8C:  # SHORT_BINUNICODE
                    end = pos + 1 + data[pos]
                    if end > len(data):
                        raise Short(end)  # noqa: TRY301
                    cost += end - pos << 2
                    push(decode_text(machine, data[pos + 1 : end]))
                    pos = end
                elif code == 0x74:  # TUPLE
                    push(tuple(machine.pop_mark()))
                elif code == 0x4D:  # BININT2
                    push(_u2(data, pos)[0])
                    pos += 2
                elif code == 0x7D:  # EMPTY_DICT
                    cost += _DICT_COST
                    push({})
                elif code == 0x85:  # TUPLE1
                    cost += 32
                    stack[-1] = (stack[-1],)
                elif code == 0x88:  # NEWTRUE
                    push(True if place is None else place((machine.base or 0) + at, True))
                elif code == 0x89:  # NEWFALSE
                    push(False if place is None else place((machine.base or 0) + at, False))
                elif code == 0x58:  # BINUNICODE
                    (length,) = _u4(data, pos)
                    if length >= LONG_VALUE:
                        pos = long_text(machine, data, pos + 4, length)
                        continue
                    end = pos + 4 + length
                    if end > len(data):
                        raise Short(end)  # noqa: TRY301
                    cost += length << 2
                    push(decode_text(machine, data[pos + 4 : end]))
                    pos = end
                elif code == 0x75:  # SETITEMS
                    flat = machine.pop_mark()
                    assign(machine, stack[-1], flat)
                elif code == 0x51:  # BINPERSID
                    cost += 100
                    stack[-1] = machine.persistent(stack[-1])
                elif code == 0x86:  # TUPLE2
                    cost += 32
                    stack[-2:] = [(stack[-2], stack[-1])]
                elif code == 0x4E:  # NONE
                    push(None)
                elif code == 0x87:  # TUPLE3
                    cost += 32
                    stack[-3:] = [(stack[-3], stack[-2], stack[-1])]
                elif code == 0x81:  # NEWOBJ
                    args = pop()
                    stack[-1] = create(machine, stack[-1], args)
                elif code == 0x5D:  # EMPTY_LIST
                    cost += 64
                    push([])
                elif code == 0x62:  # BUILD
                    state = pop()
                    build(machine, stack[-1], state)
                elif code == 0x71:  # BINPUT
                    index = data[pos]
                    pos += 1
                    machine.remember(index, stack[-1])
                elif code == 0x6A:  # LONG_BINGET
                    (index,) = _u4(data, pos)
                    pos += 4
                    push(machine.recall(index))
                elif code == 0x4A:  # BININT
                    push(_s4(data, pos)[0])
                    pos += 4
                elif code == 0x47:  # BINFLOAT
                    push(_f8(data, pos)[0])
                    pos += 8
                elif code == 0x61:  # APPEND
                    value = pop()
                    append(machine, stack[-1], [value])
                elif code == 0x65:  # APPENDS
                    flat = machine.pop_mark()
                    append(machine, stack[-1], flat)
                elif code == 0x2E:  # STOP
                    machine.charge(cost)
                    machine.check()
                    return pop(), pos
                else:
                    handler = opcodes.get(code)
                    if handler is None:
                        raise machine.malformed(f"byte 0x{code:02x} at position {at} is no opcode")
                    pos = handler(machine, data, pos)
            machine.charge(cost + _CHUNK * _OPCODE_COST)
            machine.check()
            cost = 0
    except Short as short:
        machine.spent += cost
        short.at = at
        raise
    except (IndexError, struct.error) as error:
        machine.spent += cost
        if at + _OPERAND > len(data):
            raise Short(at + _OPERAND, at) from error
        raise machine.malformed(f"opcode 0x{data[at]:02x} at position {at} lacks its values") from error
