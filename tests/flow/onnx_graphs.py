"""ONNX models for the batch-flow tests, and the truth about them as onnxruntime measures it."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail as RuntimeFail
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument as RuntimeInvalid
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as RuntimeLacks
from torch import nn

from bn_audit.audit import read_subject
from bn_audit.flow.proof import Proof, prove
from bn_audit.subject.graph import AttributeValue, Graph, GraphValue, Node
from bn_audit.subject.tensor import TensorRef

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""Draws that many samples of one input."""

SCALES = (1.0, 1.0, 10.0, 0.1)
"""Companions of other scales trip rules that rank or cap."""
TOLERANCE = 1e-4
"""Relative difference that batch size and position may make by rounding; content must not move a bit."""
ROUNDING = 1e-6
"""Absolute difference of the same kind, for what cancels to about zero."""


DTYPES = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.BOOL: "bool",
}


def converted(model: onnx.ModelProto) -> Graph:
    """Return the graph of a model without functions, made from the library's own objects."""
    return _graph(model.graph, {opset.domain: opset.version for opset in model.opset_import})


def _graph(graph: onnx.GraphProto, versions: dict[str, int]) -> Graph:
    constants = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
    nodes = tuple(
        Node(
            name=node.name or f"{node.op_type}#{index}",
            op=node.op_type,
            domain=node.domain,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={attribute.name: _attribute(attribute, versions) for attribute in node.attribute},
        )
        for index, node in enumerate(graph.node)
    )
    inputs = tuple(_value(value) for value in graph.input if value.name not in constants)
    outputs = tuple(_value(value) for value in graph.output)
    return Graph(dialect="onnx", versions=versions, inputs=inputs, outputs=outputs, constants=constants, nodes=nodes)


def _value(value: onnx.ValueInfoProto) -> GraphValue:
    kind = value.type.tensor_type
    sizes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    return GraphValue(
        name=value.name, dtype=DTYPES.get(kind.elem_type), shape=sizes if kind.HasField("shape") else None
    )


def _tensor(tensor: onnx.TensorProto) -> TensorRef:
    array = onnx.numpy_helper.to_array(tensor)
    return TensorRef(name=tensor.name, dtype=DTYPES[tensor.data_type], shape=array.shape, load=array.tobytes)


def _attribute(attribute: onnx.AttributeProto, versions: dict[str, int]) -> AttributeValue:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    if isinstance(value, onnx.GraphProto):
        return _graph(value, versions)
    return tuple(value) if isinstance(value, list) else value


def proof_of(model: onnx.ModelProto | bytes) -> Proof:
    """Return the proof of a model object, or of a file as the reader of the package gives it."""
    if isinstance(model, onnx.ModelProto):
        return prove(converted(model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        with read_subject(path) as subject:
            return prove(subject.graphs[""])


def exported(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    *,
    dynamo: bool = False,
    opset: int = 17,
    dynamic: bool = True,
    training: bool = False,
) -> bytes:
    """Return the module as one of torch's exporters writes it, with an open batch axis in front of each input.

    Args:
        training: Layers stay in the mode they are in; legacy exporter only.
    """
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
            mode = torch.onnx.TrainingMode.PRESERVE if training else torch.onnx.TrainingMode.EVAL
            torch.onnx.export(
                module,
                inputs,
                buffer,
                dynamo=False,
                opset_version=opset,
                input_names=names,
                dynamic_axes=axes,
                training=mode,
                do_constant_folding=not training,
            )
    return buffer.getvalue()


class Unrunnable(Exception):
    """onnxruntime refuses the model."""


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
    model: onnx.ModelProto | bytes, draws: Sequence[Draw], *, count: int = 11, tolerance: float = TOLERANCE
) -> list[str]:
    """Return the verdict on each output, found by running the model.

    Companions are replaced at one batch size and compared bit by bit; position is judged on a batch of copies, size on
    smaller batches of the same rows. Rows lie along the axis that gives the mildest verdict; an output without such an
    axis mixes if it depends on the input at all.
    """
    try:
        session = session_of(model, draws)
        base = session.draw(0, count)
        session.run(base)
    except (RuntimeFail, RuntimeInvalid, RuntimeLacks) as error:
        raise Unrunnable(str(error)) from error
    runs = [session.run(base)]
    changed = []
    for probe in range(count):
        for draw, scale in enumerate(SCALES, 1):
            others = session.draw(100 * draw + probe, count, scale)
            for x, y in zip(base, others, strict=True):
                y[probe] = x[probe]
            changed.append((probe, session.run(others)))
    copies = session.run([np.repeat(x[:1], count, axis=0) for x in base])
    smaller = {size: session.run([x[:size] for x in base]) for size in (2, 3)}
    verdicts = []
    for index, out in enumerate(runs[0]):
        swaps = [(probe, outs[index]) for probe, outs in changed]
        sizes = {size: outs[index] for size, outs in smaller.items()}
        verdicts.append(_verdict(out, swaps, copies[index], sizes, count, tolerance))
    return verdicts


ORDER = ("independent", "size", "position", "mixes")


def _verdict(
    out: np.ndarray,
    swaps: Sequence[tuple[int, np.ndarray]],
    copies: np.ndarray,
    sizes: dict[int, np.ndarray],
    count: int,
    tolerance: float,
) -> str:
    found = [_verdict_along(split, out, swaps, copies, sizes, count, tolerance) for split in _splits(out.shape, count)]
    if found:
        return min(found, key=ORDER.index)
    changing = {probe for probe, other in swaps if other.shape != out.shape or not same_bits(other, out)}
    if changing:
        # With one sample kept, all others are replaced: what depends on one alone stays when that one is kept.
        return "position" if len(changing) == count - 1 else "mixes"
    return "independent" if all(close(out, other, tolerance) for other in sizes.values()) else "size"


Split = Callable[[np.ndarray, int], np.ndarray | None]


def _splits(shape: tuple[int, ...], count: int) -> list[Split]:
    """Return the ways to bring an axis of as many rows as samples to the front."""
    whole = [axis for axis, size in enumerate(shape) if size == count]
    if whole:
        return [lambda x, n, axis=axis: np.moveaxis(x, axis, 0) if x.shape[axis] == n else None for axis in whole]
    parts = [axis for axis, size in enumerate(shape) if size and size % count == 0]
    outer = [lambda x, n, axis=axis: _apart(x, n, axis, inner=False) for axis in parts]
    return outer + [lambda x, n, axis=axis: _apart(x, n, axis, inner=True) for axis in parts]


def _apart(array: np.ndarray, count: int, axis: int, *, inner: bool) -> np.ndarray | None:
    if array.shape[axis] % count:
        return None
    times = array.shape[axis] // count
    parts = (times, count) if inner else (count, times)
    split = array.reshape((*array.shape[:axis], *parts, *array.shape[axis + 1 :]))
    return np.moveaxis(split, axis + inner, 0)


def _verdict_along(
    split: Split,
    out: np.ndarray,
    swaps: Sequence[tuple[int, np.ndarray]],
    copies: np.ndarray,
    sizes: dict[int, np.ndarray],
    count: int,
    tolerance: float,
) -> str:
    rows = split(out, count)
    assert rows is not None
    for probe, other in swaps:
        moved = split(other, count) if other.shape == out.shape else None
        if moved is None or not same_bits(moved[probe], rows[probe]):
            return "mixes"
    alike = split(copies, count)
    if alike is None or not all(close(alike[0], row, tolerance) for row in alike[1:]):
        return "position"
    for size, other in sizes.items():
        fewer = split(other, size)
        if fewer is None or fewer.shape[1:] != rows.shape[1:] or not close(fewer, rows[:size], tolerance):
            return "size"
    return "independent"


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))


def close(left: np.ndarray, right: np.ndarray, tolerance: float) -> bool:
    if left.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    scale = float(np.abs(left).max()) if left.size else 0.0
    return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance * scale + ROUNDING, equal_nan=True))


def floats(*shape: int) -> Draw:
    """Return draws of normal numbers of one sample's shape."""
    return lambda generator, count: generator.standard_normal((count, *shape)).astype(np.float32)


def integers(high: int, *shape: int) -> Draw:
    """Return draws of integers below `high`."""
    return lambda generator, count: generator.integers(0, high, (count, *shape)).astype(np.int64)
