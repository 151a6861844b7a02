"""PyTorch modules: pickled ones, what a factory gives, and live ones.

Unpickling a module and importing a factory run code. The module of a file is the one at the job's route; a factory's
module takes the weights of a file first, with the same prefixes stripped as the static check strips.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bn_audit.running import Runner, Session
from bn_audit.subject.run import Job

NAME = "torch"
FACTORY_FORMAT = "live-module"


@contextlib.contextmanager
def open_job(job: Job) -> Iterator[Session]:
    """Give the session of the module that a file or factory holds.

    Raises:
        RunError: it cannot be loaded: untrusted, no module there, or its code fails.
        FactoryError: the factory fails.
    """
    from bn_audit.runners._torch.files import load_module
    from bn_audit.runners._torch.opening import opened_module, require_trust
    from bn_audit.runners._torch.weights import load_weights

    remarks: tuple[str, ...] = ()
    if job.format == FACTORY_FORMAT:
        from bn_audit.containers.factory import build

        module = build(job.source).module
    else:
        require_trust(job)
        module = load_module(job.source, job.route)
    if job.weights is not None:
        remarks = load_weights(module, job.weights, trust=job.trust)
    with opened_module(module, job, runner=NAME, remarks=remarks) as session:
        yield session


@contextlib.contextmanager
def session_for(module: object, job: Job) -> Iterator[Session]:
    """Give the session of a live module, which stays as it is: a copy is run, in this process.

    Raises:
        UnsupportedRunError: it cannot be copied.
        FactoryError: it is no module.
    """
    from bn_audit.containers.factory import require_module
    from bn_audit.runners._torch.opening import opened_module, private
    from bn_audit.runners._torch.weights import load_weights

    copy = private(require_module(module, job.source))
    remarks = load_weights(copy, job.weights, trust=job.trust) if job.weights is not None else ()
    with opened_module(copy, job, runner=NAME, remarks=remarks) as session:
        yield session


RUNNER = Runner(
    name=NAME,
    summary="PyTorch modules: pickled, built by a factory, or live",
    formats=("torch-checkpoint", FACTORY_FORMAT),
    runs_code=True,
    open=open_job,
    open_live=session_for,
)
