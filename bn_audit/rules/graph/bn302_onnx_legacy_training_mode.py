"""An ONNX graph below operator set 14 holds batch norm in training form, which no attribute of that name shows.

What it checks: BatchNormalization nodes by the rules of their operator set. In 1 to 6 the attribute is_test decides,
    and its absence means training; in 7 to 13 the number of outputs does: one means inference, more mean training.
Why it matters: such a node normalises with the statistics of the batch it is given. A search for training_mode finds
    nothing in these files, and outputs that nobody uses are enough to put a node into training form.
Example:
    import onnx
    names = ["x", "scale", "bias", "mean", "var"]
    onnx.helper.make_node("BatchNormalization", names, ["y"])                      # operator set 9: inference
    onnx.helper.make_node("BatchNormalization", names, ["y", "m", "v", "sm", "sv"])  # operator set 9: BN302
Remedy: call eval() in the framework that wrote the file and export again, to operator set 14 or later where the mode
    is an attribute.
Limits: nodes that normalise weights (weight standardisation) or single samples (an InstanceNorm written as a batch
    norm) are silent, by the walk back from the node or by the proof of the batch flow; where neither decides,
    confidence is medium. A runtime may refuse the node or run it as inference all the same: see BN303.
Sources: ONNX operator changelog, BatchNormalization 1, 6, 7 and 9; onnx/onnx issue 1042.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules.graph._training_form import TrainingForm, training_form_findings
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject

FIRST_BY_OUTPUTS = 7
"""The first operator set in which the number of outputs decides."""


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm states its mode in this way."""
    return any(norm.mode_origin is ModeOrigin.ONNX_LEGACY for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and degree of certainty."""
    opset = _operator_set(subject)
    evidence: dict[str, EvidenceValue] = {"opset": opset}
    form = TrainingForm(
        origin=ModeOrigin.ONNX_LEGACY,
        statement=f"in training form {_reason(opset)}",
        noun="batch-norm node",
        evidence=evidence,
    )
    yield from training_form_findings(RULE, subject, form)


def _operator_set(subject: Subject) -> int | None:
    """Return the one version of the standard operators that all graphs use; None where it is not known."""
    versions = {graph.versions.get("") for graph in subject.graphs.values()}
    return versions.pop() if len(versions) == 1 else None


def _reason(opset: int | None) -> str:
    if opset is None:
        return "by the rules of its operator set (is_test absent, or more than one output)"
    if opset < FIRST_BY_OUTPUTS:
        return f"(is_test not set, which means training in operator set {opset})"
    return f"(more than one output, which means training in operator set {opset})"


RULE = Rule(
    code="BN302",
    name="onnx-legacy-training-mode",
    summary="ONNX batch norm in training form by is_test or by the number of outputs, below operator set 14",
    severity=Severity.ERROR,
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call eval() in the framework that wrote the file and export again, to operator set 14 or later.",
)
