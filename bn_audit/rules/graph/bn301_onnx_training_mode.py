"""An ONNX graph holds batch norm in training form (operator set 14 and later).

What it checks: the attribute training_mode of every BatchNormalization node, where the node normalises activations.
    An absent attribute means inference.
Why it matters: such a node normalises with the mean and variance of the batch it is given, for good: nothing in a
    runtime switches it off. Runtimes differ besides: some refuse the node, some run it as inference, and some move
    the stored statistics on every call.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.onnx.export(model, (torch.randn(2, 3, 8, 8),), "model.onnx", dynamo=False,
                      training=torch.onnx.TrainingMode.PRESERVE)  # model is in training mode: BN301
Remedy: call model.eval() and export again with training=TrainingMode.EVAL. Setting the attribute to 0 in the file is
    right only if the stored statistics are those of the finished training.
Limits: nodes that normalise weights (weight standardisation) or single samples (an InstanceNorm written as a batch
    norm) are silent, by the walk back from the node or by the proof of the batch flow; where neither decides,
    confidence is medium. Nodes whose statistics the graph computes are BN304, older operator sets BN302.
Sources: ONNX operator specification, BatchNormalization 14 and 15; pytorch/pytorch issue 75252; microsoft/onnxscript
    issue 1262; apple/coremltools issue 1247.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules.graph._training_form import TrainingForm, training_form_findings
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject

FORM = TrainingForm(
    origin=ModeOrigin.ONNX_ATTRIBUTE,
    statement="in training form (training_mode 1), which no runtime switches off",
    noun="batch-norm node",
)


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm states its mode in this way."""
    return any(norm.mode_origin is FORM.origin for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and degree of certainty."""
    yield from training_form_findings(RULE, subject, FORM)


RULE = Rule(
    code="BN301",
    name="onnx-training-mode",
    summary="ONNX batch norm in training form, operator set 14 and later",
    severity=Severity.ERROR,
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() and export again with training=TrainingMode.EVAL; no runtime switches the file over.",
)
