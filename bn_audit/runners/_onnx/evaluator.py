"""The reference implementation of the onnx package as a backend.

Source: onnx 1.23 ``onnx/reference``. Its batch norms are wrong below operator set 14: those of set 9 blend the batch's
statistics into inference, those of 6 and 7 fail. Such models are converted first, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.runners._onnx.backend import Forward
from bn_audit.runners._onnx.batch_norms import FIRST_BY_ATTRIBUTE, batch_norm_nodes
from bn_audit.runners._onnx.flattening import flattened
from bn_audit.runners._onnx.loading import Model, is_external
from bn_audit.runners._onnx.randomness import random_nodes
from bn_audit.runners._onnx.wording import one_line
from bn_audit.subject.run import Batch, Outputs

FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""What operators written in Python raise where a model or batch does not fit; NotImplementedError is a RuntimeError."""

TARGET_SET = 18
"""The operator set to convert to: the batch norm of today, the reductions of before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """``onnx.reference`` on the CPU, in one thread of Python."""

    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name, as the report has it."""
        return "onnx-reference"

    @property
    def threads(self) -> int | None:
        """Its operators are numpy's, which follow no setting of ours."""
        return None

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions of what takes part, by name."""
        import onnx

        return {"onnx": onnx.__version__, "numpy": np.__version__}

    def optimised(self) -> None:
        """Return None: there is no other way."""

    def start(self, model: Model, seed: int) -> Forward:
        """Return the model, loaded afresh, with every random generator at `seed`."""
        if self.device != "cpu":
            raise UnsupportedRunError("onnx.reference runs on the CPU only: leave out --device")
        from onnx.reference import ReferenceEvaluator

        proto = _with_weights(model, seed)
        try:
            evaluator = ReferenceEvaluator(proto)
        except FAILURES as error:
            raise UnsupportedRunError(f"cannot load it: {one_line(error)}") from error
        return _Loaded(evaluator, [value.name for value in proto.graph.output])


def _with_weights(model: Model, seed: int) -> Any:
    """Return the message with all of its weights, every random node seeded apart from the others."""
    import onnx

    proto = model.edited().proto
    types = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, array in model.weights.items():
        tensor = types[name]
        tensor.raw_data = np.ascontiguousarray(array).tobytes()
        tensor.data_location = 0
        del tensor.external_data[:]
    if any(is_external(tensor) for tensor in proto.graph.initializer):
        raise UnsupportedRunError("onnx.reference is given no external data of this kind")
    for number, node in enumerate(random_nodes(proto.graph)):
        value = (seed * 1009 + number) % (1 << 24)
        node.attribute.append(onnx.helper.make_attribute("seed", value if node.op_type == "Dropout" else float(value)))
    return proto


def modern(model: Model) -> Model:
    """Return a model whose batch norms the reference computes rightly, converted where it needs to be.

    Raises:
        UnsupportedRunError: it cannot be converted.
    """
    if model.opset >= FIRST_BY_ATTRIBUTE or not any(True for _ in batch_norm_nodes(model.proto)):
        return model
    import onnx
    import onnx.version_converter

    whole = _with_weights(model, 0)
    try:
        proto = onnx.version_converter.convert_version(whole, TARGET_SET)
    except FAILURES as error:
        raise UnsupportedRunError(
            f"operator set {model.opset} cannot be converted to one whose batch norms onnx.reference "
            f"computes rightly: {one_line(error)}"
        ) from error
    return Model(name=model.name, proto=proto, weights={}, folder=model.folder)


class _Loaded:
    """An evaluator, called with a batch."""

    def __init__(self, evaluator: Any, outputs: list[str]) -> None:
        self._evaluator = evaluator
        self._outputs = outputs

    def __call__(self, batch: Batch) -> Outputs:
        feeds = {name: batch[name] for name in self._evaluator.input_names if name in batch}
        try:
            with np.errstate(all="ignore"):
                results = self._evaluator.run(None, feeds)
        except FAILURES as error:
            raise RunError(one_line(error)) from error
        return flattened(zip(self._outputs, results, strict=True))
