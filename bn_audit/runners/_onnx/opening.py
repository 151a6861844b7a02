"""ONNX files as sessions."""

from __future__ import annotations

from bn_audit.errors import UnsupportedRunError
from bn_audit.runners._onnx.backend import Backend
from bn_audit.runners._onnx.inputs import input_specs
from bn_audit.runners._onnx.loading import load
from bn_audit.runners._onnx.session import OnnxSession
from bn_audit.subject.run import Job


def open_model(job: Job, backend: Backend) -> OnnxSession:
    """Return the session of a file in a backend; the model has been loaded once.

    Raises:
        RunError: the model cannot be loaded.
        UnsupportedRunError: the backend lacks what it needs.
    """
    model = load(job.source)
    input_specs(model.name, model.proto, job.batch_axis)
    session = OnnxSession(model, backend, job)
    if job.dtype not in (None, session.dtype):
        raise UnsupportedRunError(
            f"{model.name}: an ONNX model runs in its own type, {session.dtype}, not in {job.dtype}: leave out --dtype"
        )
    session.load()
    return session
