"""Names of sources, as settings and baselines know them: relative to a folder, with ``/`` between folders."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path


def within(source: str, directory: str | Path) -> str:
    """Return the name of a source relative to a folder; what is no file, such as a factory, keeps its name.

    Symbolic links in the folders are followed, a link to the file itself is not: its name is what people know. On a
    drive other than the folder's the name of the file is all that is left, since absolute paths leave no machine.
    """
    path = Path(source)
    try:
        if not path.exists():
            return source
        full = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
        return Path(os.path.relpath(full, Path(directory).resolve())).as_posix()
    except (OSError, ValueError):
        return path.name or source


def is_match(pattern: str, name: str) -> bool:
    """Return whether a glob matches a name, or a folder that it lies in.

    ``*``, ``?`` and ``[...]`` stay within one folder, ``**`` goes over any number of them. A pattern without ``/``
    matches at any depth, as in a ``.gitignore``.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    return bool(parts) and _begins(parts if "/" in pattern.rstrip("/") else ["**", *parts], name.split("/"))


def _begins(patterns: list[str], names: list[str]) -> bool:
    if not patterns:
        return True
    if patterns[0] == "**":
        return any(_begins(patterns[1:], names[start:]) for start in range(len(names)))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _begins(patterns[1:], names[1:])
