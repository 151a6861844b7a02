"""Pickles of every protocol (0 to 5) as plain data: nothing is imported, called or executed.

The standard unpickler with an inert ``find_class`` would not do: a nine-byte pickle makes it allocate gigabytes (the
index of LONG_BINPUT), and hashing deep tuples crashes it. Here every opcode is interpreted by our own code, within
`PickleLimits`.
"""

from __future__ import annotations

from collections.abc import Callable

from bn_audit.containers.inert import PersistentId
from bn_audit.containers.inert_pickle.calls import MAKERS
from bn_audit.containers.inert_pickle.loop import is_opcode, run
from bn_audit.containers.inert_pickle.machine import Machine, PickleLimits, StoredBytes
from bn_audit.containers.inert_pickle.operands import Short
from bn_audit.containers.source import Readable
from bn_audit.errors import MalformedFileError

__all__ = ["PickleLimits", "StoredBytes", "is_opcode", "read_pickle", "read_pickle_at"]

_WINDOW = 1 << 16
"""Bytes read at a time; a legacy file has five pickles, each of which may read this much too far."""

_LARGEST_WINDOW = 128 << 20
_DEFAULT_LIMITS = PickleLimits()


def read_pickle(
    data: bytes,
    *,
    name: str,
    start: int = 0,
    limits: PickleLimits = _DEFAULT_LIMITS,
    persistent: Callable[[object], object] = PersistentId,
) -> tuple[object, int]:
    """Return the value of the pickle at `start`, and the position just after its STOP.

    Dictionaries, lists, tuples, sets, strings, bytes, numbers, booleans and None are the Python values;
    ``OrderedDict``, ``defaultdict`` and ``Counter`` are an `InertDict`; every other object is an `Instance`, every name
    a `Global`, every persistent id what `persistent` makes of its value. Strings of Python 2 are decoded as UTF-8, or
    as Latin-1 where they are not.

    Raises:
        MalformedFileError: truncated, or no valid pickle.
        LimitExceededError: it would exceed `limits`.
    """
    machine = Machine(name, limits, MAKERS, persistent)
    try:
        return run(machine, data, start)
    except Short as short:
        raise _truncated(name, short.at) from None


def read_pickle_at(
    source: Readable,
    offset: int,
    *,
    limits: PickleLimits = _DEFAULT_LIMITS,
    persistent: Callable[[object], object] = PersistentId,
    place: Callable[[int, bool], object] | None = None,
) -> tuple[object, int]:
    """Return the value of the pickle at `offset` of a file, and the position just after its STOP.

    The file is read as far as the pickle goes. Long byte strings are left where they lie, as `StoredBytes`.

    Args:
        place: Makes the value of each truth value, from its position within the file and itself; for what is to be
            rewritten. In pickles of protocol 0 and 1 these are numbers, which are left as they are.

    Raises:
        MalformedFileError, LimitExceededError: as for `read_pickle`.
    """
    machine = Machine(source.name, limits, MAKERS, persistent)
    machine.place = place
    length = _WINDOW
    while True:
        if offset >= source.size:
            raise _truncated(source.name, offset)
        length = min(length, source.size - offset)
        machine.base = offset
        data = source.read(offset, length)
        try:
            value, end = run(machine, data, 0)
        except Short as short:
            reached_end = offset + length == source.size
            offset += short.at
            if (reached_end and short.at < length) or offset >= source.size:
                raise _truncated(source.name, offset) from None
            length = _next_window(short, source.name)
        else:
            return value, offset + end


def _next_window(short: Short, name: str) -> int:
    """Return how much to read for an opcode that was cut off: twice its length as far as it is known."""
    needed = short.end - short.at
    if needed > _LARGEST_WINDOW:
        raise MalformedFileError(f"{name}: corrupt pickle: one value has more than {_LARGEST_WINDOW} bytes: not read")
    return max(_WINDOW, 2 * needed)


def _truncated(name: str, position: int) -> MalformedFileError:
    return MalformedFileError(f"{name}: truncated: the pickle breaks off at byte {position}: copy or download it again")
