"""Names of values where functions are written out: with the path of calls before them."""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.errors import LimitExceededError

MAX_PREFIX = 512
"""Longest path of calls that stands before the name of a value inside a function."""

MAX_CHARACTERS = 1 << 28
"""Cap on the length of all names that are made for values inside functions."""


class Prefixes:
    """The paths of calls in one file, each given once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._given: set[str] = set()
        self._characters = 0

    def new(self, name: str, index: int) -> str:
        """Return the prefix for a call by its name, or by its index among all nodes."""
        prefix = f"{name}::"
        if prefix in self._given or len(prefix) > MAX_PREFIX:
            prefix = f"{name[: MAX_PREFIX // 2]}#{index}::"
        self._given.add(prefix)
        return prefix

    def count(self, name: str) -> str:
        """Return a name that was made.

        Raises:
            LimitExceededError: all names together are longer than what is kept.
        """
        self._characters += len(name)
        if self._characters > MAX_CHARACTERS:
            raise LimitExceededError(f"{self._source}: functions make more names of values than are read")
        return name


class ValueNames:
    """The names of values at one place: in the model's graph, or inside one call of a function."""

    def __init__(self, prefixes: Prefixes, known: dict[str, str] | None = None, prefix: str = "") -> None:
        self.prefixes = prefixes
        self._prefix = prefix
        self._known = known or {}

    def __getitem__(self, name: str) -> str:
        if not name or not self._prefix:
            return name
        known = self._known.get(name)
        return self.prefixes.count(self._prefix + name) if known is None else known

    def all(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of several values."""
        return tuple(names) if not self._prefix else tuple(self[name] for name in names)
