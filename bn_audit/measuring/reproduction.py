"""The command line that repeats a measurement exactly."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from bn_audit.subject.run import Job


def command_of(source: str, job: Job) -> str:
    """Return the ``bn-audit sweep`` line for a job, quoted for a POSIX shell.

    Args:
        source: The target as the user named it.
    """
    return shlex.join(["bn-audit", "sweep", source, *_options(job)])


def _options(job: Job) -> Iterator[str]:
    """Yield what decides the figures always, and the rest where it is not the default."""
    default = Job(source="", format="")
    yield from ("--batch-sizes", ",".join(map(str, job.batch_sizes)))
    if job.tier != default.tier:
        yield f"--{job.tier}"
    yield from ("--seed", str(job.seed))
    for given in job.inputs:
        yield from ("--input", given)
    values = {
        "--inputs": job.inputs_file,
        "--batch-axis": job.batch_axis,
        "--weights": job.weights,
        "--device": None if job.device == default.device else job.device,
        "--dtype": job.dtype,
        "--threads": job.threads,
        "--time-limit": None if job.time_limit == default.time_limit else f"{job.time_limit:g}",
        "--memory-limit": job.memory_limit,
    }
    for option, value in values.items():
        if value is not None:
            yield from (option, str(value))
    if job.trust:
        yield "--trust"
