"""Where a value stands in a settings file: what an error about it names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from bn_audit.errors import UsageError
from bn_audit.subject.source_name import within


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file, and a table or key in it.

    Attributes:
        file: The file's name as shown to people.
        directory: The absolute path of its folder, where relative paths in it start.
        codes: The rule codes that there are.
        key: The key, with the table that holds it: ``target 2: intent``; ``""`` for the file as a whole.
    """

    file: str
    directory: Path
    codes: Sequence[str]
    key: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.key}" if self.key else self.file

    def at(self, key: str) -> Place:
        """Return the place of a key in this table."""
        return replace(self, key=f"{self.key}: {key}" if self.key else key)

    def wrong(self, what: str) -> UsageError:
        """Return the error about the value here."""
        return UsageError(f"{self}: {what}")

    def unknown(self, given: str, known: Iterable[str], what: str) -> UsageError:
        """Return the error about a name that there is not, with the nearest that there is."""
        names = list(known)
        near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
        return self.wrong(f"there is no {what} {given!r}: {hint}")

    def path(self, name: str) -> str:
        """Return a path that starts in the folder of the file, as seen from the working directory.

        A factory keeps its name.
        """
        return self._seen(name, str(self.directory))

    def glob(self, pattern: str) -> str:
        """Return a glob that starts in the folder of the file, as seen from the working directory."""
        return self._seen(pattern, escape(str(self.directory)))

    def _seen(self, name: str, directory: str) -> str:
        is_factory = ":" in name and "/" not in name and not (self.directory / name).exists()
        if is_factory or Path(name).is_absolute() or within(".", self.directory) == ".":
            return name
        try:
            return os.path.relpath(Path(directory, name))
        except ValueError:  # another drive than that of the working directory
            return str(Path(directory, name))
