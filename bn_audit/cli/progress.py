"""What a run is doing, on stderr where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.styled import clean

if TYPE_CHECKING:
    from bn_audit.audit import Progress
    from bn_audit.running import Say

LONGEST_TEXT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Callbacks of a run; None where nobody watches.

    Attributes:
        files: Called with (finished, total, name of the last source).
        passes: Called with (what is being done, forward passes so far) while a model runs.
    """

    files: Progress | None = None
    passes: Say | None = None


@contextmanager
def watched() -> Iterator[Watch]:
    """Give callbacks that draw on stderr; what they draw is gone at the end of the block."""
    if not sys.stderr.isatty():
        yield Watch()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.description}", markup=False),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None, count="")

    def files(finished: int, total: int, name: str) -> None:
        """Show a bar from the first of several files on."""
        if total > 1:
            bar.start()
            count = f"{finished}/{total}"
            bar.update(task, completed=finished, total=total, count=count, description=_shortened(name))

    def passes(what: str, count: int) -> None:
        bar.start()
        run = f"{count} forward pass{'' if count == 1 else 'es'}"
        bar.update(task, description=f"{_shortened(what)}, {run}" if count else _shortened(what))

    try:
        yield Watch(files=files, passes=passes)
    finally:
        bar.stop()


def _shortened(text: str) -> str:
    return clean(text[-LONGEST_TEXT:])
