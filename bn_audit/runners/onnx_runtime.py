"""ONNX models run by onnxruntime, with the rewriting of graphs switched off; the optimised form is its sibling.

Off, because the full optimisation deletes live Dropout and merges equal tensors, which a batch norm in training then
overwrites together.
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
        UnsupportedRunError: onnxruntime lacks what it needs.
    """
    from bn_audit.runners._onnx.opening import open_model
    from bn_audit.runners._onnx.runtime import Runtime

    yield open_model(job, Runtime(device=job.device, threads=job.threads))


RUNNER = Runner(
    name="onnxruntime",
    summary="onnxruntime, with graph rewriting off and on",
    formats=("onnx",),
    runs_code=False,
    open=open_session,
    rank=0,
)
