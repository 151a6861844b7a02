"""Exit codes: what each kind of end means to the shell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bn_audit.errors import BnAuditError, UsageError
from bn_audit.styled import clean

USAGE = 2
NOT_AUDITED = 3
INTERRUPTED = 130


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn the errors of the block into one line on stderr and the documented exit code."""
    try:
        yield
    except UsageError as error:
        complain(str(error))
        raise typer.Exit(USAGE) from None
    except BnAuditError as error:
        complain(str(error))
        raise typer.Exit(NOT_AUDITED) from None
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None


def complain(message: str) -> None:
    """Write one line to stderr, with nothing in it that could control a terminal."""
    print(f"bn-audit: {clean(message)}", file=sys.stderr)
