"""ONNX files as sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.runners._onnx.backend import Backend, Forward
from bn_audit.runners._onnx.baked import baked_size, is_only_size
from bn_audit.runners._onnx.dependence import varying_values
from bn_audit.runners._onnx.freeing import fixed_size, freed, stated_batch
from bn_audit.runners._onnx.inputs import input_specs
from bn_audit.runners._onnx.loading import Model, load
from bn_audit.runners._onnx.session import OnnxSession
from bn_audit.runners._onnx.verifying import is_same_model
from bn_audit.subject.run import InputSpec, Job


def open_model(job: Job, backend: Backend, prepare: Callable[[Model], Model] | None = None) -> OnnxSession:
    """Return the session of a file in a backend; the model has been loaded once.

    Args:
        prepare: Rewrites the model as the backend needs it.

    Raises:
        RunError: the model cannot be loaded.
        UnsupportedRunError: the backend lacks what it needs.
    """
    model = load(job.source) if prepare is None else prepare(load(job.source))
    session = OnnxSession(model, backend, job)
    if job.dtype not in (None, session.dtype):
        raise UnsupportedRunError(
            f"an ONNX model runs in its own type, {session.dtype}, not in {job.dtype}: leave out --dtype"
        )
    specs = input_specs(model.proto, job.batch_axis)
    loaded = session.load()
    size = fixed_size(specs)
    if size is None:
        return _with_baked_size(session, model, loaded, specs)
    found = freed(model, specs, size) if stated_batch(specs) == size else None
    if found is not None:
        told = f" and in {found[1]} operator{'s' * (found[1] != 1)}" if found[1] else ""
        remark = f"the file fixes the batch at {size}; it was run with this size left open in its inputs{told}"
        free = OnnxSession(found[0], backend, job, remarks=(remark,))
        if _loads_alike(free, loaded, specs, size):
            return free
    remark = f"the file fixes the batch at {size}, and it could not be run with another size"
    return OnnxSession(model, backend, job, fixed_batch=size, remarks=(remark,))


def _with_baked_size(session: OnnxSession, model: Model, loaded: Forward, specs: Sequence[InputSpec]) -> OnnxSession:
    """Return the session; one for a single batch size where the graph's operators allow no other."""
    found = baked_size(model, varying_values(model.proto), specs)
    if found is None or not is_only_size(loaded, specs, found[0]):
        return session
    size, node = found
    return session.with_fixed_batch(size, f"the graph has the batch size {size} written into node {node!r}")


def _loads_alike(free: OnnxSession, original: Forward, specs: Sequence[InputSpec], size: int) -> bool:
    try:
        return is_same_model(original, free.load(), specs, size)
    except RunError:
        return False
