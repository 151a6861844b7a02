"""The process in which one model runs: reads a job on stdin, writes steps and the observation as JSON lines.

The lines go to a private copy of stdout; what the model prints goes nowhere. The process ends when its stdin is
closed, so that it does not outlive its parent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TextIO

from bn_audit.errors import BnAuditError, RunError, UnsupportedRunError, UsageError
from bn_audit.subject.run import Job

KINDS: dict[str, type[BnAuditError]] = {
    "UnsupportedRunError": UnsupportedRunError,
    "UsageError": UsageError,
    "RunError": RunError,
}
"""The errors that keep their class on the way to the parent; any other expected one becomes a `RunError`."""


def main() -> None:
    """Run one job and write what it gives; every error leaves as a line too."""
    jobs, lines = _private_streams()
    line = jobs.readline()
    threading.Thread(target=_end_with, args=(jobs,), daemon=True).start()

    def write(**entry: object) -> None:
        lines.write(json.dumps(entry) + "\n")
        lines.flush()

    try:
        write(observation=_observed(line, lambda what, passes: write(step=what, passes=passes)))
    except BnAuditError as error:
        kind = next((name for name, known in KINDS.items() if isinstance(error, known)), "RunError")
        write(error=kind, message=str(error))
    except MemoryError:
        write(error="RunError", message="out of memory: choose smaller --batch-sizes, or raise --memory-limit")
    except Exception as error:  # the boundary of this process: the parent reports it as a fault of this tool
        write(fault=f"{type(error).__name__}: {error}", traceback="".join(traceback.format_exception(error)))
    sys.stderr.flush()
    os._exit(0)  # threads and destructors of a backend must not outlive the result, nor crash after it


def _observed(line: str, say: Callable[[str, int], None]) -> object:
    from bn_audit.measuring.order import order_of

    order = order_of(line)
    _limit_memory(order.job)
    from bn_audit.measuring.measurement import measure
    from bn_audit.measuring.opening import opened
    from bn_audit.measuring.serialisation import written

    def announce(what: str, passes: int) -> None:
        if what in order.lost:
            raise UnsupportedRunError(order.lost[what])
        say(what, passes)

    with opened(order.job, announce) as session:
        return written(measure(order.job, session, say, samples=order.samples, lost=order.lost))


def _private_streams() -> tuple[TextIO, TextIO]:
    """Return stdin and stdout, and leave nothing of the parent's in their places for the model to read or write."""
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return jobs, lines


def _end_with(jobs: TextIO) -> None:
    jobs.read()
    os._exit(1)


def _limit_memory(job: Job) -> None:
    if job.memory_limit is None or not sys.platform.startswith("linux"):
        return
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = job.memory_limit if hard == resource.RLIM_INFINITY else min(job.memory_limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


if __name__ == "__main__":
    main()
