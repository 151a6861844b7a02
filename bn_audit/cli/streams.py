"""Where results go: stdout, and files that are not among what was audited."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from bn_audit.errors import UsageError
from bn_audit.styled import is_colourful

_reserved: list[TextIO] = []
"""The stream of the report, where stdout itself was given to others."""


def reserve_stdout() -> None:
    """Keep stdout for the report: what anything else in this process writes there goes to stderr from now on.

    For runs of a user's code, which may print from C, from threads, or when the process ends.
    """
    try:
        is_real = sys.stdout.fileno() == 1 and not _reserved
    except (OSError, ValueError):  # captured by a caller, or closed
        return
    if is_real:
        sys.stdout.flush()
        _reserved.append(os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace"))
        os.dup2(2, 1)


def to_stdout(render: Callable[[TextIO, bool], None]) -> None:
    """Let `render` write to stdout; a reader that went away (``| head``) is no error."""
    out = _reserved[0] if _reserved else sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")
    try:
        render(out, is_colourful(out))
        out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def to_file(path: Path, data: bytes, audited: Iterable[str], *, append: bool = False) -> None:
    """Write `data` to `path`, or to its end.

    Raises:
        UsageError: the file is one of those that were audited, or it cannot be written.
    """
    if any(_is_same(path, source) for source in audited):
        raise UsageError(f"{path}: is one of the audited files and is left as it is: write to another file")
    try:
        with path.open("ab" if append else "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error


def _is_same(path: Path, source: str) -> bool:
    try:
        return path.samefile(source)
    except (OSError, ValueError):
        return False
