"""From a job to a session: the backends that run its format, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from bn_audit import plugins
from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.expansion import is_factory
from bn_audit.running import Runner, Say, Session
from bn_audit.subject.run import Job


def backends(job: Job) -> tuple[Runner, ...]:
    """Return the backends that run the job's format, the one to try first first."""
    return tuple(runner for runner in plugins.runners() if job.format in runner.formats)


@contextmanager
def opened(job: Job, say: Say) -> Iterator[Session]:
    """Give the session of the first backend that takes the model.

    Raises:
        RunError: none does, or the model cannot be loaded.
    """
    refusals: list[str] = []
    with ExitStack() as stack:
        for runner in backends(job):
            if runner.runs_code and not job.trust and not is_factory(job.source):
                refusals.append(f"{runner.name}: running code from the file needs --trust")
                continue
            try:
                say(f"loading with {runner.name}", 0)
                session = stack.enter_context(runner.open(job))
            except UnsupportedRunError as error:
                refusals.append(f"{runner.name}: {error}")
                continue
            yield session
            return
    raise UnsupportedRunError("; ".join(refusals) or f"{job.source}: no backend runs {job.format}")


def opened_live(module: object, job: Job) -> AbstractContextManager[Session]:
    """Give the session of a live model.

    Raises:
        RunError: no backend takes it.
    """
    for runner in plugins.runners():
        if runner.open_live is not None:
            return runner.open_live(module, job)
    raise RunError(f"{job.source}: no backend runs live models")
