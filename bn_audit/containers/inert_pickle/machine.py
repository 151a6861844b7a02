"""The state of one pickle that is being interpreted, and the limits it must keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bn_audit.containers.inert import Global, Instance, PersistentId
from bn_audit.errors import LimitExceededError, MalformedFileError

LONG_VALUE = 1 << 16
"""Strings and bytes from this length on are charged one by one; bytes may be left in the file (`StoredBytes`)."""

LONG_TEXT = 1 << 20
"""Text from this length on may be left in the file: it is bytes, as protocols 0 to 2 write them."""

MAX_LINE = 1 << 16
"""Longest line of a text opcode other than a string: names and numbers."""

_TUPLE_KEYS = 4096
_CLOCK_INTERVAL = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PickleLimits:
    """What reading one pickle may cost.

    Attributes:
        memory: Estimated bytes of all values created; the estimate errs upwards. About ten million opcodes fit.
        depth: Values on the stack, and open marks.
        integer_bytes: Size of one integer. The longest real ones are the 128-bit states of random generators.
        seconds: Time of interpretation. A pickle within the other limits takes less, unless its dictionary keys are
            chosen to collide.
    """

    memory: int = 512 << 20
    depth: int = 4_000_000
    integer_bytes: int = 1024
    seconds: float = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class StoredBytes:
    """A long byte string of a pickle that was left where it lies in the file.

    Attributes:
        offset: Position of its first byte within the file.
        length: Bytes stored.
        encoding: None for bytes; ``"utf-8"`` for text; ``"latin-1"`` for bytes stored as the UTF-8 form of their
            Latin-1 text, as protocols 0 to 2 do.
    """

    offset: int
    length: int
    encoding: str | None = None


class Machine:
    """The stack machine that a pickle is a program for.

    Attributes:
        name: How messages call the pickle.
        base: Position within the file of the first byte of the data at hand; None where there is only the data, so
            that no value can be left in the file.
        stack: The values; `marks` holds the heights of the open marks.
        memo: Values by index, as long as the indexes are dense; `sparse_memo` holds the others.
        spent: Estimated bytes of the values created.
        place: Makes the value of each truth value from its position within the file; None leaves it as it is.
    """

    __slots__ = (
        "_clock",
        "_globals",
        "_slow_keys",
        "_tuple_keys",
        "base",
        "limits",
        "makers",
        "marks",
        "memo",
        "name",
        "persistent",
        "place",
        "sparse_memo",
        "spent",
        "stack",
    )

    def __init__(
        self,
        name: str,
        limits: PickleLimits,
        makers: dict[tuple[str, str], Callable[[Machine, tuple[object, ...]], object]],
        persistent: Callable[[object], object] = PersistentId,
    ) -> None:
        self.name = name
        self.limits = limits
        self.persistent = persistent
        self.place: Callable[[int, bool], object] | None = None
        self.base: int | None = None
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: list[object] = []
        self.sparse_memo: dict[int, object] = {}
        self.spent = 0
        self.makers: dict[int, Callable[[Machine, tuple[object, ...]], object]] = {}
        self._globals: dict[tuple[str, str], Global] = {}
        for key, maker in makers.items():
            self._globals[key] = Global(*key)
            self.makers[id(self._globals[key])] = maker
        self._tuple_keys = 0
        self._slow_keys = 0
        self._clock = time.monotonic() + limits.seconds

    def malformed(self, what: str) -> MalformedFileError:
        """Return the error that says what is wrong with the pickle."""
        return MalformedFileError(f"{self.name}: corrupt pickle: {what}: save or download the file again")

    def charge(self, size: int) -> None:
        """Count `size` bytes of memory before they are used."""
        self.spent += size
        if self.spent > self.limits.memory:
            raise LimitExceededError(
                f"{self.name}: the pickle builds more values than the {self.limits.memory >> 20} MiB "
                "that this tool spends on one: save the model's state dict alone"
            )

    def check(self) -> None:
        """Raise an error where the stack, the marks or the time taken exceed the limits."""
        if len(self.stack) > self.limits.depth or len(self.marks) > self.limits.depth:
            raise LimitExceededError(f"{self.name}: the pickle stacks more than {self.limits.depth} values: not read")
        if time.monotonic() > self._clock:
            raise LimitExceededError(
                f"{self.name}: the pickle takes longer than {self.limits.seconds:g} s to read: not read"
            )

    def pop_mark(self) -> list[object]:
        """Remove the values above the topmost mark and return them in order."""
        if not self.marks:
            raise self.malformed("an opcode needs a mark, none is set")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def name_of(self, module: object, name: object) -> Global:
        """Return the one `Global` for this name."""
        if type(module) is not str or type(name) is not str:
            raise self.malformed("a name is not text")
        found = self._globals.get((module, name))
        if found is None:
            self.charge(400)
            found = self._globals[module, name] = Global(module, name)
        return found

    def remember(self, index: int, value: object) -> None:
        """Put a value into the memo."""
        if index == len(self.memo):
            self.memo.append(value)
        elif 0 <= index < len(self.memo):
            self.memo[index] = value
        else:
            self.charge(200)
            self.sparse_memo[index] = value
            self._count_slow_key()

    def recall(self, index: int) -> object:
        """Return a value from the memo."""
        if 0 <= index < len(self.memo):
            return self.memo[index]
        try:
            return self.sparse_memo[index]
        except KeyError:
            raise self.malformed(f"it refers to memo entry {index}, which is not set") from None

    def key(self, value: object) -> object:
        """Return what stands for `value` as a key of a dictionary or member of a set.

        Scalars, names, instances (by identity) and short flat tuples stand for themselves. What Python could hash, but
        at a cost that the file's author chooses (nested tuples, giant integers), is held by identity in an `Instance`.

        Raises:
            MalformedFileError: Python could not hash it either.
        """
        kind = type(value)
        if kind is str or value is None or kind is bool or kind in (Global, Instance, PersistentId, bytes):
            return value
        self._count_slow_key()
        if kind is int:
            return value if -1 << 60 < value < 1 << 60 else self._by_identity(value)  # type: ignore[operator]
        if kind is float or kind is complex:
            return value
        if kind is tuple:
            self._tuple_keys += 1
            flat = len(value) <= 8 and all(type(part) in _FLAT for part in value)  # type: ignore[arg-type, attr-defined]
            return value if flat and self._tuple_keys <= _TUPLE_KEYS else self._by_identity(value)
        if kind is frozenset or kind is StoredBytes:
            return self._by_identity(value)
        raise self.malformed(f"a {kind.__name__} is used as the key of a dictionary")

    def _by_identity(self, value: object) -> Instance:
        self.charge(400)
        return Instance(self.name_of("builtins", type(value).__name__), (value,))

    def _count_slow_key(self) -> None:
        self._slow_keys += 1
        if self._slow_keys % _CLOCK_INTERVAL == 0:
            self.check()

    def fill(self, target: dict[object, object], flat: Sequence[object]) -> None:
        """Set the keys and values that alternate in `flat`."""
        if len(flat) % 2:
            raise self.malformed("a dictionary has a key without a value")
        self.charge(50 * len(flat))
        for index in range(0, len(flat), 2):
            key = flat[index]
            target[key if type(key) is str else self.key(key)] = flat[index + 1]


_FLAT = frozenset({str, bool, float, bytes, type(None), int, Global, Instance, PersistentId})

Opcode = Callable[[Machine, bytes, int], int]
"""Runs one opcode: takes the machine, the data and the position after the opcode; returns that after its operand."""
