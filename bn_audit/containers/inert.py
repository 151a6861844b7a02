"""What an unpickled value becomes when nothing of it may run: names, calls and states as plain data."""

from __future__ import annotations

from dataclasses import dataclass

ABSENT: object = object()
"""Marks an `Instance` that was never given a state (None is a state too)."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to; it is never imported."""

    module: str
    name: str

    @property
    def qualified(self) -> str:
        """Module and name with a dot between."""
        return f"{self.module}.{self.name}"


class Instance:
    """What a pickle would have built by calling something.

    Attributes:
        constructor: What would be called, nearly always a `Global`; any value in a hostile file.
        args: Positional arguments.
        kwargs: Keyword arguments (NEWOBJ_EX).
        state: The argument of BUILD, `ABSENT` without one; for an object it is nearly always the ``__dict__``.
        items: What APPEND and APPENDS would have added.
        entries: What SETITEM and SETITEMS would have added, in order.
    """

    __slots__ = ("args", "constructor", "entries", "items", "kwargs", "state")

    def __init__(
        self, constructor: object, args: tuple[object, ...], kwargs: dict[object, object] | None = None
    ) -> None:
        self.constructor = constructor
        self.args = args
        self.kwargs = kwargs or {}
        self.state: object = ABSENT
        self.items: list[object] = []
        self.entries: list[tuple[object, object]] = []

    @property
    def type_name(self) -> str:
        """Qualified name of the constructor; ``"?"`` where it is not a name."""
        return self.constructor.qualified if isinstance(self.constructor, Global) else "?"

    def __repr__(self) -> str:
        return f"<inert {self.type_name}>"


class InertDict(dict[object, object]):
    """A dict subclass of the pickle, such as ``collections.OrderedDict``, with its own state.

    Attributes:
        type_name: Qualified name of the class.
        state: The argument of BUILD; for a state dict it holds ``_metadata``. `ABSENT` without one.
    """

    __slots__ = ("state", "type_name")

    def __init__(self, type_name: str) -> None:
        super().__init__()
        self.type_name = type_name
        self.state: object = ABSENT


@dataclass(frozen=True, slots=True, eq=False)
class PersistentId:
    """A reference to something outside the pickle; for PyTorch a storage."""

    value: object
