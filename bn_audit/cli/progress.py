"""A bar on stderr for runs over several files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bn_audit.styled import clean

LONGEST_NAME = 60


@contextmanager
def bar() -> Iterator[Callable[[int, int, str], None]]:
    """Give the callback (finished, total, name); it appears with the first of several files and goes at the end."""
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("")

    def update(finished: int, total: int, name: str) -> None:
        if total > 1:
            progress.start()
            progress.update(task, completed=finished, total=total, description=clean(name[-LONGEST_NAME:]))

    try:
        yield update
    finally:
        progress.stop()
