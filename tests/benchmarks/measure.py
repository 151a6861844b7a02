"""Wall time and peak memory of whole processes, compared in turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Medians over the rounds: seconds of wall time, bytes of peak resident memory."""

    seconds: float
    peak_bytes: float


def compare(commands: Sequence[Sequence[str]], *, rounds: int, environment: Mapping[str, str]) -> list[Cost]:
    """Return the cost of each command, run in turns (A B A B ...) after one unmeasured round.

    The peak of a child counts the pages of the process that starts it, so the caller must be small itself.
    """
    samples: list[list[tuple[float, int]]] = [[] for _ in commands]
    for turn in range(rounds + 1):
        for index, command in enumerate(commands):
            sample = _run(command, environment)
            if turn:
                samples[index].append(sample)
    return [
        Cost(
            seconds=statistics.median(seconds for seconds, _ in runs),
            peak_bytes=statistics.median(peak for _, peak in runs),
        )
        for runs in samples
    ]


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, int]:
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode not in (0, 1) or b"Traceback" in errors:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{errors.decode(errors='replace')}")
    return seconds, usage.ru_maxrss * _MAXRSS_BYTES
