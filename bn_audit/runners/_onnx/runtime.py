"""onnxruntime as a backend.

Source: onnxruntime 1.31 ``onnxruntime_inference_collection.py``; docs/execution-providers/CUDA-ExecutionProvider.md.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bn_audit.containers.onnx_file.tensors import DTYPES
from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.runners._onnx.backend import Forward
from bn_audit.runners._onnx.flattening import flattened
from bn_audit.runners._onnx.loading import NUMPY_TYPES, Model
from bn_audit.runners._onnx.wording import one_line
from bn_audit.subject.run import Array, Batch, Outputs

SILENT = 4
"""Of onnxruntime's levels of logging: fatal errors only."""

_BITS_ONLY = {"bfloat16": 16, "float8_e4m3fn": 17, "float8_e4m3fnuz": 18, "float8_e5m2": 19, "float8_e5m2fnuz": 20}
"""Types that numpy lacks, by their number in ONNX."""

_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
"""No autotuning, which may choose another kernel at each start, and no shortened float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """onnxruntime with its settings.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        rewrites: It may rewrite the graph before it runs it.
    """

    device: str = "cpu"
    threads: int | None = None
    rewrites: bool = False

    @property
    def name(self) -> str:
        """Name, as the report has it."""
        return "onnxruntime"

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions of what takes part, by name."""
        import onnx
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": np.__version__}

    def optimised(self) -> Runtime | None:
        """Return it with every rewriting of the graph switched on, as its users run it."""
        return None if self.rewrites else replace(self, rewrites=True)

    def start(self, model: Model, seed: int) -> Forward:
        """Return the model, loaded afresh, with every random generator at `seed`."""
        import onnxruntime

        onnxruntime.set_default_logger_severity(SILENT)
        onnxruntime.set_seed(seed & 0x7FFFFFFF)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.use_deterministic_compute = True
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if self.rewrites else levels.ORT_DISABLE_ALL
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
            options.inter_op_num_threads = 1
        if model.folder is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.folder))
        types = {tensor.name: tensor.data_type for tensor in model.proto.graph.initializer}
        given = [_to_value(array, types[name]) for name, array in model.weights.items()]
        if given:
            options.add_external_initializers(list(model.weights), given)
        providers = self._providers()
        try:
            session = onnxruntime.InferenceSession(model.proto.SerializeToString(), options, providers=providers)
        except failures() as error:
            kind = RunError if isinstance(error, MemoryError) else UnsupportedRunError
            raise kind(f"cannot load it: {one_line(error)}") from error
        if providers[0] != "CPUExecutionProvider" and session.get_providers()[0] == "CPUExecutionProvider":
            raise UnsupportedRunError(_no_cuda(self.device))
        return _Loaded(session, (options, given))

    def _providers(self) -> list[Any]:
        import onnxruntime

        kind, _, number = self.device.partition(":")
        if kind == "cpu":
            return ["CPUExecutionProvider"]
        if kind != "cuda" or not (number or "0").isdigit():
            raise UnsupportedRunError(f"onnxruntime runs on no device {self.device!r} here: name cpu, cuda or cuda:N")
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise UnsupportedRunError(_no_cuda(self.device))
        return [("CUDAExecutionProvider", {"device_id": int(number or 0), **_CUDA_OPTIONS}), "CPUExecutionProvider"]


def _no_cuda(device: str) -> str:
    return (
        f"onnxruntime as installed here has no CUDA for --device {device}: install onnxruntime-gpu in its place, "
        "with the CUDA and cuDNN that it names, or leave out --device"
    )


def failures() -> tuple[type[BaseException], ...]:
    """Return what onnxruntime raises."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, TypeError, MemoryError)


class _Loaded:
    """A session of onnxruntime, called with a batch."""

    def __init__(self, session: Any, kept: object) -> None:
        self._session = session
        self._kept = kept  # the session uses the memory of the weights
        self._inputs = [value.name for value in session.get_inputs()]
        self._outputs = [value.name for value in session.get_outputs()]
        kinds = [value.type for value in (*session.get_inputs(), *session.get_outputs())]
        self._by_value = any("bfloat16" in kind or "float8" in kind for kind in kinds)

    def __call__(self, batch: Batch) -> Outputs:
        feeds = {name: np.ascontiguousarray(batch[name]) for name in self._inputs if name in batch}
        try:
            if self._by_value:
                values = {name: _to_value(array, _number(array)) for name, array in feeds.items()}
                results = [_from_value(value) for value in self._session.run_with_ort_values(self._outputs, values)]
            else:
                results = self._session.run(self._outputs, feeds)
        except failures() as error:
            raise RunError(one_line(error)) from error
        return flattened(zip(self._outputs, results, strict=True))


def _number(array: Array) -> int:
    """Return ONNX's number of an array's element type."""
    import onnx

    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def _to_value(array: Array, kind: int) -> Any:
    import onnxruntime

    if DTYPES.get(kind) in _BITS_ONLY:
        bits = array.view(NUMPY_TYPES[DTYPES[kind]])
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, kind)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _from_value(value: Any) -> Any:
    """Return a tensor as an array, also of types that numpy lacks, whose bits lie in the value's memory."""
    kind = DTYPES.get(value.element_type()) if value.is_tensor() else None
    if kind not in _BITS_ONLY or value.device_name().lower() != "cpu":
        return value.numpy()
    import ml_dtypes

    shape = tuple(value.shape())
    bits = np.dtype(NUMPY_TYPES[kind])
    size = int(np.prod(shape)) * bits.itemsize
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(data, bits).reshape(shape).view(getattr(ml_dtypes, kind))
