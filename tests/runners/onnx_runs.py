"""ONNX models for the backends, written by the onnx package or exported, and what onnxruntime itself makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import nn

from bn_audit.runners.onnx_reference import RUNNER as REFERENCE
from bn_audit.runners.onnx_runtime import RUNNER as RUNTIME
from bn_audit.running import Runner, Session
from bn_audit.subject.run import Job

CHANNELS = 3


def values(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tensor_type(name: str, shape: Sequence[int | str | None] | None, kind: int = 1) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None] | None],
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    kinds: Mapping[str, int] | None = None,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return a model of these nodes; the outputs' types are left to be inferred."""
    kinds = kinds or {}
    graph = helper.make_graph(
        nodes,
        "graph",
        [tensor_type(name, shape, kinds.get(name, 1)) for name, shape in inputs.items()],
        [
            tensor_type(name, None, kinds[name]) if name in kinds else helper.make_empty_tensor_value_info(name)
            for name in outputs
        ],
        initializer=[numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def statistics(seed: int = 0, prefix: str = "bn.") -> dict[str, np.ndarray]:
    """Return the tensors of a batch norm that has seen data."""
    return {
        f"{prefix}weight": 1 + 0.1 * values(seed, CHANNELS),
        f"{prefix}bias": values(seed + 1, CHANNELS),
        f"{prefix}running_mean": values(seed + 2, CHANNELS),
        f"{prefix}running_var": np.exp(values(seed + 3, CHANNELS)),
    }


def batch_norm(opset: int, source: str, result: str, *, training: bool, prefix: str = "bn.") -> onnx.NodeProto:
    """Return a batch norm as its operator set writes it."""
    further = [f"{result}.{number}" for number in range(2 if opset >= 14 else 4)] if training else []
    attributes = {"training_mode": 1} if training and opset >= 14 else {}
    names = [f"{prefix}{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    return helper.make_node(
        "BatchNormalization", [source, *names], [result, *further], name=f"{prefix}node", **attributes
    )


def norm_model(opset: int, *, training: bool) -> onnx.ModelProto:
    """Return relu, batch norm, a sum over space."""
    axes = {"axes": [2, 3]} if opset < 18 else {}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        batch_norm(opset, "a", "b", training=training),
        helper.make_node("ReduceMean", ["b"], ["y"], name="last", keepdims=0, **axes),
    ]
    return model(nodes, {"x": ["N", CHANNELS, 4, 4]}, weights=statistics(), opset=opset)


def written(directory: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = directory / name
    path.write_bytes(proto.SerializeToString())
    return path


def exported(
    directory: Path, network: nn.Module, *inputs: torch.Tensor, dynamic: bool = True, mode: str = "PRESERVE"
) -> Path:
    """Return the file that PyTorch's exporter by tracing writes."""
    path = directory / "exported.onnx"
    names = [f"x{number}" for number in range(len(inputs))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            inputs,
            str(path),
            dynamo=False,
            opset_version=17,
            training=getattr(torch.onnx.TrainingMode, mode),
            do_constant_folding=False,
            input_names=names,
            output_names=["y"],
            dynamic_axes={name: {0: "batch"} for name in (*names, "y")} if dynamic else None,
        )
    return path


@contextmanager
def session(path: Path, runner: Runner = RUNTIME, **settings: object) -> Iterator[Session]:
    job = Job(source=str(path), format="onnx", **{"threads": 1, **settings})  # type: ignore[arg-type]
    with runner.open(job) as opened:
        yield opened


def bare(path: Path, *batches: Mapping[str, np.ndarray], optimised: bool = False) -> list[list[np.ndarray]]:
    """Return what onnxruntime gives for batches one after the other in one session."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    opened = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [opened.run(None, dict(batch)) for batch in batches]


def with_row(batch: np.ndarray, index: int, other: np.ndarray) -> np.ndarray:
    """Return a batch with one row of another."""
    changed = batch.copy()
    changed[index] = other[index]
    return changed


__all__ = [
    "CHANNELS",
    "REFERENCE",
    "RUNTIME",
    "bare",
    "batch_norm",
    "exported",
    "model",
    "norm_model",
    "session",
    "statistics",
    "tensor_type",
    "values",
    "with_row",
    "written",
]
