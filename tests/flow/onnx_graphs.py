"""ONNX models for the batch-flow tests, and the truth about them as onnxruntime measures it."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from bn_audit.audit import read_subject
from bn_audit.flow.proof import Proof, prove
from bn_audit.subject.graph import Graph

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""Draws that many samples of one input."""

SCALES = (1.0, 1.0, 10.0, 0.1)
"""Companions of other scales trip rules that rank or cap."""
TOLERANCE = 1e-4
"""Relative difference that batch size and position may make by rounding; content must not move a bit."""


def graph_of(model: onnx.ModelProto | bytes) -> Graph:
    """Return the graph as the reader of the package gives it."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        with read_subject(path) as subject:
            graph = subject.graphs[""]
            for reference in graph.constants.values():
                reference.load()
            return graph


def proof_of(model: onnx.ModelProto | bytes) -> Proof:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        with read_subject(path) as subject:
            return prove(subject.graphs[""])


def exported(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], *, dynamo: bool = False, opset: int = 17, dynamic: bool = True
) -> bytes:
    """Return the module as one of torch's exporters writes it, with an open batch axis in front of each input."""
    buffer = io.BytesIO()
    names = [f"x{i}" for i in range(len(inputs))]
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs) if dynamic else None
            program = torch.onnx.export(
                module, inputs, dynamo=True, dynamic_shapes=shapes, input_names=names, verbose=False
            )
            assert program is not None
            program.save(buffer)
        else:
            axes = {name: {0: "batch"} for name in names} if dynamic else None
            torch.onnx.export(
                module, inputs, buffer, dynamo=False, opset_version=opset, input_names=names, dynamic_axes=axes
            )
    return buffer.getvalue()


@dataclass(frozen=True)
class Session:
    """A model that onnxruntime runs as it is written, without optimisation."""

    session: onnxruntime.InferenceSession
    draws: Sequence[Draw]

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        names = [value.name for value in self.session.get_inputs()]
        return [np.asarray(out) for out in self.session.run(None, dict(zip(names, inputs, strict=True)))]

    def draw(self, seed: int, count: int, scale: float = 1.0) -> list[np.ndarray]:
        generator = np.random.default_rng(seed)
        drawn = [draw(generator, count) for draw in self.draws]
        return [(x * scale).astype(x.dtype) if x.dtype.kind == "f" else x for x in drawn]


def session_of(model: onnx.ModelProto | bytes, draws: Sequence[Draw]) -> Session:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return Session(onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]), draws)


def measured(
    model: onnx.ModelProto | bytes, draws: Sequence[Draw], *, count: int = 4, tolerance: float = TOLERANCE
) -> list[str]:
    """Return the verdict on each output, found by running the model.

    Companions are replaced at one batch size and compared bit by bit; position is judged on a batch of copies, size on
    smaller batches of the same rows.
    """
    session = session_of(model, draws)
    base = session.draw(0, count)
    outputs = session.run(base)
    axes = [next((a for a, n in enumerate(out.shape) if n == count), None) for out in outputs]
    verdicts = ["independent"] * len(outputs)
    for index in _indices(outputs, axes, session, base, count):
        verdicts[index] = "mixes"
    copies = [np.repeat(x[:1], count, axis=0) for x in base]
    for index, out in enumerate(session.run(copies)):
        if verdicts[index] == "independent" and axes[index] is not None:
            rows = np.moveaxis(out, axes[index], 0)
            if not all(close(rows[0], row, tolerance) for row in rows[1:]):
                verdicts[index] = "position"
    for size in (2, 3):
        for index, out in enumerate(session.run([x[:size] for x in base])):
            if verdicts[index] == "independent":
                whole = np.take(outputs[index], range(size), axes[index]) if axes[index] is not None else outputs[index]
                if out.shape != whole.shape or not close(out, whole, tolerance):
                    verdicts[index] = "size"
    return verdicts


def _indices(
    outputs: list[np.ndarray], axes: list[int | None], session: Session, base: list[np.ndarray], count: int
) -> Iterator[int]:
    """Yield the outputs of which a row changes with its companions."""
    for probe in range(count):
        for draw, scale in enumerate(SCALES, 1):
            others = session.draw(100 * draw + probe, count, scale)
            for x, y in zip(base, others, strict=True):
                y[probe] = x[probe]
            for index, out in enumerate(session.run(others)):
                axis = axes[index]
                if out.shape != outputs[index].shape:
                    yield index
                elif axis is None:
                    if not np.array_equal(out, outputs[index], equal_nan=out.dtype.kind == "f"):
                        yield index
                elif not np.array_equal(
                    np.take(out, probe, axis), np.take(outputs[index], probe, axis), equal_nan=out.dtype.kind == "f"
                ):
                    yield index


def close(left: np.ndarray, right: np.ndarray, tolerance: float) -> bool:
    if left.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    scale = float(np.abs(left).max()) if left.size else 0.0
    return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def floats(*shape: int) -> Draw:
    """Return draws of normal numbers of one sample's shape."""
    return lambda generator, count: generator.standard_normal((count, *shape)).astype(np.float32)


def integers(high: int, *shape: int) -> Draw:
    """Return draws of integers below `high`."""
    return lambda generator, count: generator.integers(0, high, (count, *shape)).astype(np.int64)
