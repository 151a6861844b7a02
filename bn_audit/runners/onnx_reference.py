"""ONNX models run by the reference implementation of the onnx package, where onnxruntime refuses them.

Never for batch norms below operator set 14, which it computes wrongly: such models are converted first, or refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bn_audit.running import Runner, Session

if TYPE_CHECKING:
    from bn_audit.subject.run import Job


@contextmanager
def open_session(job: Job) -> Iterator[Session]:
    """Give the session of an ONNX file.

    Raises:
        RunError: the model cannot be loaded.
        UnsupportedRunError: the reference has no implementation of an operator, or a wrong one.
    """
    from bn_audit.runners._onnx.evaluator import Evaluator, modern
    from bn_audit.runners._onnx.opening import open_model

    yield open_model(job, Evaluator(device=job.device), modern)


RUNNER = Runner(
    name="onnx-reference",
    summary="the reference implementation of ONNX, for what onnxruntime refuses",
    formats=("onnx",),
    runs_code=False,
    open=open_session,
    rank=1,
)
