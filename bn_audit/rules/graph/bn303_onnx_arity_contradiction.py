"""The outputs of an ONNX batch norm contradict its mode.

What it checks: whether the number of outputs of each BatchNormalization node is the one that its mode takes in its
    operator set (1 for inference; 3 for training from operator set 14, 5 before), and whether all have names.
Why it matters: the checker of ONNX accepts such nodes and runtimes do not agree on them: one refuses to load the
    model, another ignores the mode, and outputs without a name have crashed a runtime.
Example:
    import onnx
    names = ["x", "scale", "bias", "mean", "var"]
    onnx.helper.make_node("BatchNormalization", names, ["y"], training_mode=1)       # BN303: training takes 3 outputs
    onnx.helper.make_node("BatchNormalization", names, ["y", "m", "v"])              # BN303: inference takes 1
    onnx.helper.make_node("BatchNormalization", names, ["y"])                        # silent
Remedy: export again in evaluation mode. In a file that is meant for inference drop the further outputs and set
    training_mode to 0, after checking the stored statistics.
Limits: says that runtimes may refuse or misread the node, not what it computes: a node in training form is reported
    by BN301 or BN302 as well. Fires for weight standardisation too, since loading fails there in the same way.
Sources: ONNX operator specification, BatchNormalization; measured with ONNX Runtime 1.31; openvinotoolkit/openvino
    issue 37170.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import ONNX_ORIGINS, by_model, counted, norm_counts, surest
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether there is an ONNX node that states a mode."""
    return any(norm.mode_origin in ONNX_ORIGINS for norm in subject.norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model."""
    totals = norm_counts(subject)
    for route, norms in by_model(norm for norm in subject.norms if norm.contradiction).items():
        nodes = counted(
            len(norms), totals[route], ("contradicts", "contradict"), route=route, noun="normalisation node"
        )
        yield RULE.finding(
            f"{nodes} the stated mode ({norms[0].path or norms[0].node or '(root)'}: {norms[0].contradiction})",
            locations=tuple(norm.location for norm in norms),
            evidence={"nodes": len(norms), "per_node": [_described(norm) for norm in norms[:LISTED]]},
            confidence=surest(norms),
        )


def _described(norm: NormLayer) -> EvidenceValue:
    return {"path": norm.path, "node": norm.node, "problem": norm.contradiction}


RULE = Rule(
    code="BN303",
    name="onnx-arity-contradiction",
    summary="outputs of an ONNX batch norm contradict its mode: runtimes refuse or misread it",
    severity=Severity.ERROR,
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Export again in evaluation mode; in a file meant for inference drop the further outputs and set "
    "training_mode to 0 after checking the stored statistics.",
)
