"""Runs one job in a child process: limits, progress, crashes, and nothing left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bn_audit.errors import BnAuditError, RunError
from bn_audit.measuring.child import KINDS
from bn_audit.measuring.order import FINDING_INPUTS, Order
from bn_audit.measuring.serialisation import read
from bn_audit.running import Say
from bn_audit.subject.observation import Observation
from bn_audit.subject.run import Array, Job

RESTARTS = 2
"""How often a measurement goes on after a crash, without the step that crashed."""

GRACE = 5.0
"""Seconds beyond the time limit in which the child may still say by itself that time is up."""

LONGEST_LINE = 64 << 20
KEPT_STDERR = 4096

_BOOTSTRAP = "import sys; sys.path[:] = sys.argv[1:]; from bn_audit.measuring.child import main; main()"


@dataclass(slots=True, kw_only=True)
class Crash(Exception):  # noqa: N818
    """The child ended without a result.

    Attributes:
        step: What it was doing.
        how: Signal or exit code.
    """

    step: str
    how: str


@dataclass(slots=True, kw_only=True)
class _Child:
    """A running child with the threads that empty its pipes."""

    process: subprocess.Popen[bytes]
    lines: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    stderr: bytearray = field(default_factory=bytearray)

    def last_words(self) -> str:
        text = bytes(self.stderr).decode("utf-8", "replace").strip()
        return text.splitlines()[-1].strip()[:300] if text else ""


def supervised(job: Job, say: Say, samples: Mapping[str, Array] | None = None) -> Observation:
    """Return the observation that a child process makes.

    A backend that crashes loses the step in which it did; the rest is measured by another child.

    Args:
        say: Called before each step with what it is and the number of forward passes so far.
        samples: Real samples by input, in place of the job's file.

    Raises:
        RunError: the model cannot be run, the time is up, or the backend crashes again and again.
    """
    lost: dict[str, str] = {}
    deadline = time.monotonic() + job.time_limit
    while True:
        try:
            return _attempt(job, say, Order(job=job, lost=lost, samples=samples), deadline)
        except Crash as crash:
            reason = f"the backend crashed ({crash.how}) at this step: {crash.step}"
            if crash.step == FINDING_INPUTS:
                raise RunError(f"{job.source}: {reason}: name other inputs with --input or --inputs") from None
            if len(lost) == RESTARTS or crash.step in lost or not crash.step:
                raise RunError(f"{job.source}: {reason}: try another --device, or fewer --batch-sizes") from None
            lost[crash.step] = reason


def _attempt(job: Job, say: Say, order: Order, deadline: float) -> Observation:
    step = ""
    with _started(order) as child:
        while True:
            try:
                line = child.lines.get(timeout=max(0.0, deadline + GRACE - time.monotonic()))
            except queue.Empty:
                passed = f"the time limit of {job.time_limit:g} s passed at this step: {step or 'starting'}"
                raise RunError(f"{job.source}: {passed}: raise it with --time-limit") from None
            if line is None:
                raise Crash(step=step, how=_ending(child))
            entry = _entry(line, job)
            if "step" in entry:
                step = str(entry["step"])
                say(step, int(entry["passes"]))
            else:
                return _result(entry, job)


def _entry(line: bytes, job: Job) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise RunError(f"{job.source}: the process that ran the model wrote no report: {line[:80]!r}: run it again")
    return entry


def _result(entry: Mapping[str, Any], job: Job) -> Observation:
    """Return the observation, or raise the error, that ends the child's report."""
    if "observation" in entry:
        try:
            return read(Observation, entry["observation"])
        except (ValueError, TypeError) as error:
            raise RunError(f"{job.source}: the process that ran the model wrote a broken report: {error}") from error
    if "error" in entry:
        kind: type[BnAuditError] = KINDS.get(str(entry["error"]), RunError)
        raise kind(str(entry.get("message", "")))
    fault = str(entry.get("fault", "no result"))
    surprise = RuntimeError(fault)
    surprise.add_note(str(entry.get("traceback", "")))
    raise surprise


@contextmanager
def _started(order: Order) -> Iterator[_Child]:
    """Give a child that has its order; it and all its own children are gone at the end of the block."""
    job = order.job
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOTSTRAP, *(entry or str(Path.cwd()) for entry in sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(job),
        start_new_session=os.name == "posix",
    )
    child = _Child(process=process)
    try:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RunError(f"{job.source}: no pipes to the process that runs the model")
        threads = (
            threading.Thread(target=_pump, args=(process.stdout, child.lines), daemon=True),
            threading.Thread(target=_keep_last, args=(process.stderr, child.stderr), daemon=True),
        )
        for thread in threads:
            thread.start()
        _send(process.stdin, order.line())
        yield child
    finally:
        _end(process)


def _send(stream: IO[bytes], order: bytes) -> None:
    with suppress(BrokenPipeError):  # the child is gone already; how it ended is read from its exit code
        stream.write(order)
        stream.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and everything that it started, and wait for it."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):  # what was not sent to a dead child
                stream.close()


def _pump(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with suppress(OSError, ValueError):  # closed under the reader at the end
        while line := stream.readline(LONGEST_LINE):
            lines.put(line)
    lines.put(None)


def _keep_last(stream: IO[bytes], kept: bytearray) -> None:
    with suppress(OSError, ValueError):
        while chunk := stream.read1(KEPT_STDERR):  # type: ignore[attr-defined]
            kept.extend(chunk)
            del kept[:-KEPT_STDERR]


def _ending(child: _Child) -> str:
    """Return how a child ended, as a message says it."""
    try:
        code = child.process.wait(GRACE)
    except subprocess.TimeoutExpired:
        return "it closed its output"
    words = child.last_words()
    said = f", last words: {words}" if words else ""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        if name == "SIGABRT":
            return f"{name}{said}"  # the runtime of C++ says which exception nobody caught
        return f"{name}, probably out of memory" if name == "SIGKILL" else name
    return f"exit code {code}{said}"


def _environment(job: Job) -> dict[str, str]:
    """Return the child's environment: hash order fixed, threads as asked for."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if job.threads is not None:
        environment.update({name: str(job.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")})
    return environment
