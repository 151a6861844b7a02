"""TorchScript programs: scripted, traced or frozen.

The program is run as ``torch.jit.load`` gives it. Its operators can be seen, its modules cannot be watched: places are
operators, with the module's path where the program keeps one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bn_audit.running import Runner, Session
from bn_audit.subject.run import Job

NAME = "torchscript"


@contextlib.contextmanager
def open_job(job: Job) -> Iterator[Session]:
    """Give the session of a TorchScript file.

    Raises:
        RunError: it is not trusted, or cannot be loaded.
    """
    from bn_audit.runners._torch.opening import opened_script

    with opened_script(job, runner=NAME) as session:
        yield session


RUNNER = Runner(
    name=NAME,
    summary="TorchScript archives by torch.jit",
    formats=("torchscript",),
    runs_code=True,
    open=open_job,
)
