"""ONNX loss functions, and tables of numbers."""

from __future__ import annotations

import numpy as np

from bn_audit.flow.algebra import as_cells, pointwise
from bn_audit.flow.call import Call, Evaluator, Handler, Result
from bn_audit.flow.cells import Cells, UndecidableError
from bn_audit.flow.constants import Array
from bn_audit.flow.lookup import any_of
from bn_audit.flow.movement import reshaped
from bn_audit.flow.reduction import normalised, reduced


def entropy(call: Call) -> Result:
    """Scores (N, C, ...) and labels (N, ...) give one loss for each, then their mean or sum over all."""
    scores, labels = as_cells(call.operand(0)), as_cells(call.operand(1))
    takes_softmax = call.node.op == "SoftmaxCrossEntropyLoss"
    logs = normalised("LogSoftmax", scores, (1,), kind="exponential") if takes_softmax else scores
    entry = any_of(logs, (1,), (call.seed, "class"))
    each = pointwise(call.seed, [reshaped(entry, labels.shape), labels], selects=False)
    if call.has(2):
        weights = reduced(call.operand(2), (0,), (call.seed, "weights"), keep=False)
        each = pointwise((call.seed, "weighted"), [each, weights])
    how = call.text("reduction", "mean")
    loss: Cells = each
    if how != "none":
        loss = reduced(each, range(each.rank), (call.seed, how), keep=False, kind="other")
    return loss, logs


def window(call: Call, arrays: list[Array]) -> Array:
    """A window of a known length; its values are symmetric sums of cosines."""
    size = int(arrays[0].reshape(-1)[0])
    if not 0 < size <= 1 << 16:
        raise UndecidableError("a window of that length is not computed")
    steps = np.arange(size) * 2 * np.pi / (size if call.integer("periodic", 1) else max(size - 1, 1))
    parts = {
        "HannWindow": (0.5, 0.5, 0.0),
        "HammingWindow": (25 / 46, 21 / 46, 0.0),
        "BlackmanWindow": (0.42, 0.5, 0.08),
    }
    a, b, c = parts[call.node.op]
    return np.asarray(a - b * np.cos(steps) + c * np.cos(2 * steps), np.float32)


TABLE: dict[str, Handler] = {"SoftmaxCrossEntropyLoss": entropy, "NegativeLogLikelihoodLoss": entropy}

EVALUATORS: dict[str, Evaluator] = dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow"), window)
