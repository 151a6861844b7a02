"""Programs of torch.export.

The program is run as ``ExportedProgram.module()`` gives it, which has the modes baked into its calls. It states its
inputs with their free sizes, and often carries samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bn_audit.running import Runner, Session
from bn_audit.subject.run import Job

NAME = "torch-export"


@contextlib.contextmanager
def open_job(job: Job) -> Iterator[Session]:
    """Give the session of an exported program.

    Raises:
        RunError: it is not trusted, or cannot be loaded.
    """
    from bn_audit.runners._torch.opening import opened_program

    with opened_program(job, runner=NAME) as session:
        yield session


RUNNER = Runner(
    name=NAME,
    summary="programs of torch.export",
    formats=("exported-program",),
    runs_code=True,
    open=open_job,
)
